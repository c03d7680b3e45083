"""Asking a slirp helper what it can do."""

from __future__ import annotations

import ctypes.util
from pathlib import Path

import pytest

from virlet.engine.facts import SLIRP_HELPER, gather
from virlet.engine.probe.cache import Cache
from virlet.engine.probe.slirp import missing, own_helper, probe_slirp_helper
from virlet.errors import InternalError


def program(path: Path, text: str) -> tuple[str, ...]:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return (str(path),)


@pytest.mark.skipif(not ctypes.util.find_library("slirp"), reason="libslirp is not installed")
async def test_our_own_says_its_features_and_its_library() -> None:
    facts = await probe_slirp_helper(own_helper())
    assert facts.may_run
    assert facts.knows("hostfwd")
    assert not facts.knows("teleport")
    assert facts.libslirp


async def test_another_program_with_the_interface_is_taken_at_its_word(tmp_path: Path) -> None:
    facts = await probe_slirp_helper(program(tmp_path / "other", """echo '{"features": ["ipv4"]}'"""))
    assert facts.features == {"ipv4"}


async def test_one_that_says_nothing_of_the_kind_is_an_error_with_its_last_words(tmp_path: Path) -> None:
    with pytest.raises(InternalError, match="what do you want"):
        await probe_slirp_helper(program(tmp_path / "other", "echo what do you want >&2"))
    with pytest.raises(InternalError, match="said nothing"):
        await probe_slirp_helper(program(tmp_path / "mute", "exit 3"))


async def test_the_setting_chooses_another_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = program(tmp_path / "other", """echo '{"features": ["ipv6"]}'""")
    monkeypatch.setenv(SLIRP_HELPER, command[0])
    found = (await gather(Cache(tmp_path / "cache"))).slirp_helper
    assert found is not None
    assert (found.command, found.features) == (command, {"ipv6"})


async def test_one_that_is_not_there_is_a_no_that_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SLIRP_HELPER, "/nowhere/slirp")
    found = (await gather(Cache(tmp_path))).slirp_helper
    assert found is not None
    assert not found.may_run
    assert "/nowhere/slirp" in found.may_run.reason


def test_without_the_library_the_package_is_named() -> None:
    assert "libslirp0" in (missing(("helper",), "libslirp cannot be loaded").may_run.hint or "")
