"""A driver in memory, small enough to read, and a server over real sockets."""

from __future__ import annotations

import asyncio
import os
import re
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from virlet.daemon.compat import Compat
from virlet.daemon.listener import Listener
from virlet.daemon.server import Server
from virlet.engine.api import Control, DomainEvent, DomainInfo, DomainRef, EventSink, NodeInfo
from virlet.enums import ControlState, DomainState, EventId, Lifecycle, ListDomainsFlags, StoppedDetail
from virlet.errors import InvalidArg, NoDomain, OperationFailed, OperationInvalid
from virlet.wire import remote
from virlet.wire.link import ClientLink, Failed, Message, Reply
from virlet.wire.procedure import AnyProcedure


class Guest:
    def __init__(self, name: str, uuid: UUID, xml: str) -> None:
        self.name, self.uuid, self.xml = name, uuid, xml
        self.id = -1
        self.state = (DomainState.SHUTOFF, 0)
        self.persistent = True
        self.autostart = False
        self.owner: object = None

    @property
    def ref(self) -> DomainRef:
        return DomainRef(self.name, self.uuid, self.id)


class MemoryConsole:
    """One end of a socket pair; the test holds the other."""

    def __init__(self) -> None:
        self._sock, self.guest = socket.socketpair()
        self._sock.setblocking(False)
        self.taken: Callable[[], None] | None = None

    def fileno(self) -> int:
        return self._sock.fileno()

    def on_taken(self, callback: Callable[[], None]) -> None:
        self.taken = callback

    def close(self) -> None:
        self._sock.close()


class MemoryDriver:
    """Domains that are names, with libvirt's states and events and nothing behind them."""

    def __init__(self) -> None:
        self.guests: dict[UUID, Guest] = {}
        self.sinks: list[EventSink] = []
        self.consoles: list[MemoryConsole] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.gone: list[object] = []
        self.given: dict[tuple[UUID, str], tuple[object, list[int]]] = {}
        self._next = 1

    def emit(self, guest: Guest, event: int, detail: int) -> None:
        for sink in list(self.sinks):
            sink(DomainEvent(EventId.LIFECYCLE, guest.ref, {"event": event, "detail": detail}))

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def type_name(self) -> str:
        return "QEMU"

    def version(self) -> int:
        return 7_002_000

    def hostname(self) -> str:
        return "here"

    def node_info(self) -> NodeInfo:
        return NodeInfo("x86_64", 2_097_152, 2, 2000, 1, 1, 2, 1)

    def capabilities(self) -> str:
        return "<capabilities><host/></capabilities>"

    async def domain_capabilities(
        self, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
    ) -> str:
        return f"<domainCapabilities><machine>{machine}</machine></domainCapabilities>"

    def domains(self, flags: ListDomainsFlags) -> Sequence[DomainRef]:
        both = ListDomainsFlags.ACTIVE | ListDomainsFlags.INACTIVE
        wanted = flags & both or both
        return [
            guest.ref
            for guest in self.guests.values()
            if wanted & (ListDomainsFlags.INACTIVE if guest.id < 0 else ListDomainsFlags.ACTIVE)
        ]

    def _guest(self, uuid: UUID) -> Guest:
        if uuid not in self.guests:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return self.guests[uuid]

    def by_name(self, name: str) -> DomainRef:
        for guest in self.guests.values():
            if guest.name == name:
                return guest.ref
        raise NoDomain(f"no domain with matching name '{name}'")

    def by_uuid(self, uuid: UUID) -> DomainRef:
        return self._guest(uuid).ref

    def by_id(self, number: int) -> DomainRef:
        for guest in self.guests.values():
            if guest.id == number >= 0:
                return guest.ref
        raise NoDomain(f"no domain with matching id '{number}'")

    def state(self, uuid: UUID) -> tuple[DomainState, int]:
        return self._guest(uuid).state

    def control(self, uuid: UUID) -> Control:
        self._guest(uuid)
        return Control(ControlState.OK)

    def info(self, uuid: UUID) -> DomainInfo:
        return DomainInfo(self._guest(uuid).state[0], 131_072, 131_072, 1, 0)

    def xml(self, uuid: UUID, flags: int) -> str:
        return self._guest(uuid).xml

    def os_type(self, uuid: UUID) -> str:
        self._guest(uuid)
        return "hvm"

    def is_active(self, uuid: UUID) -> bool:
        return self._guest(uuid).id >= 0

    def is_persistent(self, uuid: UUID) -> bool:
        return self._guest(uuid).persistent

    def is_updated(self, uuid: UUID) -> bool:
        return False

    def messages(self, uuid: UUID) -> Sequence[str]:
        return ["tainted: custom-argv"]

    def autostart(self, uuid: UUID) -> bool:
        return self._guest(uuid).autostart

    async def set_autostart(self, uuid: UUID, on: bool) -> None:
        self._guest(uuid).autostart = on

    async def define(self, xml: str, flags: int) -> DomainRef:
        name = re.search("<name>(.*?)</name>", xml)
        if name is None:
            raise InvalidArg("no name")
        given = re.search("<uuid>(.*?)</uuid>", xml)
        uuid = UUID(given[1]) if given else uuid4()
        if any(guest.name == name[1] and guest.uuid != uuid for guest in self.guests.values()):
            raise OperationFailed(f"domain '{name[1]}' already exists")
        guest = self.guests.setdefault(uuid, Guest(name[1], uuid, xml))
        self.emit(guest, Lifecycle.DEFINED, 0)
        return guest.ref

    async def undefine(self, uuid: UUID, flags: int) -> None:
        guest = self._guest(uuid)
        del self.guests[uuid]
        self.emit(guest, Lifecycle.UNDEFINED, 0)

    async def create(self, xml: str, flags: int, owner: object) -> DomainRef:
        ref = await self.define(xml, 0)
        self.guests[ref.uuid].persistent = False
        return await self.start(ref.uuid, flags, owner)

    async def start(self, uuid: UUID, flags: int, owner: object) -> DomainRef:
        guest = self._guest(uuid)
        if guest.id >= 0:
            raise OperationInvalid("domain is already running")
        await self.gate.wait()
        guest.id, self._next = self._next, self._next + 1
        guest.state = (DomainState.RUNNING, 1)
        guest.owner = owner if flags & 2 else None
        self.emit(guest, Lifecycle.RESUMED, 0)
        self.emit(guest, Lifecycle.STARTED, 0)
        return guest.ref

    def _running(self, uuid: UUID) -> Guest:
        guest = self._guest(uuid)
        if guest.id < 0:
            raise OperationInvalid("domain is not running")
        return guest

    async def suspend(self, uuid: UUID) -> None:
        guest = self._running(uuid)
        guest.state = (DomainState.PAUSED, 1)
        self.emit(guest, Lifecycle.SUSPENDED, 0)

    async def resume(self, uuid: UUID) -> None:
        guest = self._running(uuid)
        guest.state = (DomainState.RUNNING, 5)
        self.emit(guest, Lifecycle.RESUMED, 0)

    async def shutdown(self, uuid: UUID, flags: int) -> None:
        await self.destroy(uuid, 0)

    async def reboot(self, uuid: UUID, flags: int) -> None:
        self._running(uuid)

    async def reset(self, uuid: UUID, flags: int) -> None:
        raise ZeroDivisionError("a driver's bug")

    async def destroy(self, uuid: UUID, flags: int) -> None:
        guest = self._running(uuid)
        guest.id, guest.state = -1, (DomainState.SHUTOFF, 2)
        self.emit(guest, Lifecycle.STOPPED, StoppedDetail.DESTROYED)
        if not guest.persistent:
            del self.guests[uuid]

    async def owner_gone(self, owner: object) -> None:
        self.gone.append(owner)
        for guest in list(self.guests.values()):
            if guest.owner is owner and guest.id >= 0:
                await self.destroy(guest.uuid, 0)

    def fd_associate(self, uuid: UUID, name: str, fds: Sequence[int], flags: int, owner: object) -> None:
        if flags:
            raise InvalidArg("no flags here")
        self.given[self._guest(uuid).uuid, name] = (owner, [os.fstat(fd).st_ino for fd in fds])

    async def open_console(self, uuid: UUID, device: str | None, flags: int) -> MemoryConsole:
        if self.consoles and self.consoles[-1].fileno() >= 0:
            if not flags & 1:
                raise OperationFailed("Active console session exists for this domain")
            taken = self.consoles[-1].taken
            assert taken is not None
            taken()
        self.consoles.append(MemoryConsole())
        return self.consoles[-1]

    async def open_channel(self, uuid: UUID, name: str | None, flags: int) -> MemoryConsole:
        raise InvalidArg(f"cannot find channel {name}")

    async def native(self, xml: str) -> str:
        return f"qemu # {len(xml)}"

    async def explain(self, uuid: UUID | None, xml: str | None) -> Mapping[str, object]:
        return {"uuid": str(uuid), "xml": xml}

    async def doctor(self) -> Mapping[str, object]:
        return {"ok": True}

    def ports(self, uuid: UUID) -> Sequence[Mapping[str, object]]:
        return [{"host": 2022, "guest": 22}]

    def details(self, uuid: UUID) -> Mapping[str, object]:
        return {"name": self._guest(uuid).name}

    async def logs(self, uuid: UUID, which: str, offset: int, limit: int) -> tuple[bytes, int, bool]:
        text = b"line one\nline two\n"
        begin = max(0, len(text) + offset) if offset < 0 else offset
        data = text[begin : begin + limit]
        return data, begin + len(data), begin + len(data) >= len(text)

    async def close(self) -> None:
        for console in self.consoles:
            console.guest.close()


class RawClient:
    """A client that can say anything; asynchronous, over the sans-IO link."""

    def __init__(self, path: Path) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.setblocking(False)
        self.sock.connect(str(path))
        self.link = ClientLink()
        self.events: list[object] = []

    async def say(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self.sock, data)

    async def hear(self) -> bytes:
        return await asyncio.wait_for(asyncio.get_running_loop().sock_recv(self.sock, 65_536), 30)

    async def next(self) -> object:
        """The next thing the server says; EOFError at the end."""
        while not self.events:
            data = await self.hear()
            if not data:
                raise EOFError
            self.events += self.link.feed(data)
        return self.events.pop(0)

    async def ask(self, procedure: AnyProcedure, *args: object) -> object:
        """Call and wait; what comes before the answer stays in ``events``.  Raises the server's error."""
        request = self.link.call(procedure, procedure.args_type(*args) if procedure.args_type else None)
        await self.say(request.data)
        before: list[object] = []
        while True:
            said = await self.next()
            if isinstance(said, (Reply, Failed)) and said.serial == request.serial:
                self.events = before + self.events
                if isinstance(said, Failed):
                    raise said.error
                return said.value
            before.append(said)

    def messages(self) -> list[Message]:
        return [event for event in self.events if isinstance(event, Message)]

    def close(self) -> None:
        self.sock.close()


URI = "qemu:///session"


class Kit:
    """For tests that need a server of their own in each of many examples."""

    RawClient = RawClient
    MemoryDriver = MemoryDriver
    URI = URI

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    @asynccontextmanager
    async def serving(self, driver: MemoryDriver | None = None) -> AsyncIterator[tuple[Server, Path]]:
        """A server, and where it listens."""
        path = self.directory / "run" / "s"
        server = Server(Compat(self.directory / "config", self.directory / "libvirt"))
        server.drivers.add(URI, driver or MemoryDriver())
        server.listen(Listener(path))
        try:
            yield server, path
        finally:
            await server.close()


@pytest.fixture(scope="session")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Kit:
    return Kit(tmp_path_factory.mktemp("kit"))


@pytest.fixture
def driver() -> MemoryDriver:
    return MemoryDriver()


@pytest.fixture
async def served(tmp_path: Path, driver: MemoryDriver) -> AsyncIterator[tuple[Server, Path]]:
    async with Kit(tmp_path).serving(driver) as both:
        yield both


@pytest.fixture
def server(served: tuple[Server, Path]) -> Server:
    return served[0]


@pytest.fixture
def socket_path(served: tuple[Server, Path]) -> Path:
    return served[1]


@pytest.fixture
async def connect(socket_path: Path) -> AsyncIterator[Callable[[], RawClient]]:
    made: list[RawClient] = []

    def client() -> RawClient:
        made.append(RawClient(socket_path))
        return made[-1]

    yield client
    for one in made:
        one.close()


@pytest.fixture
async def client(connect: Callable[[], RawClient]) -> RawClient:
    one = connect()
    await one.ask(remote.CONNECT_OPEN, URI, 0)
    return one
