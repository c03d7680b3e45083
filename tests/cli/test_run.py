"""Whatever is typed, there is an answer: a known exit code, and never a traceback or a bug."""

from __future__ import annotations

import contextlib
import io
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from virlet.cli.catalog import CATALOG
from virlet.cli.exits import Exit
from virlet.cli.main import run
from virlet.cli.root import load

OPTIONS = sorted({option for entry in CATALOG.values() for param in load(entry).params for option in param.opts})
WORDS = st.sampled_from([*CATALOG, *OPTIONS, "web", "-", "--", "", "1", "enable", "/", "\x1b[31m", "\udcff", "é☃"])


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A world without any server."""
    monkeypatch.setenv("VIRLET_URI", "qemu+unix:///session?socket=/nonexistent")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("VIRLET_AUTOSTART", "0")


@given(st.lists(WORDS | st.text(st.characters(exclude_characters="\0"), max_size=6), max_size=5))  # as execve(2)
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_command_line_ends_with_a_known_code_and_in_words(nobody: None, args: list[str]) -> None:
    out, err = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"<domain/>")))
        try:
            code = run([arg for arg in args if arg != "--debug"])
        except SystemExit as end:
            code = int(str(end.code))
    assert code in set(Exit)
    assert "Traceback" not in err.getvalue()
    assert "internal error" not in err.getvalue()
    assert (code == Exit.OK) or err.getvalue()


@given(st.text(st.sampled_from("abvirlet+:/[]?&;=%00socketmode@\0é"), max_size=20) | st.text(max_size=10))
@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_uri_is_answered_in_words(nobody: None, uri: str) -> None:
    err = io.StringIO()
    with contextlib.redirect_stderr(err):
        code = run([f"--connect={uri}", "ls"])
    assert code in (Exit.FAILED, Exit.NOBODY, Exit.UNSUPPORTED)
    assert err.getvalue().startswith("error: ")
    assert "internal error" not in err.getvalue()


@pytest.mark.parametrize("uri", ["//[", "x://[::1", "qemu:///session?socket=%00", "virlet:///" + "x" * 200])
def test_uris_that_python_does_not_like_are_answered_in_words(nobody: None, uri: str) -> None:
    test_any_uri_is_answered_in_words.hypothesis.inner_test(nobody, uri)  # type: ignore[attr-defined]
