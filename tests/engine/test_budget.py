"""When a helper is tried again, and when no more."""

from __future__ import annotations

import errno
import signal

from virlet.engine.supervision.budget import Budget, Losses
from virlet.proc.process import ExitStatus

FAULT, KILLED, UNKNOWN = ExitStatus(code=1), ExitStatus(signal=signal.SIGKILL), None


def test_a_crash_loop_is_slowed_down_and_ended() -> None:
    losses, pauses = Losses(Budget()), []
    for number in range(6):
        losses.ended(number * 0.1, 0.01, FAULT)
        pauses.append(losses.pause)
    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6]
    assert losses.exhausted


def test_losses_long_ago_are_forgotten() -> None:
    losses = Losses(Budget())
    for number in range(100):
        losses.ended(number * 13.0, 0.5, FAULT)
    assert not losses.exhausted


def test_a_helper_that_has_run_for_a_while_is_in_no_crash_loop() -> None:
    losses = Losses(Budget())
    for number in range(100):
        losses.ended(number * 1.5, 1.2, UNKNOWN)
        assert losses.pause == 0.0
    assert not losses.exhausted


def test_a_hundred_kills_in_a_row_are_nobodys_crash_loop() -> None:
    losses = Losses(Budget())
    for number in range(100):
        losses.ended(number * 0.05, 0.04, KILLED)
        assert losses.pause == 0.0
    assert not losses.exhausted


def test_a_signal_of_its_own_is_a_crash() -> None:
    losses = Losses(Budget())
    for number in range(6):
        losses.ended(number * 0.05, 0.04, ExitStatus(signal=signal.SIGSEGV))
    assert losses.exhausted


def test_kills_without_end_end_as_well() -> None:
    losses = Losses(Budget())
    for number in range(201):
        losses.ended(number * 0.05, 0.04, KILLED)
    assert losses.exhausted


def test_a_host_that_is_out_of_something_is_waited_for() -> None:
    losses = Losses(Budget())
    known = [losses.not_started(float(number), errno.EMFILE) for number in range(50)]
    assert known == [False] + [True] * 49
    assert not losses.exhausted
    assert losses.pause == 5.0
    losses.ended(51.0, 0.5, FAULT)
    assert losses.pause == 0.0


def test_a_program_that_is_not_there_is_given_up_at_last() -> None:
    losses = Losses(Budget())
    for number in range(6):
        assert not losses.not_started(float(number), errno.ENOENT)
    assert losses.exhausted
    losses.clear()
    assert not losses.exhausted
    assert len(losses) == 0
