"""Words for libvirt's numbers: states, reasons, event details, amounts."""

from __future__ import annotations

from enum import IntEnum

from virlet import enums
from virlet.enums import DomainState, Lifecycle

__all__ = ["event_words", "reason_word", "size", "state_word"]

STATES = {
    DomainState.NOSTATE: "no state",
    DomainState.RUNNING: "running",
    DomainState.BLOCKED: "blocked",
    DomainState.PAUSED: "paused",
    DomainState.SHUTDOWN: "in shutdown",
    DomainState.SHUTOFF: "shut off",
    DomainState.CRASHED: "crashed",
    DomainState.PMSUSPENDED: "pmsuspended",
}
"""As ``virsh`` says them."""

DETAILS: dict[Lifecycle, type[IntEnum]] = {
    Lifecycle.DEFINED: enums.DefinedDetail,
    Lifecycle.UNDEFINED: enums.UndefinedDetail,
    Lifecycle.STARTED: enums.StartedDetail,
    Lifecycle.SUSPENDED: enums.SuspendedDetail,
    Lifecycle.RESUMED: enums.ResumedDetail,
    Lifecycle.STOPPED: enums.StoppedDetail,
    Lifecycle.SHUTDOWN: enums.ShutdownDetail,
    Lifecycle.CRASHED: enums.CrashedDetail,
}


def state_word(state: DomainState) -> str:
    """``running``, ``shut off``, …"""
    return STATES[state]


def reason_word(reason: int) -> str | None:
    """Why a domain is in its state: ``booted``, ``destroyed``, …; ``None`` when that is not known."""
    if not isinstance(reason, IntEnum) or reason.name == "UNKNOWN":
        return None
    return _lower(reason)


def event_words(event: int, detail: int) -> tuple[str, str]:
    """A lifecycle event and its detail: ``started``, ``booted``; numbers that nobody knows stay numbers."""
    try:
        return _lower(Lifecycle(event)), detail_word(event, detail)
    except ValueError:
        return str(event), str(detail)


def detail_word(event: int, detail: int) -> str:
    """The detail of a lifecycle event: ``booted``, ``destroyed``, …; the number when nobody knows it."""
    try:
        kind = DETAILS.get(Lifecycle(event))
        return _lower(kind(detail)) if kind else str(detail)
    except ValueError:
        return str(detail)


def size(kib: int) -> str:
    """An amount of memory in KiB for people: ``512 MiB``."""
    amount, units = float(kib), ["KiB", "MiB", "GiB", "TiB"]
    while amount >= 1024 and len(units) > 1:
        amount /= 1024
        del units[0]
    return f"{amount:.4g} {units[0]}"


def _lower(member: IntEnum) -> str:
    return member.name.lower().replace("_", " ")
