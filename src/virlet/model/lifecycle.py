"""What can be done to a domain in which state, and what becomes of it: one table to run, to refuse and to document.

States, reasons and events are libvirt's, events in libvirt's order.  ``NOSTATE`` stands for a domain that does not
exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Final, TypeAlias

from virlet.enums import (
    CrashedDetail,
    CrashedReason,
    DefinedDetail,
    DomainState,
    ErrorDomain,
    Lifecycle,
    PausedReason,
    PmSuspendedDetail,
    ResumedDetail,
    RunningReason,
    ShutdownDetail,
    ShutdownReason,
    ShutoffReason,
    StartedDetail,
    StoppedDetail,
    SuspendedDetail,
    UndefinedDetail,
)
from virlet.errors import OperationInvalid

__all__ = ["ACTIVE", "TABLE", "Action", "Event", "Step", "advance", "is_active", "reason_of", "require_active", "table"]

Event: TypeAlias = tuple[Lifecycle, IntEnum]
"""A lifecycle event and its detail."""


class Action(StrEnum):
    """What is asked for, and what happens by itself."""

    DEFINE = "define"
    UNDEFINE = "undefine"
    START = "start"
    START_PAUSED = "start paused"
    START_FAILED = "start failed"
    SUSPEND = "suspend"
    RESUME = "resume"
    SHUTDOWN = "shutdown"
    REBOOT = "reboot"
    RESET = "reset"
    DESTROY = "destroy"
    SAVE = "save"
    RESTORE = "restore"
    GUEST_POWEROFF = "guest powers off"
    QEMU_QUIT = "QEMU is told to quit"
    GONE = "QEMU is gone"
    GUEST_PANIC = "guest panics"
    STOPPED = "QEMU pauses by itself"
    CONTINUED = "QEMU continues by itself"
    RESTARTED = "reset after power-off or crash"
    WATCHDOG_PAUSE = "watchdog pauses"
    IO_ERROR_PAUSE = "I/O error pauses"
    GUEST_SLEEP = "guest sleeps"
    GUEST_WAKEUP = "guest wakes up"


@dataclass(frozen=True, slots=True)
class Step:
    """What an action does in one state."""

    state: DomainState
    """The state afterwards."""
    reason: IntEnum | None = None
    """Why, in the numbers of that state; None leaves state and reason as they are."""
    events: tuple[Event, ...] = ()
    """What is told, in order."""


_ABSENT, _OFF, _RUN, _PAUSED, _DOWN, _CRASHED, _ASLEEP = (
    DomainState.NOSTATE,
    DomainState.SHUTOFF,
    DomainState.RUNNING,
    DomainState.PAUSED,
    DomainState.SHUTDOWN,
    DomainState.CRASHED,
    DomainState.PMSUSPENDED,
)
ACTIVE: Final = frozenset({_RUN, _PAUSED, _DOWN, _CRASHED, _ASLEEP, DomainState.BLOCKED})
"""States in which a process stands behind the domain."""


def _to(state: DomainState, reason: IntEnum, *events: Event) -> Step:
    return Step(state, reason, events)


def _stay(state: DomainState, *events: Event) -> Step:
    return Step(state, None, events)


def _same(*states: DomainState, events: tuple[Event, ...] = ()) -> dict[DomainState, Step]:
    return {state: _stay(state, *events) for state in states}


_STARTED: Event = (Lifecycle.STARTED, StartedDetail.BOOTED)
_PAUSE: Event = (Lifecycle.SUSPENDED, SuspendedDetail.PAUSED)
_GO: Event = (Lifecycle.RESUMED, ResumedDetail.UNPAUSED)
_HOST: Event = (Lifecycle.SHUTDOWN, ShutdownDetail.HOST)
_UPDATED: Event = (Lifecycle.DEFINED, DefinedDetail.UPDATED)
_REMOVED: Event = (Lifecycle.UNDEFINED, UndefinedDetail.REMOVED)

_DESTROYED = _to(_OFF, ShutoffReason.DESTROYED, _HOST, (Lifecycle.STOPPED, StoppedDetail.DESTROYED))
# A guest that powers off has told its SHUTDOWN already; ending it then tells no second one.
_DESTROYED_LATE = _to(_OFF, ShutoffReason.DESTROYED, (Lifecycle.STOPPED, StoppedDetail.DESTROYED))
_SAVED = _to(_OFF, ShutoffReason.SAVED, _HOST, (Lifecycle.STOPPED, StoppedDetail.SAVED))
# libvirt: reason "crashed", but the event's detail is "failed".
_LOST = _to(_OFF, ShutoffReason.CRASHED, (Lifecycle.STOPPED, StoppedDetail.FAILED))
_ENDED = _to(_OFF, ShutoffReason.SHUTDOWN, (Lifecycle.STOPPED, StoppedDetail.SHUTDOWN))
_PANICKED = _to(_CRASHED, CrashedReason.PANICKED, (Lifecycle.CRASHED, CrashedDetail.PANICKED))

TABLE: Final[dict[Action, dict[DomainState, Step]]] = {
    Action.DEFINE: {
        _ABSENT: _to(_OFF, ShutoffReason.UNKNOWN, (Lifecycle.DEFINED, DefinedDetail.ADDED)),
        _OFF: _stay(_OFF, _UPDATED),
        **_same(_RUN, _PAUSED, _DOWN, _CRASHED, _ASLEEP, events=(_UPDATED,)),
    },
    Action.UNDEFINE: {
        _OFF: Step(_ABSENT, ShutoffReason.UNKNOWN, (_REMOVED,)),
        # A running domain becomes transient.
        **_same(_RUN, _PAUSED, _DOWN, _CRASHED, _ASLEEP, events=(_REMOVED,)),
    },
    Action.START: {_OFF: _to(_RUN, RunningReason.BOOTED, _GO, _STARTED)},
    Action.START_PAUSED: {_OFF: _to(_PAUSED, PausedReason.USER, _STARTED, _PAUSE)},
    Action.START_FAILED: {_OFF: _to(_OFF, ShutoffReason.FAILED)},
    Action.SUSPEND: {_RUN: _to(_PAUSED, PausedReason.USER, _PAUSE), **_same(_PAUSED)},
    Action.RESUME: {_PAUSED: _to(_RUN, RunningReason.UNPAUSED, _GO)},
    Action.SHUTDOWN: _same(_RUN, _PAUSED, _DOWN, _CRASHED, _ASLEEP),
    Action.REBOOT: _same(_RUN, _PAUSED, _CRASHED),
    Action.RESET: _same(_RUN, _PAUSED, _CRASHED),
    Action.DESTROY: {
        _RUN: _DESTROYED,
        _PAUSED: _DESTROYED,
        _DOWN: _DESTROYED_LATE,
        _CRASHED: _DESTROYED,
        _ASLEEP: _DESTROYED,
    },
    Action.SAVE: {_RUN: _SAVED, _PAUSED: _SAVED},
    Action.RESTORE: {
        _OFF: _to(
            _RUN,
            RunningReason.RESTORED,
            (Lifecycle.STARTED, StartedDetail.RESTORED),
            (Lifecycle.RESUMED, ResumedDetail.FROM_SNAPSHOT),
        )
    },
    Action.GUEST_POWEROFF: {
        state: _to(_DOWN, ShutdownReason.UNKNOWN, (Lifecycle.SHUTDOWN, ShutdownDetail.GUEST))
        for state in (_RUN, _PAUSED, _CRASHED)
    },
    Action.QEMU_QUIT: {
        state: _to(_DOWN, ShutdownReason.UNKNOWN, _HOST) for state in (_RUN, _PAUSED, _CRASHED, _ASLEEP)
    },
    Action.GONE: {
        _DOWN: _ENDED,
        _RUN: _LOST,
        _PAUSED: _LOST,
        _ASLEEP: _LOST,
        _CRASHED: _to(_OFF, ShutoffReason.CRASHED, (Lifecycle.STOPPED, StoppedDetail.CRASHED)),
    },
    Action.GUEST_PANIC: {_RUN: _PANICKED, _PAUSED: _PANICKED},
    Action.STOPPED: {_RUN: _to(_PAUSED, PausedReason.UNKNOWN, _PAUSE), **_same(_PAUSED, _DOWN, _CRASHED)},
    Action.CONTINUED: {_PAUSED: _to(_RUN, RunningReason.UNPAUSED, _GO), **_same(_RUN)},
    # In the same QEMU: a reboot by power button, on_poweroff and on_crash "restart".
    Action.RESTARTED: {
        _RUN: _to(_RUN, RunningReason.BOOTED, _GO),
        _PAUSED: _to(_RUN, RunningReason.BOOTED, _GO),
        _CRASHED: _to(_RUN, RunningReason.CRASHED, _GO),
    },
    Action.WATCHDOG_PAUSE: {
        _RUN: _to(_PAUSED, PausedReason.WATCHDOG, (Lifecycle.SUSPENDED, SuspendedDetail.WATCHDOG)),
        **_same(_PAUSED),
    },
    Action.IO_ERROR_PAUSE: {
        _RUN: _to(_PAUSED, PausedReason.IOERROR, (Lifecycle.SUSPENDED, SuspendedDetail.IOERROR)),
        **_same(_PAUSED),
    },
    Action.GUEST_SLEEP: {
        _RUN: Step(_ASLEEP, PausedReason.UNKNOWN, ((Lifecycle.PMSUSPENDED, PmSuspendedDetail.MEMORY),))
    },
    Action.GUEST_WAKEUP: {
        _ASLEEP: _to(_RUN, RunningReason.WAKEUP, (Lifecycle.STARTED, StartedDetail.WAKEUP)),
    },
}
"""Action, then state, to the step; a state that is not there refuses the action."""

_STARTS = frozenset({Action.START, Action.START_PAUSED, Action.RESTORE})
# libvirt's qemu driver refuses a shutdown in its own name, everything else in the domain's.
_BY_DRIVER = frozenset({Action.SHUTDOWN, *_STARTS})


def is_active(state: DomainState) -> bool:
    """Whether a process stands behind the domain."""
    return state in ACTIVE


def require_active(state: DomainState) -> None:
    """Raise :class:`OperationInvalid` unless the domain runs (or is paused)."""
    if state not in ACTIVE:
        raise OperationInvalid("domain is not running", domain=ErrorDomain.DOMAIN)


def advance(state: DomainState, action: Action) -> Step:
    """What *action* does in *state*; raises :class:`OperationInvalid` with libvirt's words where it is refused."""
    step = TABLE[action].get(state)
    if step is None:
        domain = ErrorDomain.QEMU if action in _BY_DRIVER else ErrorDomain.DOMAIN
        raise OperationInvalid(_refusal(state, action), domain=domain)
    return step


def _refusal(state: DomainState, action: Action) -> str:
    if state is _ABSENT:
        return "domain does not exist"
    if action in _STARTS or (action is Action.RESUME and state is _RUN):
        return "domain is already running"
    if state not in ACTIVE:
        return "domain is not running"
    names = {_ASLEEP: "pmsuspended", _DOWN: "being shut down", _CRASHED: "crashed", _PAUSED: "paused"}
    return f"domain is {names.get(state, state.name.lower())}"


def reason_of(state: DomainState, number: int) -> IntEnum | int:
    """The reason *number* in the words of *state*; numbers that nobody knows stay numbers."""
    kinds: dict[DomainState, type[IntEnum]] = {
        _RUN: RunningReason,
        _PAUSED: PausedReason,
        _DOWN: ShutdownReason,
        _OFF: ShutoffReason,
        _CRASHED: CrashedReason,
    }
    kind = kinds.get(state)
    return kind(number) if kind is not None and number in kind._value2member_map_ else number


def table() -> str:
    """The table in Markdown, for the documentation."""
    lines = ["| action | in state | becomes | events |", "|---|---|---|---|"]
    for action, steps in TABLE.items():
        for state, step in steps.items():
            after = "unchanged" if step.reason is None else _words(step.state)
            if step.reason is not None and step.state is not _ABSENT:
                after += f" ({_words(step.reason)})"
            told = ", ".join(f"{_words(event)} {_words(detail)}" for event, detail in step.events) or "–"
            lines.append(f"| {action} | {_words(state)} | {after} | {told} |")
    return "\n".join(lines) + "\n"


def _words(number: IntEnum) -> str:
    return "absent" if number is _ABSENT else number.name.lower().replace("_", " ")
