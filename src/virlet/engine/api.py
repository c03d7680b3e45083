"""What a driver offers: small protocols, plain values.  Nothing in them knows the wire.

A driver (entry-point group ``virlet.drivers``, key = URI scheme) implements as many of these protocols as it can; a
call of one that it does not implement is answered NO_SUPPORT.  Methods that only read are plain functions and
never wait; those that act are coroutines.  Errors are :class:`virlet.errors.VirletError`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable
from uuid import UUID

from virlet.enums import Affect, ControlErrorReason, ControlState, DomainState, EventId, ListDomainsFlags, StatsTypes
from virlet.model.metadata import MetadataChange

__all__ = [
    "Annotate",
    "Console",
    "Control",
    "Devices",
    "DomainEvent",
    "DomainInfo",
    "DomainRef",
    "Driver",
    "EventSink",
    "Events",
    "Explain",
    "FdPassing",
    "HelperEvent",
    "Lifecycle",
    "Node",
    "NodeInfo",
    "Statistics",
    "Streams",
    "Suspects",
]


@dataclass(frozen=True, slots=True)
class DomainRef:
    """A domain as every reply names it; ``id`` is -1 while it does not run."""

    name: str
    uuid: UUID
    id: int


@dataclass(frozen=True, slots=True)
class Control:
    """``virDomainControlInfo``: whether the guest can be asked for something now, and for how many ms it could not."""

    state: ControlState
    reason: ControlErrorReason = ControlErrorReason.NONE
    milliseconds: int = 0


@dataclass(frozen=True, slots=True)
class DomainInfo:
    """``virDomainInfo``: memory in KiB, CPU time in ns."""

    state: DomainState
    max_memory: int
    memory: int
    vcpus: int
    cpu_time: int


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """``virNodeInfo``: memory in KiB, clock in MHz."""

    model: str
    memory: int
    cpus: int
    mhz: int
    nodes: int
    sockets: int
    cores: int
    threads: int


@dataclass(frozen=True, slots=True)
class DomainEvent:
    """One of libvirt's domain events; ``args`` are the fields of its message after the domain, by libvirt's names.

    LIFECYCLE has ``event`` and ``detail``, DEVICE_ADDED has ``devAlias``, and so on.
    """

    id: EventId
    domain: DomainRef
    args: Mapping[str, int | str | None]


@dataclass(frozen=True, slots=True)
class HelperEvent:
    """virlet's own: something happened to a process beside QEMU."""

    domain: DomainRef
    alias: str
    """The interface's alias."""
    kind: str
    """``lost``, ``restarted``, ``gave-up``, ``port-failed``; of the host's network ``waiting`` and ``followed``."""
    message: str


EventSink: TypeAlias = Callable[[DomainEvent | HelperEvent], None]


@runtime_checkable
class Node(Protocol):
    """The host and its hypervisor."""

    def type_name(self) -> str:
        """``QEMU``, exactly as clients compare it."""
        ...

    def version(self) -> int:
        """The hypervisor's: major * 1 000 000 + minor * 1000 + micro."""
        ...

    def hostname(self) -> str: ...

    def node_info(self) -> NodeInfo: ...

    def capabilities(self) -> str:
        """Capabilities XML."""
        ...

    async def domain_capabilities(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> str: ...


@runtime_checkable
class Lifecycle(Protocol):
    """Domains from definition to end."""

    def domains(self, flags: ListDomainsFlags) -> Sequence[DomainRef]: ...

    def by_name(self, name: str) -> DomainRef: ...

    def by_uuid(self, uuid: UUID) -> DomainRef: ...

    def by_id(self, number: int) -> DomainRef: ...

    def state(self, uuid: UUID) -> tuple[DomainState, int]: ...

    def info(self, uuid: UUID) -> DomainInfo: ...

    def control(self, uuid: UUID) -> Control:
        """Of a running guest, for ``virsh domcontrol``; raises :class:`OperationInvalid`."""
        ...

    def xml(self, uuid: UUID, flags: int) -> str: ...

    def os_type(self, uuid: UUID) -> str: ...

    def is_active(self, uuid: UUID) -> bool: ...

    def is_persistent(self, uuid: UUID) -> bool: ...

    def is_updated(self, uuid: UUID) -> bool: ...

    def messages(self, uuid: UUID) -> Sequence[str]:
        """Taints and deprecations, for ``virsh dominfo``."""
        ...

    def autostart(self, uuid: UUID) -> bool: ...

    async def set_autostart(self, uuid: UUID, on: bool) -> None: ...

    async def define(self, xml: str, flags: int) -> DomainRef: ...

    async def undefine(self, uuid: UUID, flags: int) -> None: ...

    async def create(self, xml: str, flags: int, owner: object) -> DomainRef:
        """Start a transient domain; *owner* is the connection, for AUTODESTROY."""
        ...

    async def start(self, uuid: UUID, flags: int, owner: object) -> DomainRef: ...

    async def suspend(self, uuid: UUID) -> None: ...

    async def resume(self, uuid: UUID) -> None: ...

    async def shutdown(self, uuid: UUID, flags: int) -> None: ...

    async def reboot(self, uuid: UUID, flags: int) -> None: ...

    async def reset(self, uuid: UUID, flags: int) -> None: ...

    async def destroy(self, uuid: UUID, flags: int) -> None: ...

    async def owner_gone(self, owner: object) -> None:
        """The connection *owner* has ended: AUTODESTROY guests of its are destroyed."""
        ...


@runtime_checkable
class Devices(Protocol):
    """Devices of a domain at run time and in its definition; flags are :class:`virlet.enums.Affect` and FORCE 4."""

    async def attach(self, uuid: UUID, xml: str, flags: int) -> None: ...

    async def detach(self, uuid: UUID, xml: str, flags: int) -> None: ...

    async def detach_alias(self, uuid: UUID, alias: str, flags: int) -> None: ...

    async def update(self, uuid: UUID, xml: str, flags: int) -> None: ...


@runtime_checkable
class FdPassing(Protocol):
    """Descriptors that clients give for a domain."""

    def fd_associate(self, uuid: UUID, name: str, fds: Sequence[int], flags: int, owner: object) -> None:
        """Keep copies of *fds* as the group *name* until the connection *owner* ends; the caller closes its own."""
        ...


@runtime_checkable
class Annotate(Protocol):
    """What people and programs write about domains."""

    async def set_metadata(self, uuid: UUID, change: MetadataChange, affect: Affect) -> None: ...


@runtime_checkable
class Statistics(Protocol):
    """Numbers of a domain, by libvirt's names (``virConnectGetAllDomainStats``); nothing here waits."""

    def statistics(self, uuid: UUID, groups: StatsTypes) -> Mapping[str, int | str]: ...

    def vcpu_counts(self, uuid: UUID, affect: Affect) -> tuple[int, int]:
        """Virtual CPUs that are plugged in, and at most, of the running form (LIVE) or the definition (CONFIG)."""
        ...


@runtime_checkable
class Events(Protocol):
    """Where events come from: every sink gets every event, in order, before the reply of the call that caused it."""

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        """Begin to call *sink*; the answer ends it."""
        ...


class Console(Protocol):
    """An open console or channel: a byte stream in both directions over one non-blocking descriptor."""

    def fileno(self) -> int: ...

    def on_taken(self, callback: Callable[[], None]) -> None:
        """Call *callback* when somebody else took the console by FORCE."""
        ...

    def close(self) -> None: ...


@runtime_checkable
class Streams(Protocol):
    """Things that are opened as streams."""

    async def open_console(self, uuid: UUID, device: str | None, flags: int) -> Console: ...

    async def open_channel(self, uuid: UUID, name: str | None, flags: int) -> Console: ...


@runtime_checkable
class Explain(Protocol):
    """What libvirt has no procedure for; answers are plain JSON data."""

    async def native(self, xml: str) -> str:
        """The command lines that a start of this XML would run, network included (``domxml-to-native``)."""
        ...

    async def explain(self, uuid: UUID | None, xml: str | None) -> Mapping[str, object]: ...

    async def doctor(self) -> Mapping[str, object]: ...

    def ports(self, uuid: UUID) -> Sequence[Mapping[str, object]]: ...

    def details(self, uuid: UUID) -> Mapping[str, object]: ...

    async def logs(self, uuid: UUID, which: str, offset: int, limit: int) -> tuple[bytes, int, bool]:
        """Bytes from *offset* (from the end if negative), the next offset, and whether that was the end of the file."""
        ...


@runtime_checkable
class Suspects(Protocol):
    """Drivers whose guests are processes of this user, which a guest may have taken over."""

    def is_guest(self, pid: int) -> bool:
        """Whether that process is a guest's: its QEMU or one of its helpers."""
        ...


@runtime_checkable
class Driver(Node, Lifecycle, Events, Protocol):
    """The least a driver is."""

    async def close(self) -> None:
        """Let go of every descriptor; guests run on."""
        ...
