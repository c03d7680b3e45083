"""What the client's methods give back.

Tuples with names: frozen like the rest of virlet's values, and made at import in a tenth of a dataclass's time, which
matters to a command that lives for 100 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, NamedTuple

from virlet.enums import (
    CrashedReason,
    DomainState,
    EventId,
    PausedReason,
    RunningReason,
    ShutdownReason,
    ShutoffReason,
)
from virlet.wire import types

__all__ = ["HELPER", "DomainInfo", "Event", "Json", "LogChunk", "NodeInfo", "State", "bare_uuid", "uuid_text"]

Json = dict[str, Any]
"""A JSON object; docs/ says which keys each call has."""

HELPER = "helper"
"""The kind of events of virlet's own, about the processes beside a guest."""

_REASONS: dict[int, type[IntEnum]] = {
    DomainState.RUNNING: RunningReason,
    DomainState.PAUSED: PausedReason,
    DomainState.SHUTDOWN: ShutdownReason,
    DomainState.SHUTOFF: ShutoffReason,
    DomainState.CRASHED: CrashedReason,
}


class State(NamedTuple):
    """What a domain does, and why."""

    state: DomainState
    reason: IntEnum | int
    """A member of the state's own enum of reasons; a bare number where libvirt has no more than that."""

    @classmethod
    def of(cls, state: int, reason: int) -> State:
        """From the wire's numbers; numbers that nobody knows mean "no state" and stay bare."""
        known = DomainState(state) if state in DomainState._value2member_map_ else DomainState.NOSTATE
        names = _REASONS.get(state)
        return cls(known, names(reason) if names and reason in names._value2member_map_ else reason)


class DomainInfo(NamedTuple):
    """A domain at a glance."""

    state: DomainState
    max_memory: int
    """KiB."""
    memory: int
    """KiB."""
    vcpus: int
    cpu_time: int
    """Nanoseconds."""


class NodeInfo(NamedTuple):
    """The host at a glance."""

    model: str
    memory: int
    """KiB."""
    cpus: int
    mhz: int
    nodes: int
    sockets: int
    cores: int
    threads: int


class LogChunk(NamedTuple):
    """A piece of a log."""

    data: bytes
    next_offset: int
    """Where the next piece begins."""
    eof: bool
    """Whether that was all, for now."""


class Event(NamedTuple):
    """Something happened to a domain."""

    kind: str
    """``lifecycle``, ``reboot``, …: an :class:`~virlet.enums.EventId` in small letters with dashes, or ``helper``."""
    name: str
    """Of the domain."""
    uuid: str
    id: int | None
    """None when it does not run."""
    values: Mapping[str, object]
    """What libvirt tells beyond that, by its own names (``event`` and ``detail`` of a lifecycle event)."""

    @classmethod
    def of(cls, kind: str, msg: Any) -> Event | None:
        """Flatten an event message, as some are structs in structs; None when it is not about a domain."""
        fields: dict[str, object] = dict(msg._asdict())
        inner = fields.pop("msg", None)
        if isinstance(inner, tuple):
            fields |= inner._asdict()  # type: ignore[attr-defined]  # all our tuples have names
        fields.pop("callbackID", None)
        dom = fields.pop("dom", None)
        if not isinstance(dom, types.Domain):
            return None
        return cls(kind, dom.name, uuid_text(dom.uuid), dom.id if dom.id >= 0 else None, fields)


def kind_name(event: EventId) -> str:
    """``EventId.BLOCK_JOB`` is ``block-job``."""
    return event.name.lower().replace("_", "-")


def uuid_text(raw: bytes) -> str:
    """16 bytes as ``xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx``."""
    text = raw.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def bare_uuid(text: str) -> bytes | None:
    """The 16 bytes of a UUID in any usual spelling; None when it is none."""
    digits = text.replace("-", "")
    try:
        raw = bytes.fromhex(digits)
    except ValueError:
        return None
    return raw if len(raw) == 16 and len(digits) == 32 else None
