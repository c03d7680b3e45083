"""A quiet guest is made to speak by its cable, and left alone when it has."""

from __future__ import annotations

from pathlib import Path

import pytest

from virlet.engine.supervision import coax as module
from virlet.engine.supervision.coax import coax, heard, silent

SAYS = b"New guest MAC address observed: 52:54:00:12:34:56\n"


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "ROUNDS", ((0, 0.5), (0, 1.0), (0, 2.0)))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "net0-passt.log"
    path.write_bytes(SAYS)
    return path


def test_only_what_the_present_process_says_counts(log: Path) -> None:
    begin = log.stat().st_size
    assert not heard(log, begin)
    log.write_bytes(log.read_bytes() + b"MAC:\n" + SAYS)
    assert heard(log, begin)


def test_a_rotated_log_is_read_from_its_beginning_and_a_missing_one_says_nothing(log: Path) -> None:
    assert heard(log, 10_000)
    log.unlink()
    assert not heard(log, 0)


async def test_a_guest_that_has_spoken_keeps_its_cable(log: Path) -> None:
    outs: list[float] = []

    async def bounce(out: float) -> None:
        outs.append(out)

    assert await coax(log, 0, bounce, lambda: True)
    assert outs == []


async def test_the_cable_is_out_longer_each_time_until_the_guest_speaks(log: Path) -> None:
    outs: list[float] = []

    async def bounce(out: float) -> None:
        outs.append(out)
        if len(outs) == 2:
            log.write_bytes(log.read_bytes() + SAYS)

    log.write_bytes(SAYS + b"MAC:\n")
    assert await coax(log, len(SAYS), bounce, lambda: True)
    assert outs == [0.5, 1.0]


async def test_a_guest_that_stays_quiet_is_left_alone_in_the_end(log: Path) -> None:
    outs: list[float] = []

    async def bounce(out: float) -> None:
        outs.append(out)

    begin = len(SAYS)
    log.write_bytes(SAYS + b"MAC:\n    host: 9a:55:9a:55:9a:55\n")
    assert not await coax(log, begin, bounce, lambda: True)
    assert len(outs) == 3


async def test_a_log_that_nobody_writes_is_no_witness_against_the_guest(log: Path) -> None:
    async def bounce(_out: float) -> None:
        raise AssertionError("its cable was touched")

    assert not await coax(log, len(SAYS), bounce, lambda: True)
    log.unlink()
    assert not await coax(log, 0, bounce, lambda: True)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("passt", "--foreground", "--quiet"), True),
        (("passt", "--foreground", "-q"), True),
        (("passt", "--log-file=/tmp/x"), True),
        (("passt", "--foreground", "--stderr", "--fd", 5), False),
    ],
)
def test_a_passt_that_was_told_to_be_quiet_is_known_by_its_words(words: tuple[object, ...], expected: bool) -> None:
    assert silent(words) is expected


async def test_nothing_is_done_to_a_guest_that_is_paused_or_gone(log: Path) -> None:
    async def bounce(_out: float) -> None:
        raise AssertionError("its cable was touched")

    assert not await coax(log, len(SAYS), bounce, lambda: False)
