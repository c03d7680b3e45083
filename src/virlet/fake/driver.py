"""``test:///default``: domains in memory, with the model, the states and the events of real ones, and no process.

As libvirt's driver of that name it begins with one running domain, ``test``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import replace
from uuid import UUID

from virlet.engine.api import Console, Control, DomainEvent, DomainInfo, DomainRef, EventSink, NodeInfo
from virlet.engine.events import EventHub, lifecycle
from virlet.engine.listing import Filter
from virlet.enums import (
    ConsoleFlags,
    ControlState,
    CreateFlags,
    DomainState,
    ErrorDomain,
    EventId,
    ListDomainsFlags,
    XmlFlags,
)
from virlet.errors import InternalError, NoConnect, NoDomain, OperationFailed, OperationInvalid
from virlet.fake.domain import Echo, FakeDomain
from virlet.model.caps import (
    CapsCell,
    CapsCpu,
    CapsMachine,
    DomainCaps,
    GuestCaps,
    HostCaps,
    capabilities_xml,
    domain_capabilities_xml,
)
from virlet.model.domain import Domain, format_domain, parse_domain
from virlet.model.lifecycle import Action, advance, require_active

__all__ = ["FakeDriver", "open_driver"]

DEFAULT = """<domain type='qemu'>
  <name>test</name>
  <uuid>6695eb01-f6a4-8304-79aa-97f2502e193f</uuid>
  <memory unit='KiB'>8388608</memory>
  <currentMemory unit='KiB'>2097152</currentMemory>
  <vcpu>2</vcpu>
  <os><type arch='x86_64'>hvm</type></os>
  <devices>
    <interface type='user'><mac address='aa:bb:cc:dd:ee:ff'/></interface>
    <serial type='pty'/>
    <console type='pty'/>
  </devices>
</domain>
"""
_HOST = HostCaps("b2a1c0d4-1f0e-4a53-9a61-7c8d0e9f5a11", "x86_64", cpu_vendor="Test", sockets=2, cores=2, threads=2)


class FakeDriver:
    """Domains in memory."""

    def __init__(self) -> None:
        self._domains: dict[UUID, FakeDomain] = {}
        self._events = EventHub()
        self._last_id = 0

    # Node

    def type_name(self) -> str:
        """``TEST``."""
        return "TEST"

    def version(self) -> int:
        """That of libvirt's test driver."""
        return 2

    def hostname(self) -> str:
        """This host's name."""
        return socket.gethostname() or "localhost"

    def node_info(self) -> NodeInfo:
        """A host that is not this one."""
        return NodeInfo("x86_64", 3145728, 8, 1400, 1, 2, 2, 2)

    def capabilities(self) -> str:
        """Capabilities XML of that host."""
        cell = CapsCell(0, 3145728, tuple(CapsCpu(n, n // 4, n % 4 // 2, f"{n & ~1}-{n | 1}") for n in range(8)))
        machines = (CapsMachine("pc-i440fx-7.2", 255, "pc"),)
        return capabilities_xml(replace(_HOST, cells=(cell,)), [GuestCaps("x86_64", "/nowhere/qemu", machines)])

    async def domain_capabilities(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> str:
        """Domain capabilities XML of that host."""
        return domain_capabilities_xml(
            DomainCaps(
                emulator or "/nowhere/qemu", virttype or "qemu", machine or "pc-i440fx-7.2", arch or "x86_64", 255
            )
        )

    # Domains, looked at

    def _find(self, uuid: UUID) -> FakeDomain:
        fake = self._domains.get(uuid)
        if fake is None:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return fake

    def domains(self, flags: ListDomainsFlags) -> Sequence[DomainRef]:
        """Those that *flags* let through."""
        wanted = Filter(flags)
        return [fake.ref for fake in self._domains.values() if wanted(fake)]

    def by_name(self, name: str) -> DomainRef:
        """Raises :class:`NoDomain`."""
        for fake in self._domains.values():
            if fake.name == name:
                return fake.ref
        raise NoDomain(f"no domain with matching name '{name}'")

    def by_uuid(self, uuid: UUID) -> DomainRef:
        """Raises :class:`NoDomain`."""
        return self._find(uuid).ref

    def by_id(self, number: int) -> DomainRef:
        """Raises :class:`NoDomain`."""
        for fake in self._domains.values():
            if fake.id == number != -1:
                return fake.ref
        raise NoDomain(f"no domain with matching id {number}")

    def state(self, uuid: UUID) -> tuple[DomainState, int]:
        """State and reason."""
        fake = self._find(uuid)
        return fake.state, fake.reason

    def info(self, uuid: UUID) -> DomainInfo:
        """State, memory, CPUs; no CPU time, as nothing runs."""
        fake = self._find(uuid)
        domain = fake.domain
        return DomainInfo(fake.state, domain.memory, domain.current_memory or domain.memory, domain.vcpus_at_start, 0)

    def control(self, uuid: UUID) -> Control:
        """Always: nothing in memory takes time."""
        self._find(uuid)
        return Control(ControlState.OK)

    def xml(self, uuid: UUID, flags: int) -> str:
        """``virDomainGetXMLDesc``."""
        fake = self._find(uuid)
        inactive = bool(flags & XmlFlags.INACTIVE) or fake.live is None
        domain = (fake.config or fake.domain) if inactive else fake.domain
        secure = bool(flags & XmlFlags.SECURE)
        return format_domain(domain, inactive=inactive, secure=secure, id=None if inactive else fake.id)

    def os_type(self, uuid: UUID) -> str:
        """``hvm``."""
        return self._find(uuid).domain.os.type or "hvm"

    def is_active(self, uuid: UUID) -> bool:
        """It runs, or is paused."""
        return self._find(uuid).active

    def is_persistent(self, uuid: UUID) -> bool:
        """It has a definition."""
        return self._find(uuid).persistent

    def is_updated(self, uuid: UUID) -> bool:
        """Its definition has changed since it was started."""
        return self._find(uuid).updated

    def messages(self, uuid: UUID) -> Sequence[str]:
        """None."""
        self._find(uuid)
        return ()

    def autostart(self, uuid: UUID) -> bool:
        """It is marked to be started with the daemon."""
        return self._find(uuid).autostart

    # Domains, changed

    def _act(self, fake: FakeDomain, action: Action) -> None:
        step = advance(fake.state, action)
        if step.state is DomainState.SHUTOFF:
            self._stop(fake)
        if step.reason is not None:
            fake.state, fake.reason = step.state, int(step.reason)
        for event, detail in step.events:
            self._events.emit(lifecycle(fake.ref, event, detail))
        if not fake.active and not fake.persistent:
            self._domains.pop(fake.uuid, None)

    def _stop(self, fake: FakeDomain) -> None:
        fake.live, fake.id, fake.owner, fake.updated = None, -1, None, False
        if fake.line is not None:
            fake.line.hang_up()

    def _holder(self, domain: Domain) -> FakeDomain | None:
        for fake in self._domains.values():
            if fake.uuid == domain.uuid and fake.name != domain.name:
                raise OperationFailed(f"domain '{fake.name}' is already defined with uuid {domain.uuid}")
            if fake.name == domain.name and fake.uuid != domain.uuid:
                raise OperationFailed(f"domain '{domain.name}' already exists with uuid {fake.uuid}")
        return self._domains.get(domain.uuid)

    async def set_autostart(self, uuid: UUID, on: bool) -> None:
        """Mark it."""
        fake = self._find(uuid)
        if not fake.persistent:
            raise OperationInvalid("cannot set autostart for transient domain")
        fake.autostart = on

    async def define(self, xml: str, flags: int) -> DomainRef:
        """Define a domain, or define it anew."""
        domain, _ = parse_domain(xml, validate=bool(flags & 1))
        fake = self._holder(domain)
        known = fake is not None and fake.persistent
        if fake is None:
            fake = self._domains[domain.uuid] = FakeDomain(domain, persistent=True)
        fake.config, fake.updated = domain, fake.active
        step = advance(fake.state if known else DomainState.NOSTATE, Action.DEFINE)
        for event, detail in step.events:
            self._events.emit(lifecycle(fake.ref, event, detail))
        return fake.ref

    async def undefine(self, uuid: UUID, flags: int) -> None:
        """Forget the definition; a running domain becomes transient."""
        fake = self._find(uuid)
        if not fake.persistent:
            raise OperationInvalid("cannot undefine transient domain", domain=ErrorDomain.QEMU)
        step = advance(fake.state, Action.UNDEFINE)
        fake.config, fake.autostart = (fake.config if not fake.active else None), False
        if not fake.active:
            del self._domains[uuid]
        for event, detail in step.events:
            self._events.emit(lifecycle(fake.ref, event, detail))

    async def create(self, xml: str, flags: int, owner: object) -> DomainRef:
        """Start a transient domain."""
        domain, _ = parse_domain(xml, validate=bool(flags & CreateFlags.VALIDATE))
        fake = self._holder(domain)
        if fake is not None and fake.active:
            raise OperationInvalid(f"domain is already active as '{fake.name}'", domain=ErrorDomain.DOMAIN)
        if fake is None:
            fake = self._domains[domain.uuid] = FakeDomain(domain, persistent=False)
        self._start(fake, domain, flags, owner)
        return fake.ref

    async def start(self, uuid: UUID, flags: int, owner: object) -> DomainRef:
        """Start a defined domain."""
        fake = self._find(uuid)
        self._start(fake, fake.domain, flags, owner)
        return fake.ref

    def _start(self, fake: FakeDomain, domain: Domain, flags: int, owner: object) -> None:
        action = Action.START_PAUSED if flags & CreateFlags.PAUSED else Action.START
        advance(fake.state, action)
        self._last_id += 1
        fake.live, fake.id = domain, self._last_id
        fake.owner = owner if flags & CreateFlags.AUTODESTROY else None
        self._act(fake, action)

    async def suspend(self, uuid: UUID) -> None:
        """Pause it."""
        self._act(self._find(uuid), Action.SUSPEND)

    async def resume(self, uuid: UUID) -> None:
        """Let it go on."""
        self._act(self._find(uuid), Action.RESUME)

    async def shutdown(self, uuid: UUID, flags: int) -> None:
        """Ask it to power off; it obeys at once."""
        fake = self._find(uuid)
        advance(fake.state, Action.SHUTDOWN)
        self._act(fake, Action.GUEST_POWEROFF)
        self._act(fake, Action.GONE)

    async def reboot(self, uuid: UUID, flags: int) -> None:
        """Reboot it."""
        self._again(uuid, Action.REBOOT)

    async def reset(self, uuid: UUID, flags: int) -> None:
        """Press its reset button."""
        self._again(uuid, Action.RESET)

    def _again(self, uuid: UUID, action: Action) -> None:
        fake = self._find(uuid)
        self._act(fake, action)
        self._events.emit(DomainEvent(EventId.REBOOT, fake.ref, {}))

    async def destroy(self, uuid: UUID, flags: int) -> None:
        """End it."""
        fake = self._find(uuid)
        require_active(fake.state)
        self._act(fake, Action.DESTROY)

    async def owner_gone(self, owner: object) -> None:
        """Destroy what that connection started with AUTODESTROY."""
        for fake in tuple(self._domains.values()):
            if fake.owner is owner and fake.active:
                self._act(fake, Action.DESTROY)

    # Events and streams

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        """Begin to call *sink*; the answer ends it."""
        return self._events.subscribe(sink)

    async def open_console(self, uuid: UUID, device: str | None, flags: int) -> Console:
        """A console that echoes."""
        fake = self._find(uuid)
        require_active(fake.state)
        if device not in (None, "serial0", "console0"):
            raise InternalError(f"cannot find character device {device}", domain=ErrorDomain.QEMU)
        if fake.line is not None:
            if not flags & ConsoleFlags.FORCE:
                raise OperationFailed("Active console session exists for this domain", domain=ErrorDomain.QEMU)
            fake.line.take()
        fake.line = Echo(fake)
        return fake.line

    async def open_channel(self, uuid: UUID, name: str | None, flags: int) -> Console:
        """There is none."""
        require_active(self._find(uuid).state)
        raise InternalError(f"cannot find channel {name or '(null)'}", domain=ErrorDomain.QEMU)

    async def close(self) -> None:
        """Hang up every console."""
        for fake in self._domains.values():
            if fake.line is not None:
                fake.line.close()


async def open_driver(path: str = "/default") -> FakeDriver:
    """The driver of ``test:///default``, each with domains of its own; raises :class:`NoConnect` for other paths."""
    if path != "/default":
        raise NoConnect(f"no connection driver available for test://{path}", hint="use test:///default")
    driver = FakeDriver()
    ref = await driver.define(DEFAULT, 0)
    await driver.start(ref.uuid, 0, None)
    return driver
