"""Who asked for which events, and the packets they get."""

from __future__ import annotations

import logging
from collections.abc import Callable
from enum import Enum
from struct import Struct
from typing import Any

from virlet.daemon.session import Session
from virlet.engine.api import DomainEvent, Driver, HelperEvent
from virlet.enums import ErrorDomain, EventId
from virlet.errors import InternalError, InvalidArg
from virlet.wire import remote, types, virlet
from virlet.wire.packet import MESSAGE, OK, packet
from virlet.wire.procedure import Event
from virlet.wire.xdr import EncodeError

__all__ = ["Hub", "Kind", "Registration", "Style"]

log = logging.getLogger(__name__)

_ID = Struct(">i")
EVENT_SERIAL = 1
"""What libvirtd puts into the header of events, whatever the documentation says."""


class Kind(Enum):
    """Families of events, each with ids of its own."""

    DOMAIN = "domain"
    HELPER = "helper"
    NETWORK = "network"
    STORAGE_POOL = "storage pool"
    NODE_DEVICE = "node device"
    SECRET = "secret"


_IDS = {
    Kind.DOMAIN: len(EventId),
    Kind.HELPER: 1,
    Kind.NETWORK: 2,
    Kind.STORAGE_POOL: 2,
    Kind.NODE_DEVICE: 2,
    Kind.SECRET: 2,
}
_OLD_IDS = 16
"""Event ids that clients of before callback ids can name."""


class Style(Enum):
    """How a client wants to be told: with its callback id, or as before there were any."""

    CALLBACK = "callback"
    BY_EVENT = "by event"


class Registration:
    """One wish of one client."""

    __slots__ = ("event", "id", "kind", "session", "style", "target")

    def __init__(
        self, number: int, session: Session, kind: Kind, event: int, target: bytes | str | None, style: Style
    ) -> None:
        self.id = number
        self.session = session
        self.kind = kind
        self.event = event
        self.target = target
        """Only events of this object: a UUID, or the name where objects have none."""
        self.style = style


class Hub:
    """The registrations of all clients; ids rise daemon-wide and are never used twice."""

    def __init__(self, on_event: Callable[[], None]) -> None:
        """*on_event* is called at every event, whoever wanted it."""
        self._on_event = on_event
        self._next = 0
        self._wishes: dict[int, Registration] = {}
        self._sources: dict[int, Callable[[], None]] = {}

    def attach(self, driver: Driver) -> None:
        """Tell registered clients of *driver* what it says."""
        self._sources[id(driver)] = driver.subscribe(lambda event: self._publish(driver, event))

    def detach(self, driver: Driver) -> None:
        """Stop that."""
        self._sources.pop(id(driver))()

    def register(
        self,
        session: Session,
        kind: Kind,
        event: int,
        target: bytes | str | None = None,
        style: Style = Style.CALLBACK,
    ) -> int:
        """Note a wish; its id.

        Raises :class:`InternalError` for an event id that does not exist, :class:`InvalidArg` for the same wish twice.
        """
        known = _OLD_IDS if style is Style.BY_EVENT else _IDS[kind]
        if not 0 <= event < known:
            raise InternalError(f"unsupported event ID {event}", domain=ErrorDomain.RPC)
        for other in self._wishes.values():
            if (other.session, other.kind, other.event, other.target) == (session, kind, event, target):
                raise InvalidArg("event callback already tracked", domain=ErrorDomain.RPC)
        number = self._next
        self._next += 1
        self._wishes[number] = Registration(number, session, kind, event, target, style)
        return number

    def deregister(self, session: Session, kind: Kind, number: int) -> None:
        """Forget the wish *number* of *session*; raises :class:`InternalError` when it has none of that number."""
        wish = self._wishes.get(number)
        if wish is None or wish.session is not session or wish.kind is not kind or wish.style is not Style.CALLBACK:
            raise InternalError(f"{kind.value} event callback {number} not registered", domain=ErrorDomain.RPC)
        del self._wishes[number]

    def deregister_event(self, session: Session, event: int) -> None:
        """Forget the wish of the old style for *event*."""
        for number, wish in self._wishes.items():
            if wish.session is session and wish.style is Style.BY_EVENT and wish.event == event:
                del self._wishes[number]
                return
        raise InternalError(f"domain event {event} not registered", domain=ErrorDomain.RPC)

    def forget(self, session: Session) -> None:
        """The client is gone, and its wishes with it."""
        for number in [number for number, wish in self._wishes.items() if wish.session is session]:
            del self._wishes[number]

    def _publish(self, driver: Driver, event: DomainEvent | HelperEvent) -> None:
        kind, number = (Kind.DOMAIN, int(event.id)) if isinstance(event, DomainEvent) else (Kind.HELPER, 0)
        uuid = event.domain.uuid.bytes
        self._on_event()
        payload = b""
        for wish in list(self._wishes.values()):
            if wish.kind is not kind or wish.event != number or wish.target not in (None, uuid):
                continue
            if not wish.session.is_open or wish.session.driver is not driver:
                continue
            if not payload:
                try:
                    payload = _payload(event)
                except (KeyError, EncodeError):
                    log.exception("a driver's event cannot be sent: %r", event)
                    return
            wish.session.wire.send(_packet(wish, payload))


_MESSAGES: dict[EventId, Event[Any]] = {
    EventId.LIFECYCLE: remote.DOMAIN_EVENT_CALLBACK_LIFECYCLE,
    EventId.REBOOT: remote.DOMAIN_EVENT_CALLBACK_REBOOT,
    EventId.RTC_CHANGE: remote.DOMAIN_EVENT_CALLBACK_RTC_CHANGE,
    EventId.WATCHDOG: remote.DOMAIN_EVENT_CALLBACK_WATCHDOG,
    EventId.IO_ERROR: remote.DOMAIN_EVENT_CALLBACK_IO_ERROR,
    EventId.GRAPHICS: remote.DOMAIN_EVENT_CALLBACK_GRAPHICS,
    EventId.IO_ERROR_REASON: remote.DOMAIN_EVENT_CALLBACK_IO_ERROR_REASON,
    EventId.CONTROL_ERROR: remote.DOMAIN_EVENT_CALLBACK_CONTROL_ERROR,
    EventId.BLOCK_JOB: remote.DOMAIN_EVENT_CALLBACK_BLOCK_JOB,
    EventId.DISK_CHANGE: remote.DOMAIN_EVENT_CALLBACK_DISK_CHANGE,
    EventId.TRAY_CHANGE: remote.DOMAIN_EVENT_CALLBACK_TRAY_CHANGE,
    EventId.PMWAKEUP: remote.DOMAIN_EVENT_CALLBACK_PMWAKEUP,
    EventId.PMSUSPEND: remote.DOMAIN_EVENT_CALLBACK_PMSUSPEND,
    EventId.BALLOON_CHANGE: remote.DOMAIN_EVENT_CALLBACK_BALLOON_CHANGE,
    EventId.PMSUSPEND_DISK: remote.DOMAIN_EVENT_CALLBACK_PMSUSPEND_DISK,
    EventId.DEVICE_REMOVED: remote.DOMAIN_EVENT_CALLBACK_DEVICE_REMOVED,
    EventId.BLOCK_JOB_2: remote.DOMAIN_EVENT_BLOCK_JOB_2,
    EventId.TUNABLE: remote.DOMAIN_EVENT_CALLBACK_TUNABLE,
    EventId.AGENT_LIFECYCLE: remote.DOMAIN_EVENT_CALLBACK_AGENT_LIFECYCLE,
    EventId.DEVICE_ADDED: remote.DOMAIN_EVENT_CALLBACK_DEVICE_ADDED,
    EventId.MIGRATION_ITERATION: remote.DOMAIN_EVENT_CALLBACK_MIGRATION_ITERATION,
    EventId.JOB_COMPLETED: remote.DOMAIN_EVENT_CALLBACK_JOB_COMPLETED,
    EventId.DEVICE_REMOVAL_FAILED: remote.DOMAIN_EVENT_CALLBACK_DEVICE_REMOVAL_FAILED,
    EventId.METADATA_CHANGE: remote.DOMAIN_EVENT_CALLBACK_METADATA_CHANGE,
    EventId.BLOCK_THRESHOLD: remote.DOMAIN_EVENT_BLOCK_THRESHOLD,
    EventId.MEMORY_FAILURE: remote.DOMAIN_EVENT_MEMORY_FAILURE,
    EventId.MEMORY_DEVICE_SIZE_CHANGE: remote.DOMAIN_EVENT_MEMORY_DEVICE_SIZE_CHANGE,
    EventId.NIC_MAC_CHANGE: remote.DOMAIN_EVENT_NIC_MAC_CHANGE,
    EventId.VCPU_REMOVED: remote.DOMAIN_EVENT_VCPU_REMOVED,
    EventId.CHANNEL_LIFECYCLE: remote.DOMAIN_EVENT_CALLBACK_CHANNEL_LIFECYCLE,
}
"""The message of each event; the type checker and a test hold the table against :class:`EventId`."""

_OLD_NUMBERS = {0: 107, 1: 169, 2: 170, 3: 171, 4: 172, 5: 173, 6: 195, 7: 224, 8: 241, 9: 248, 10: 268, 11: 269}
_OLD_NUMBERS |= {12: 270, 13: 276, 14: 292, 15: 311}
_REASONED = (EventId.PMWAKEUP, EventId.PMSUSPEND, EventId.PMSUSPEND_DISK)


def _payload(event: DomainEvent | HelperEvent) -> bytes:
    """The message with callback id 0; everything after its first four bytes is the same for everybody."""
    who = types.Domain(event.domain.name, event.domain.uuid.bytes, event.domain.id)
    if isinstance(event, HelperEvent):
        helper: bytes = virlet.HELPER_EVENT.encode_msg((0, who, event.alias, event.kind, event.message))
        return helper
    encode: Callable[[Any], bytes] = (message := _MESSAGES[event.id]).encode_msg
    fields = message.msg_type._fields
    if fields[-1] != "msg":
        return encode((0, who, *(event.args[name] for name in fields[2:])))
    inner = (who, *(event.args[name] for name in _inner_fields(event.id)))
    if event.id in _REASONED:
        return encode((0, event.args.get("reason", 0), inner))
    return encode((0, inner))


def _inner_fields(event: EventId) -> tuple[str, ...]:
    old = remote.PROGRAM.by_number(_OLD_NUMBERS[event])
    assert isinstance(old, Event)
    fields: tuple[str, ...] = old.msg_type._fields[1:]
    return fields


def _packet(wish: Registration, payload: bytes) -> bytes:
    if wish.kind is Kind.HELPER:
        program, number = virlet.HELPER_EVENT.program, virlet.HELPER_EVENT.number
    elif wish.style is Style.CALLBACK:
        program, number = remote.PROGRAM.id, _MESSAGES[EventId(wish.event)].number
    else:
        # The old messages have neither callback id nor reason.
        skipped = 8 if wish.event in _REASONED else 4
        return packet(remote.PROGRAM.id, 1, _OLD_NUMBERS[wish.event], MESSAGE, EVENT_SERIAL, OK, payload[skipped:])
    return packet(program, 1, number, MESSAGE, EVENT_SERIAL, OK, _ID.pack(wish.id) + payload[4:])
