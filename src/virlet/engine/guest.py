"""A guest: the one mutable class.  Definition, running form, state and everything that belongs to the present run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING
from uuid import UUID

from virlet.engine.api import DomainEvent, DomainRef, HelperEvent
from virlet.engine.events import lifecycle
from virlet.engine.jobs import JobLock
from virlet.engine.status import FORMAT, Phase, Record
from virlet.engine.tasks import Tasks
from virlet.engine.texts import print_xml
from virlet.enums import (
    DomainState,
    ErrorDomain,
    EventId,
    Lifecycle,
    PausedReason,
    ResumedDetail,
    RunningReason,
    ShutoffReason,
    StoppedDetail,
    SuspendedDetail,
    XmlFlags,
)
from virlet.errors import OperationInvalid, SystemFailure
from virlet.model.domain import Domain
from virlet.proc.process import Process
from virlet.qmp.monitor import Monitor, MonitorClosed

if TYPE_CHECKING:
    from virlet.engine.context import Context
    from virlet.engine.helpers import Helper

__all__ = ["Guest", "Run", "StopCause"]

log = logging.getLogger(__name__)


class StopCause(Enum):
    """Why a guest ended: the reason of its state and the detail of its event, as libvirt pairs them."""

    SHUTDOWN = (ShutoffReason.SHUTDOWN, StoppedDetail.SHUTDOWN)
    DESTROYED = (ShutoffReason.DESTROYED, StoppedDetail.DESTROYED)
    PANICKED = (ShutoffReason.CRASHED, StoppedDetail.CRASHED)
    LOST = (ShutoffReason.CRASHED, StoppedDetail.FAILED)
    """QEMU ended without having said that it shuts down."""
    FAILED = (ShutoffReason.FAILED, StoppedDetail.FAILED)
    """It never ran properly."""

    @property
    def reason(self) -> ShutoffReason:
        return self.value[0]

    @property
    def detail(self) -> StoppedDetail:
        return self.value[1]


@dataclass(slots=True, eq=False)
class Run:
    """What exists only while QEMU does."""

    process: Process
    monitor: Monitor
    record: Record
    """The constant parts of the status file; what changes is filled in when it is written."""
    undo: AsyncExitStack
    """Closes monitor and processes' handles, removes files; run when QEMU has ended."""
    helpers: dict[str, Helper] = field(default_factory=dict)
    """By the interface's alias."""
    owner: object = None
    """The connection that an AUTODESTROY guest ends with."""
    cause: StopCause | None = None
    """Why it ends, as soon as that is known."""
    shutdown_seen: bool = False
    """QEMU has said that it shuts down."""
    fake_reboot: bool = False
    """The power button was pressed to reboot: reset it when it has powered off."""
    rebooting: bool = False
    """It has powered off and is being reset: that it stops meanwhile is nobody's business."""
    next_pause: tuple[PausedReason, SuspendedDetail] = (PausedReason.UNKNOWN, SuspendedDetail.PAUSED)
    """What the next STOP of QEMU's means."""
    consoles: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Open consoles by device alias: how to take them from their user."""
    taints: tuple[str, ...] = ()

    @property
    def stopping(self) -> bool:
        """Nothing is repaired any more."""
        return self.cause is not None or not self.process.running


class Guest:
    """A domain of the driver's, from its definition (or transient creation) to its end."""

    __slots__ = (
        "_texts",
        "autostart",
        "balloon_kib",
        "config",
        "context",
        "foreign",
        "id",
        "job",
        "live",
        "name",
        "reason",
        "run",
        "state",
        "stopped",
        "tasks",
        "updated",
        "uuid",
    )

    def __init__(self, context: Context, domain: Domain, *, persistent: bool) -> None:
        self.context = context
        self.name: str = domain.name
        self.uuid: UUID = domain.uuid
        self.config: Domain | None = domain if persistent else None
        """The definition; None for a transient guest."""
        self.live: Domain | None = None
        self.id = -1
        self.state = DomainState.SHUTOFF
        self.reason: int = ShutoffReason.UNKNOWN
        self.autostart = False
        self.updated = False
        """The definition has changed since the present run began."""
        self.foreign = ""
        """Machine id of the other host that this was defined on; empty for our own."""
        self.run: Run | None = None
        self.balloon_kib: int | None = None
        """What the balloon has left the guest, once QEMU has said so."""
        self.job = JobLock(domain.name)
        self.tasks = Tasks()
        self.stopped = asyncio.Event()
        """Set while nothing of it runs."""
        self.stopped.set()
        self._texts: dict[int, str] = {}

    def __repr__(self) -> str:
        return f"<Guest {self.name} {self.state.name}>"

    # What it is

    @property
    def ref(self) -> DomainRef:
        """As replies and events name it now."""
        return DomainRef(self.name, self.uuid, self.id)

    @property
    def active(self) -> bool:
        """QEMU exists."""
        return self.run is not None

    @property
    def persistent(self) -> bool:
        return self.config is not None

    @property
    def domain(self) -> Domain:
        """The running form, or the definition."""
        found = self.live or self.config
        assert found is not None, "a guest that is neither running nor defined is not in the table"
        return found

    def running(self) -> Run:
        """The present run; raises :class:`OperationInvalid` when there is none."""
        if self.run is None:
            raise OperationInvalid("domain is not running", domain=ErrorDomain.DOMAIN)
        return self.run

    def xml(self, flags: int) -> str:
        """The XML as ``virDomainGetXMLDesc`` gives it; printed once and kept until something changes."""
        inactive = bool(flags & XmlFlags.INACTIVE) or self.live is None
        key = (2 if inactive else 0) | (flags & XmlFlags.SECURE)
        text = self._texts.get(key)
        if text is None:
            domain = (self.config or self.live) if inactive else self.live
            assert domain is not None
            text = print_xml(domain, inactive=inactive, secure=bool(flags & XmlFlags.SECURE))
            self._texts[key] = text
        return text

    def changed(self) -> None:
        """Definition or running form has changed: the XML is printed anew."""
        self._texts.clear()

    # What happens to it

    def emit(self, event: Lifecycle, detail: int) -> None:
        """Tell everybody a lifecycle event."""
        self.context.events.emit(lifecycle(self.ref, event, detail))

    def emit_other(self, event: EventId, **args: int | str) -> None:
        """Tell everybody another event; *args* by libvirt's names."""
        self.context.events.emit(DomainEvent(event, self.ref, args))

    def move(self, state: DomainState, reason: int, *, strict: bool = False) -> None:
        """Enter a state; the status file follows (*strict*: or :class:`SystemFailure` is raised)."""
        if (self.state, self.reason) != (state, reason):
            log.info("%s: %s (%d)", self.name, state.name.lower(), reason)
        self.state, self.reason = state, reason
        if strict:
            self._write()
        else:
            self.save()

    def paused(self, reason: PausedReason, detail: SuspendedDetail) -> None:
        """Its CPUs have stopped; nothing when that was known."""
        if self.state is DomainState.PAUSED:
            return
        self.move(DomainState.PAUSED, reason)
        self.emit(Lifecycle.SUSPENDED, detail)

    def resumed(self, reason: RunningReason, detail: ResumedDetail) -> None:
        """Its CPUs run; nothing when that was known."""
        if self.state is DomainState.RUNNING:
            return
        self.move(DomainState.RUNNING, reason)
        self.emit(Lifecycle.RESUMED, detail)

    def own(self, run: Run, live: Domain, number: int) -> None:
        """QEMU is there: from now on everything that it says and its end are ours to handle."""
        self.run, self.live = run, live
        self._number(number)
        self.stopped.clear()
        self.changed()

    def disown(self, cause: StopCause) -> None:
        """Nothing of it runs any more; what it left was removed."""
        self.run = self.live = self.balloon_kib = None
        self._number(-1)
        self.state, self.reason, self.updated = DomainState.SHUTOFF, cause.reason, False
        self.changed()
        self.stopped.set()

    async def let_go(self) -> None:
        """Stop watching; QEMU and its helpers run on for the next daemon."""
        await self.tasks.cancel()
        run, self.run = self.run, None
        if run is None:
            return
        for helper in run.helpers.values():
            helper.forget()
        run.process.close()
        await run.monitor.close()

    def _number(self, number: int) -> None:
        old, self.id = self.id, number
        self.context.guests.number(self, old)

    # What a helper needs of its guest (virlet.engine.helpers.HelperHost)

    @property
    def stopping(self) -> bool:
        """QEMU is ending or has ended."""
        return self.run is None or self.run.stopping

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """Have QEMU run a command; a guest that ends meanwhile is :class:`OperationInvalid`."""
        run = self.running()
        try:
            return await run.monitor.execute(command, arguments)
        except MonitorClosed as error:
            raise OperationInvalid("domain is not running") from error

    def tell(self, alias: str, kind: str, message: str) -> None:
        """Something happened to a helper."""
        log.warning("%s: %s: %s", self.name, kind, message)
        self.context.events.emit(HelperEvent(self.ref, alias, kind, message))

    def save(self) -> None:
        """Write the status file of a running guest; a full disk is reported, and stops nothing."""
        try:
            self._write()
        except SystemFailure as error:
            log.error("%s: its status is not recorded: %s", self.name, error)

    def _write(self) -> None:
        run = self.run
        if run is None or self.live is None:
            return
        self.context.status.save(
            replace(
                run.record,
                format=FORMAT,
                phase=Phase.RUNNING if run.cause is None else Phase.STOPPING,
                cause="" if run.cause is None else run.cause.name,
                persistent=self.persistent,
                autodestroy=run.owner is not None,
                state=int(self.state),
                reason=int(self.reason),
                xml=self.xml(XmlFlags.SECURE),
                qemu=run.process.identity,
                helpers=tuple(helper.record for helper in run.helpers.values()),
            )
        )
