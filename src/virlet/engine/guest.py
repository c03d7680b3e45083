"""A guest: the one mutable class.  Definition, running form, state and everything that belongs to the present run."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING
from uuid import UUID

from virlet.engine.api import DomainEvent, DomainRef, HelperEvent
from virlet.engine.events import lifecycle
from virlet.engine.jobs import JobLock
from virlet.engine.status import FORMAT, Phase, Record, Returning
from virlet.engine.tasks import Tasks
from virlet.engine.texts import print_xml
from virlet.enums import (
    DomainState,
    ErrorDomain,
    EventId,
    Lifecycle,
    ShutoffReason,
    XmlFlags,
)
from virlet.errors import OperationFailed, OperationInvalid, SystemFailure
from virlet.model.domain import Domain
from virlet.model.lifecycle import TABLE, Action, Step, advance
from virlet.plan.follow import Uplinks
from virlet.proc.process import Process
from virlet.proc.routes import uplinks
from virlet.qmp.monitor import Monitor, MonitorClosed

if TYPE_CHECKING:
    from virlet.engine.context import Context
    from virlet.engine.supervision.helper import Helper

__all__ = ["Guest", "Peer", "Run"]

log = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class Peer:
    """What QEMU has said of the stream of an interface that is being attached."""

    connected: asyncio.Event = field(default_factory=asyncio.Event)
    lost: bool = False
    """The connection has ended again."""


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
    ending: Action | None = None
    """Why it is being ended, as soon as that is known: DESTROY by a user, GONE by anything else."""
    fake_reboot: bool = False
    """The power button was pressed to reboot: reset it when it has powered off."""
    rebooting: bool = False
    """It has powered off and is being reset: that it stops meanwhile is nobody's business."""
    unheard: bool = False
    """It is being taken over, and what QEMU says is not heard yet."""
    why_stop: Action = Action.STOPPED
    """What the next STOP of QEMU's means."""
    consoles: dict[str, Callable[[], None]] = field(default_factory=dict)
    """Open consoles by device alias: how to take them from their user."""
    taints: tuple[str, ...] = ()
    peers: dict[str, Peer] = field(default_factory=dict)
    """By QEMU's id of the backend, while its interface is being attached."""
    unplugging: dict[str, asyncio.Future[None]] = field(default_factory=dict)
    """By alias: who waits for the guest to give a device back."""
    leaving: set[str] = field(default_factory=set)
    """Aliases of interfaces that their user wants gone, and that the guest has not given back yet."""

    def returning(self, alias: str) -> Returning | None:
        """That interface, if it is to be plugged in anew when the guest has given it back, be it much later."""
        return next((item for item in self.record.returning if item.alias == alias), None)

    def returns(self, item: Returning) -> None:
        """It is to be plugged in anew."""
        self.stays_away(item.alias)
        self.record = replace(self.record, returning=(*self.record.returning, item))

    def stays_away(self, alias: str) -> None:
        """It is not, or it has been."""
        others = tuple(item for item in self.record.returning if item.alias != alias)
        self.record = replace(self.record, returning=others)

    @property
    def reachable(self) -> bool:
        """QEMU can be asked and told something; one that has not answered this daemon yet cannot."""
        return not self.monitor.closed.done()

    @property
    def stopping(self) -> bool:
        """Nothing is repaired any more."""
        return self.ending is not None or not self.process.running


class Guest:
    """A domain of the driver's, from its definition (or transient creation) to its end."""

    __slots__ = (
        "_texts",
        "abandon",
        "autostart",
        "balloon_kib",
        "config",
        "context",
        "foreign",
        "id",
        "job",
        "live",
        "name",
        "origin",
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
        self.origin = domain
        """What it was made of: the inactive form of a transient guest."""
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
        self.abandon: asyncio.Event | None = None
        """Set by who wants a start to give up that waits for somebody else's program; None while none does."""
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
            domain = (self.config or self.origin) if inactive else self.live
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

    def emit_other(self, event: EventId, **args: int | str | None) -> None:
        """Tell everybody another event; *args* by libvirt's names."""
        self.context.events.emit(DomainEvent(event, self.ref, args))

    def move(self, state: DomainState, reason: int) -> None:
        """Enter a state; the status file follows."""
        if (self.state, self.reason) != (state, reason):
            log.info("%s: %s (%d)", self.name, state.name.lower(), reason)
        self.state, self.reason = state, reason
        self.save()

    def act(self, action: Action) -> None:
        """Do what the table of states says of *action*: the new state, the events in libvirt's order.

        Raises :class:`OperationInvalid` where the table refuses it.
        """
        step = advance(self.state, action)
        if step.reason is not None:
            self.move(step.state, step.reason)
        self.announce(step)

    def enter(self, action: Action) -> Step:
        """The first half of :meth:`act`, for who has to write the status file before anybody hears of it."""
        step = advance(self.state, action)
        if step.reason is not None:
            self.state, self.reason = step.state, step.reason
        return step

    def announce(self, step: Step) -> None:
        """Tell the events of *step*."""
        for event, detail in step.events:
            self.emit(event, detail)

    def react(self, action: Action) -> None:
        """:meth:`act` for what QEMU says: what makes no sense in the present state is ignored."""
        if self.state in TABLE[action]:
            self.act(action)

    def own(self, run: Run, live: Domain, number: int) -> None:
        """QEMU is there: from now on everything that it says and its end are ours to handle."""
        self.run, self.live = run, live
        self._number(number)
        self.stopped.clear()
        self.changed()

    def disown(self, action: Action) -> None:
        """Nothing of it runs any more, and what it left was removed: *action* has brought it to its end."""
        self.run = self.live = self.balloon_kib = None
        self.updated = False
        self._number(-1)
        self.changed()
        self.react(action)
        # From a state in which that does not happen (a status file may say anything) the end is the same.
        self.state = DomainState.SHUTOFF
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

    # What a helper needs of its guest (virlet.engine.supervision.helper.HelperHost)

    @property
    def stopping(self) -> bool:
        """QEMU is ending or has ended."""
        return self.run is None or self.run.stopping

    @property
    def unheard(self) -> bool:
        """QEMU may be saying things that nobody will ever hear."""
        return self.run is not None and self.run.unheard

    @property
    def paused(self) -> bool:
        """Its CPUs stand still."""
        return self.state is DomainState.PAUSED

    def link_wanted(self, alias: str) -> bool:
        """Whether the user has not pulled that interface's cable."""
        return self.live is None or all(nic.link_up for nic in self.live.devices.interfaces if nic.alias == alias)

    async def execute(self, command: str, arguments: Mapping[str, object] | None = None) -> object:
        """Have QEMU run a command; a guest that ends meanwhile is :class:`OperationInvalid`."""
        run = self.running()
        try:
            return await run.monitor.execute(command, arguments)
        except MonitorClosed as error:
            if run.process.running and run.monitor.closed.done():
                raise OperationFailed(
                    f"QEMU of '{self.name}' cannot be reached: {run.monitor.closed.result()}",
                    hint="it runs, and can be destroyed",
                ) from error
            raise OperationInvalid("domain is not running") from error

    def tell(self, alias: str, kind: str, message: str) -> None:
        """Something happened to a helper."""
        log.warning("%s: %s: %s", self.name, kind, message)
        self.context.events.emit(HelperEvent(self.ref, alias, kind, message))

    def joined(self, process: Process) -> None:
        """A helper has come to the running guest."""
        if self.run is not None:
            self.context.scopes.join(self, self.run, process.pid)

    def uplinks(self) -> Uplinks | None:
        """The host's default routes and links, as they are now; None where they cannot be read just now."""
        try:
            return uplinks()
        except SystemFailure as error:
            log.warning("%s: %s", self.name, error)
            return None

    def save(self, *, strict: bool = False) -> None:
        """Write the status file of a running guest; a full disk is reported, and only when *strict* an error."""
        try:
            self._write()
        except SystemFailure as error:
            if strict:
                raise
            log.error("%s: its status is not recorded: %s", self.name, error)

    def _write(self) -> None:
        run = self.run
        if run is None or self.live is None:
            return
        self.context.status.save(
            replace(
                run.record,
                format=FORMAT,
                phase=Phase.RUNNING if run.ending is None else Phase.STOPPING,
                cause="" if run.ending is None else run.ending.name,
                persistent=self.persistent,
                autodestroy=run.owner is not None,
                reboots=run.fake_reboot,
                begins_again=run.rebooting,
                leaving=tuple(sorted(run.leaving)),
                state=self.state,
                reason=int(self.reason),
                xml=self.xml(XmlFlags.SECURE),
                qemu=run.process.identity,
                helpers=tuple(helper.record for helper in run.helpers.values()),
            )
        )
