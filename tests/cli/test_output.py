"""The same answers for a terminal, a pipe and a program."""

from __future__ import annotations

import io
import json
import os
import pty
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.cli.output import Output, branches, clean, wants_colour


class Terminal:
    """A stream at a terminal, and what arrives there."""

    def __init__(self) -> None:
        self.far, near = pty.openpty()
        self.stream = os.fdopen(near, "w")

    def seen(self) -> str:
        """All of it: the kernel passes it on in pieces and in its own time; behind the last one is an error."""
        self.stream.close()
        seen = b""
        with suppress(OSError):
            while piece := os.read(self.far, 65_536):
                seen += piece
        return seen.decode()

    def close(self) -> None:
        self.stream.close()
        os.close(self.far)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    made = Terminal()
    yield made
    made.close()


def plain() -> tuple[Output, io.TextIOWrapper]:
    stream = io.TextIOWrapper(io.BytesIO(), "utf-8", write_through=True)
    return Output(False, stream), stream


def written(stream: io.TextIOWrapper) -> str:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue().decode()


def test_a_table_in_a_pipe_is_tabs_and_dashes() -> None:
    output, stream = plain()
    output.table(("A", "B", "C", "D"), [(1, None, "", True), ("x\ty", "two\nlines", False, "\x1b")])
    assert written(stream) == "1\t-\t-\tyes\nx y\ttwo lines\tno\t\\x1b\n"


def test_a_table_on_a_terminal_has_a_heading_and_colours(terminal: Terminal) -> None:
    Output(False, terminal.stream).table(("NAME", "STATE"), [("web", "running (booted)"), ("[red]db[/]", "crashed")])
    seen = terminal.seen()
    assert "NAME" in seen
    assert "\x1b[32mrunning (booted)" in seen
    assert "\x1b[31mcrashed" in seen
    assert "[red]db[/]" in seen  # names are never markup


def test_no_color_is_respected(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    assert wants_colour(terminal.stream)
    monkeypatch.setenv("NO_COLOR", "1")
    assert not wants_colour(terminal.stream)
    Output(False, terminal.stream).table(("STATE",), [("running",)])
    assert "\x1b[32m" not in terminal.seen()


def test_a_log_cannot_drive_the_terminal(terminal: Terminal) -> None:
    Output(False, terminal.stream).write_bytes(b"one\r\n\x1b[31mtwo\x00\xff\n")
    assert terminal.seen() == "one\r\n\\x1b[31mtwo\\x00\ufffd\r\n"


def test_json_is_ascii_where_the_stream_is_not_utf8() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), "latin-1", write_through=True)
    Output(True, stream).document({"name": "é☃"})
    assert json.loads(written(stream)) == {"name": "é☃"}


def test_a_tree_names_every_leaf() -> None:
    output, stream = plain()
    output.tree({"a_b": {"c": [1, {"d": None, "g": 2}], "e": []}, "f": True})
    assert written(stream) == "a b:\n  c:\n    - 1\n    - d: -\n      g: 2\n  e: none\nf: yes\n"


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4))
def test_any_json_is_a_tree_of_single_lines_without_control_characters(value: dict[str, object]) -> None:
    for _, name, text in branches(value):
        assert (name + text).replace("\t", "").isprintable() or clean(name + text) == name + text
        assert "\n" not in name + text


@given(st.text())
def test_clean_text_stays_as_it_is(text: str) -> None:
    assert clean(clean(text)) == clean(text)
    assert not any(ord(char) < 32 and char != "\t" for char in clean(text))
