"""Numbers of libvirt's in words."""

from __future__ import annotations

import pytest

from virlet.cli.words import STATES, event_words, reason_word, size
from virlet.enums import DomainState, Lifecycle, ShutoffReason


def test_every_state_has_a_word() -> None:
    assert set(STATES) == set(DomainState)


def test_a_reason_is_told_when_there_is_one() -> None:
    assert reason_word(ShutoffReason.DESTROYED) == "destroyed"
    assert reason_word(ShutoffReason.UNKNOWN) is None
    assert reason_word(77) is None


def test_events_and_details_that_nobody_knows_stay_numbers() -> None:
    assert event_words(Lifecycle.STOPPED, 1) == ("stopped", "destroyed")
    assert event_words(Lifecycle.STOPPED, 99) == ("stopped", "99")
    assert event_words(Lifecycle.PMSUSPENDED, 1) == ("pmsuspended", "1")
    assert event_words(99, 1) == ("99", "1")


@pytest.mark.parametrize(
    ("kib", "text"), [(0, "0 KiB"), (1, "1 KiB"), (131_072, "128 MiB"), (1_572_864, "1.5 GiB"), (1 << 40, "1024 TiB")]
)
def test_memory_is_told_in_the_unit_that_fits(kib: int, text: str) -> None:
    assert size(kib) == text
