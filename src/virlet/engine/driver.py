"""The driver of ``qemu:///session``: the small protocols of :mod:`virlet.engine.api`, over guests of one user."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from uuid import UUID

from virlet.engine import console, devices, inspect, offer, power
from virlet.engine.api import Console, Control, DomainInfo, DomainRef, EventSink, NodeInfo
from virlet.engine.context import Context
from virlet.engine.control import control
from virlet.engine.define import define, holder_of, read_definition, store, undefine
from virlet.engine.guest import Guest
from virlet.engine.listing import Filter
from virlet.engine.metadata import set_metadata
from virlet.engine.start import start
from virlet.engine.stats import cpu_time, statistics
from virlet.engine.supervision.follow import Follower
from virlet.enums import (
    Affect,
    CreateFlags,
    DefineFlags,
    DomainState,
    ErrorDomain,
    ListDomainsFlags,
    StatsTypes,
    UndefineFlags,
)
from virlet.errors import InvalidArg, OperationInvalid
from virlet.model.domain import Domain
from virlet.model.metadata import MetadataChange
from virlet.proc.threads import aside

__all__ = ["QemuDriver"]

_TAINTS = {"custom-argv": "custom configuration parameters used"}
"""libvirt's words for the reasons of a taint."""


class QemuDriver:
    """Guests of one user on this host."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._follower = Follower(context)
        self._starts: dict[asyncio.Task[object], object] = {}
        """Who is at work on a start, and the client that its guest ends with."""

    # Node

    def type_name(self) -> str:
        """``QEMU``."""
        return "QEMU"

    def version(self) -> int:
        """That of the host architecture's QEMU, 0 without one."""
        qemu = self._context.facts.emulator(self._context.facts.host.arch)
        return qemu.version_number if qemu is not None else 0

    def hostname(self) -> str:
        """The host's name."""
        return self._context.facts.host.hostname or "localhost"

    def node_info(self) -> NodeInfo:
        """The host's CPUs and memory."""
        host = self._context.facts.host
        top = host.topology
        return NodeInfo(
            host.arch, host.memory_kib, host.cpus, host.cpu_mhz, top.nodes, top.sockets, top.cores, top.threads
        )

    def capabilities(self) -> str:
        """Capabilities XML."""
        return offer.capabilities(self._context.facts)

    async def domain_capabilities(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> str:
        """Domain capabilities XML."""
        context = self._context
        await context.know(emulator, arch)
        return offer.domain_capabilities(context.facts, context.registry, emulator, arch, machine, virttype)

    # Domains, as far as they are only looked at

    def _find(self, uuid: UUID) -> Guest:
        return self._context.guests.find(uuid)

    def domains(self, flags: ListDomainsFlags) -> Sequence[DomainRef]:
        """Those that *flags* let through."""
        wanted = Filter(flags)
        return [guest.ref for guest in self._context.guests if wanted(guest)]

    def by_name(self, name: str) -> DomainRef:
        """Raises :class:`NoDomain`."""
        return self._context.guests.find_name(name).ref

    def by_uuid(self, uuid: UUID) -> DomainRef:
        """Raises :class:`NoDomain`."""
        return self._find(uuid).ref

    def by_id(self, number: int) -> DomainRef:
        """Raises :class:`NoDomain`."""
        return self._context.guests.find_id(number).ref

    def state(self, uuid: UUID) -> tuple[DomainState, int]:
        """State and reason."""
        guest = self._find(uuid)
        return guest.state, int(guest.reason)

    def info(self, uuid: UUID) -> DomainInfo:
        """State, memory, CPUs, CPU time."""
        guest = self._find(uuid)
        domain = guest.domain
        memory = guest.balloon_kib if guest.balloon_kib is not None else domain.current_memory or domain.memory
        used = sum(cpu_time(guest.run.process.pid)) if guest.run is not None else 0
        return DomainInfo(guest.state, domain.memory, memory, domain.vcpus_at_start, used)

    def control(self, uuid: UUID) -> Control:
        """Whether it can be asked for something now."""
        return control(self._find(uuid))

    def xml(self, uuid: UUID, flags: int) -> str:
        """``virDomainGetXMLDesc``."""
        return self._find(uuid).xml(flags)

    def os_type(self, uuid: UUID) -> str:
        """``hvm``."""
        return self._find(uuid).domain.os.type or "hvm"

    def is_guest(self, pid: int) -> bool:
        """Whether that process is a guest's QEMU or one of its helpers."""
        runs = [guest.run for guest in self._context.guests if guest.run is not None]
        if any(run.process.pid == pid for run in runs):
            return True
        helpers = (helper.process for run in runs for helper in run.helpers.values())
        return any(process is not None and process.pid == pid for process in helpers)

    def is_active(self, uuid: UUID) -> bool:
        """QEMU exists."""
        return self._find(uuid).active

    def is_persistent(self, uuid: UUID) -> bool:
        """It has a definition."""
        return self._find(uuid).persistent

    def is_updated(self, uuid: UUID) -> bool:
        """Its definition has changed since it was started."""
        return self._find(uuid).updated

    def messages(self, uuid: UUID) -> Sequence[str]:
        """Taints of a running guest."""
        guest = self._find(uuid)
        found = [] if guest.run is None else [f"tainted: {_TAINTS.get(taint, taint)}" for taint in guest.run.taints]
        if guest.foreign:
            found.append(f"defined on another host (machine id {guest.foreign}); cannot be started here")
        return found

    def autostart(self, uuid: UUID) -> bool:
        """It is started with the daemon."""
        return self._find(uuid).autostart

    def statistics(self, uuid: UUID, groups: StatsTypes) -> Mapping[str, int | str]:
        """Numbers by libvirt's names."""
        return statistics(self._find(uuid), groups)

    def vcpu_counts(self, uuid: UUID, affect: Affect) -> tuple[int, int]:
        """Virtual CPUs, plugged in and at most."""
        guest = self._find(uuid)
        domain = guest.domain if affect & Affect.LIVE else guest.config or guest.origin
        return domain.vcpus_at_start, domain.vcpus

    # Domains, changed

    async def set_metadata(self, uuid: UUID, change: MetadataChange, affect: Affect) -> None:
        """Write title, description or a foreign element."""
        await set_metadata(self._find(uuid), change, affect)

    async def set_autostart(self, uuid: UUID, on: bool) -> None:
        """Mark a persistent guest to be started with the daemon, or not."""
        await store(self._find(uuid), autostart=on)

    async def define(self, xml: str, flags: int) -> DomainRef:
        """Define a guest, or define it anew."""
        _known(flags, DefineFlags.VALIDATE, "qemuDomainDefineXMLFlags")
        return (await define(self._context, xml, flags)).ref

    async def undefine(self, uuid: UUID, flags: int) -> None:
        """Forget the definition; a running guest becomes transient."""
        _known(flags, sum(UndefineFlags), "qemuDomainUndefineFlags")
        await undefine(self._find(uuid))
        if self._context.guests.get(uuid) is None:
            self._context.fd_groups.domain_gone(uuid)

    async def create(self, xml: str, flags: int, owner: object) -> DomainRef:
        """Start a transient guest."""
        _known(flags, _CREATE, "qemuDomainCreateXML")
        validate = DefineFlags.VALIDATE if flags & CreateFlags.VALIDATE else 0
        domain = await read_definition(self._context, xml, validate)
        guest = holder_of(self._context, domain)
        if guest is not None and guest.active:
            raise OperationInvalid(f"domain is already active as '{guest.name}'", domain=ErrorDomain.DOMAIN)
        if guest is None:
            guest = Guest(self._context, domain, persistent=False)
            self._context.guests.add(guest)
        try:
            await self._start(guest, domain, flags, owner)
        except BaseException:
            if not guest.persistent and not guest.active:
                self._context.guests.remove(guest)
            raise
        return guest.ref

    async def start(self, uuid: UUID, flags: int, owner: object) -> DomainRef:
        """Start a defined guest."""
        _known(flags, _CREATE, "qemuDomainCreateWithFlags")
        guest = self._find(uuid)
        if guest.active:
            raise OperationInvalid("domain is already running")
        await self._start(guest, None, flags, owner)
        return guest.ref

    async def _start(self, guest: Guest, domain: Domain | None, flags: int, owner: object) -> None:
        if guest.foreign:
            raise OperationInvalid(
                f"domain '{guest.name}' was defined on another host (machine id {guest.foreign}) and may run there",
                hint="if it does not, define it here again: virlet xml NAME --inactive | virlet define -",
            )
        async with guest.job.hold("start"):
            if guest.active:
                raise OperationInvalid("domain is already running")
            definition = domain or guest.config
            if definition is None or self._context.guests.get(guest.uuid) is not guest:
                self._find(guest.uuid)
                raise OperationInvalid("domain is gone")
            await self._context.know(definition.devices.emulator, definition.os.arch)
            await self._context.know_passts(definition.devices.interfaces)
            mortal = owner if flags & CreateFlags.AUTODESTROY else None
            with self._starting(mortal):
                await start(guest, definition, paused=bool(flags & CreateFlags.PAUSED), owner=mortal)

    @contextmanager
    def _starting(self, owner: object) -> Iterator[None]:
        """What is done here is given up when *owner* leaves: it may wait for somebody else's program without end."""
        task = asyncio.current_task()
        assert task is not None
        self._starts[task] = owner
        try:
            yield
        finally:
            del self._starts[task]

    async def suspend(self, uuid: UUID) -> None:
        """Stop its CPUs."""
        await power.suspend(self._find(uuid))

    async def resume(self, uuid: UUID) -> None:
        """Let its CPUs run on."""
        await power.resume(self._find(uuid))

    async def shutdown(self, uuid: UUID, flags: int) -> None:
        """Press the power button."""
        await power.shutdown(self._find(uuid), flags)

    async def reboot(self, uuid: UUID, flags: int) -> None:
        """Press the power button, and start it again when it is off."""
        await power.reboot(self._find(uuid), flags)

    async def reset(self, uuid: UUID, flags: int) -> None:
        """Press the reset button."""
        _known(flags, 0, "qemuDomainReset")
        await power.reset(self._find(uuid))

    async def destroy(self, uuid: UUID, flags: int) -> None:
        """End it now."""
        _known(flags, 3, "qemuDomainDestroyFlags")
        await power.destroy(self._find(uuid), flags)

    async def owner_gone(self, owner: object) -> None:
        """Destroy what that connection started with AUTODESTROY, and close the descriptors that it gave.

        A start that is under way is undone.  One that is about to begin, or was so far that it could not be, needs
        another call when it has ended.
        """
        self._context.fd_groups.owner_gone(owner)
        for task in [task for task, whose in self._starts.items() if whose is owner]:
            task.cancel()
        orphans = [each for each in self._context.guests if each.run is not None and each.run.owner is owner]
        for guest in orphans:
            with suppress(OperationInvalid):  # It has ended by itself meanwhile.
                await power.destroy(guest, 0)

    # Devices

    async def attach(self, uuid: UUID, xml: str, flags: int) -> None:
        """Add a device; to a running guest an interface."""
        await devices.attach(self._find(uuid), xml, flags)

    async def detach(self, uuid: UUID, xml: str, flags: int) -> None:
        """Remove a device; of a running guest an interface."""
        await devices.detach(self._find(uuid), xml, flags)

    async def detach_alias(self, uuid: UUID, alias: str, flags: int) -> None:
        """Remove the device of that alias."""
        await devices.detach_alias(self._find(uuid), alias, flags)

    async def update(self, uuid: UUID, xml: str, flags: int) -> None:
        """Change an interface; of a running guest its link."""
        await devices.update(self._find(uuid), xml, flags)

    # Descriptors

    def fd_associate(self, uuid: UUID, name: str, fds: Sequence[int], flags: int, owner: object) -> None:
        """Keep copies of descriptors for the domain's next start or attachment."""
        _known(flags, 3, "qemuDomainFDAssociate")  # Security labels, of which there are none here.
        self._context.fd_groups.associate(self._find(uuid).uuid, name, fds, owner)

    # Events and streams

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        """Begin to call *sink*; the answer ends it."""
        return self._context.events.subscribe(sink)

    async def open_console(self, uuid: UUID, device: str | None, flags: int) -> Console:
        """A serial console."""
        return console.open_console(self._find(uuid), device, flags)

    async def open_channel(self, uuid: UUID, name: str | None, flags: int) -> Console:
        """A channel."""
        return console.open_channel(self._find(uuid), name, flags)

    # What libvirt has no procedure for

    async def native(self, xml: str) -> str:
        """``domxml-to-native``."""
        domain = await read_definition(self._context, xml, 0)
        return inspect.native_of(self._context, domain)

    async def explain(self, uuid: UUID | None, xml: str | None) -> Mapping[str, object]:
        """What a start would do, and why."""
        if uuid is not None:
            guest = self._find(uuid)
            domain = guest.config or guest.domain
            await self._context.know(domain.devices.emulator, domain.os.arch)
            return inspect.explain(self._context, domain, running=guest.active)
        if xml is None:
            raise InvalidArg("neither a domain nor XML was named")
        return inspect.explain(self._context, await read_definition(self._context, xml, 0), running=False)

    async def doctor(self) -> Mapping[str, object]:
        """What works on this host."""
        await self._context.ask_again()
        return inspect.doctor(self._context)

    def ports(self, uuid: UUID) -> Sequence[Mapping[str, object]]:
        """Forwarded ports."""
        return inspect.ports(self._find(uuid))

    def details(self, uuid: UUID) -> Mapping[str, object]:
        """Processes, networks, files."""
        return inspect.details(self._find(uuid))

    async def logs(self, uuid: UUID, which: str, offset: int, limit: int) -> tuple[bytes, int, bool]:
        """A piece of a log."""
        path = inspect.log_path(self._find(uuid), which)
        return await aside("logs", partial(inspect.read_log, path, offset, limit))

    def follow_network(self) -> None:
        """From now on changes of the host's network are seen, and what they ask for is done."""
        self._follower.open()

    async def close(self) -> None:
        """Let go of every process, monitor and task; guests run on."""
        self._follower.close()
        self._context.fd_groups.close()
        await self._context.tasks.cancel()
        for guest in self._context.guests:
            await guest.let_go()


_CREATE = sum(CreateFlags)


def _known(flags: int, known: int, function: str) -> None:
    """Raise :class:`InvalidArg` in libvirt's words for a flag that is not known."""
    if flags & ~known:
        raise InvalidArg(f"unsupported flags ({flags & ~known:#x}) in function {function}", domain=ErrorDomain.QEMU)
