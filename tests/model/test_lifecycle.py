from __future__ import annotations

import pytest

from virlet.enums import DomainState, ErrorDomain, PausedReason, RunningReason, ShutoffReason
from virlet.errors import OperationInvalid
from virlet.model.lifecycle import ACTIVE, TABLE, Action, advance, is_active, reason_of, require_active, table

OFF, RUN, PAUSED = DomainState.SHUTOFF, DomainState.RUNNING, DomainState.PAUSED


def _told(state: DomainState, *actions: Action) -> tuple[DomainState, list[tuple[int, int]]]:
    """The last state, and all events as libvirt's numbers."""
    events: list[tuple[int, int]] = []
    for action in actions:
        step = advance(state, action)
        state = step.state
        events += [(int(event), int(detail)) for event, detail in step.events]
    return state, events


@pytest.mark.parametrize(
    ("begin", "actions", "end", "events"),
    [
        (DomainState.NOSTATE, [Action.DEFINE], OFF, [(0, 0)]),
        (OFF, [Action.DEFINE, Action.UNDEFINE], DomainState.NOSTATE, [(0, 1), (1, 0)]),
        (OFF, [Action.START], RUN, [(4, 0), (2, 0)]),
        (OFF, [Action.START_PAUSED], PAUSED, [(2, 0), (3, 0)]),
        (RUN, [Action.SUSPEND, Action.RESUME], RUN, [(3, 0), (4, 0)]),
        (RUN, [Action.DESTROY], OFF, [(6, 2), (5, 1)]),
        (PAUSED, [Action.DESTROY], OFF, [(6, 2), (5, 1)]),
        (RUN, [Action.SHUTDOWN, Action.GUEST_POWEROFF, Action.GONE], OFF, [(6, 1), (5, 0)]),
        (RUN, [Action.QEMU_QUIT, Action.GONE], OFF, [(6, 2), (5, 0)]),
        (RUN, [Action.GUEST_POWEROFF, Action.DESTROY], OFF, [(6, 1), (5, 1)]),
        (RUN, [Action.SAVE, Action.RESTORE], RUN, [(6, 2), (5, 4), (2, 2), (4, 2)]),
        (RUN, [Action.GONE], OFF, [(5, 5)]),
        (RUN, [Action.GUEST_PANIC, Action.GONE], OFF, [(8, 0), (5, 2)]),
        (RUN, [Action.WATCHDOG_PAUSE], PAUSED, [(3, 3)]),
        (RUN, [Action.IO_ERROR_PAUSE], PAUSED, [(3, 2)]),
        (RUN, [Action.GUEST_SLEEP, Action.GUEST_WAKEUP], RUN, [(7, 0), (2, 4)]),
        (RUN, [Action.UNDEFINE, Action.RESET, Action.REBOOT], RUN, [(1, 0)]),
    ],
)
def test_events_come_in_libvirts_order(
    begin: DomainState, actions: list[Action], end: DomainState, events: list[tuple[int, int]]
) -> None:
    assert _told(begin, *actions) == (end, events)


def test_reasons_are_libvirts() -> None:
    assert advance(OFF, Action.START).reason is RunningReason.BOOTED
    assert advance(RUN, Action.SUSPEND).reason is PausedReason.USER
    assert advance(RUN, Action.GONE).reason is ShutoffReason.CRASHED
    assert advance(OFF, Action.START_FAILED).reason is ShutoffReason.FAILED
    assert advance(RUN, Action.SHUTDOWN).reason is None


@pytest.mark.parametrize(
    ("state", "action", "says", "domain"),
    [
        (OFF, Action.SUSPEND, "domain is not running", ErrorDomain.DOMAIN),
        (OFF, Action.DESTROY, "domain is not running", ErrorDomain.DOMAIN),
        (OFF, Action.SHUTDOWN, "domain is not running", ErrorDomain.QEMU),
        (RUN, Action.START, "domain is already running", ErrorDomain.QEMU),
        (RUN, Action.RESUME, "domain is already running", ErrorDomain.DOMAIN),
        (DomainState.PMSUSPENDED, Action.SUSPEND, "domain is pmsuspended", ErrorDomain.DOMAIN),
        (DomainState.NOSTATE, Action.START, "domain does not exist", ErrorDomain.QEMU),
    ],
)
def test_refusals_have_libvirts_words(state: DomainState, action: Action, says: str, domain: ErrorDomain) -> None:
    with pytest.raises(OperationInvalid, match=says) as caught:
        advance(state, action)
    assert (caught.value.code, caught.value.domain) == (55, domain)


@pytest.mark.parametrize("action", Action)
def test_every_action_is_a_step_or_a_refusal_in_every_state(action: Action) -> None:
    # Invariant: in each state the table either answers or the refusal is libvirt's error 55.
    for state in DomainState:
        if state in TABLE[action]:
            assert advance(state, action) is TABLE[action][state]
        else:
            with pytest.raises(OperationInvalid):
                advance(state, action)


def test_steps_without_a_reason_stay_where_they_are() -> None:
    for steps in TABLE.values():
        for state, step in steps.items():
            assert step.reason is not None or step.state is state


def test_only_states_with_a_process_are_active() -> None:
    assert frozenset(DomainState) - {OFF, DomainState.NOSTATE} == ACTIVE
    assert is_active(PAUSED)
    require_active(RUN)
    with pytest.raises(OperationInvalid):
        require_active(OFF)


def test_unknown_reasons_stay_numbers() -> None:
    assert reason_of(RUN, 1) is RunningReason.BOOTED
    assert reason_of(RUN, 99) == 99
    assert reason_of(DomainState.PMSUSPENDED, 0) == 0


def test_the_documented_table_has_a_line_for_every_step() -> None:
    assert len(table().splitlines()) == 2 + sum(len(steps) for steps in TABLE.values())
