"""A server for tests of the command line: virletd's own front over a driver that is nothing but names.

Run as ``stand.py SOCKET CONFIG``; writes a line when it is ready and ends at the end of standard input.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from uuid import NAMESPACE_OID, UUID, uuid5

from virlet.daemon.compat import Compat
from virlet.daemon.listener import Listener
from virlet.daemon.server import Server
from virlet.engine.api import DomainEvent, DomainInfo, DomainRef, EventSink, HelperEvent, NodeInfo
from virlet.enums import (
    ConsoleFlags,
    DomainState,
    EventId,
    Lifecycle,
    ListDomainsFlags,
    PausedReason,
    RunningReason,
    ShutoffReason,
    StoppedDetail,
    XmlFlags,
)
from virlet.errors import BadConfig, NoDomain, NoSupport, OperationFailed, OperationInvalid, Problem, XmlDetail

LOG = b"first line\nsecond \x1b[31mline\n"


def verdict(name: str, concerned: bool, reason: str, hint: str | None = None) -> Mapping[str, object]:
    """What ``explain`` says of a backend that is not chosen; one with a hint cannot be."""
    ok = concerned and hint is None
    return {"name": name, "chosen": False, "concerned": concerned, "ok": ok, "reason": reason, "hint": hint}


def forward(proto: str, address: str | None, start: int | str, end: int | None, to: int | str) -> Mapping[str, object]:
    """A forwarded range as virletd tells it."""
    return {"proto": proto, "address": address, "dev": None, "start": start, "end": end, "to": to}


class Guest:
    def __init__(self, name: str, uuid: UUID, xml: str) -> None:
        self.name, self.uuid, self.xml = name, uuid, xml
        self.id = -1
        self.state: tuple[DomainState, int] = (DomainState.SHUTOFF, 0)
        self.persistent = True
        self.autostart = False

    @property
    def ref(self) -> DomainRef:
        return DomainRef(self.name, self.uuid, self.id)


class Echo:
    """A guest whose console repeats what is typed, and ends at the word ``bye``."""

    def __init__(self) -> None:
        self.near, self.far = socket.socketpair()
        self.near.setblocking(False)
        self.taken: Callable[[], None] | None = None
        self.far.setblocking(False)
        asyncio.get_running_loop().add_reader(self.far, self._repeat)
        self.far.send(b"login: ")

    def _repeat(self) -> None:
        data = self.far.recv(65_536)
        if data:
            self.far.send(data)
        if not data or b"bye" in data:
            self.end()

    def end(self) -> None:
        asyncio.get_running_loop().remove_reader(self.far)
        self.far.close()

    def fileno(self) -> int:
        return self.near.fileno()

    def on_taken(self, callback: Callable[[], None]) -> None:
        self.taken = callback

    def close(self) -> None:
        self.near.close()
        if self.far.fileno() >= 0:
            self.end()


class Names:
    """Domains that are names.

    ``reset`` tells a helper event; ``reboot`` is a bug; a name with ``broken`` in it cannot be defined, one with
    ``failing`` does not start.
    """

    def __init__(self) -> None:
        self.guests: dict[UUID, Guest] = {}
        self.sinks: list[EventSink] = []
        self.console: Echo | None = None
        self.ids = 0

    def subscribe(self, sink: EventSink) -> Callable[[], None]:
        self.sinks.append(sink)
        return lambda: self.sinks.remove(sink)

    def tell(self, guest: Guest, event: int, detail: int) -> None:
        for sink in list(self.sinks):
            sink(DomainEvent(EventId.LIFECYCLE, guest.ref, {"event": event, "detail": detail}))

    def type_name(self) -> str:
        return "QEMU"

    def version(self) -> int:
        return 7_002_019

    def hostname(self) -> str:
        return "here"

    def node_info(self) -> NodeInfo:
        return NodeInfo("x86_64", 2_097_152, 2, 2000, 1, 1, 2, 1)

    def capabilities(self) -> str:
        return "<capabilities/>"

    async def domain_capabilities(self, *what: str | None) -> str:
        return "<domainCapabilities/>"

    def domains(self, flags: ListDomainsFlags) -> Sequence[DomainRef]:
        active, inactive = ListDomainsFlags.ACTIVE in flags, ListDomainsFlags.INACTIVE in flags
        return [
            guest.ref
            for guest in self.guests.values()
            if (guest.persistent or ListDomainsFlags.PERSISTENT not in flags)
            and (active == inactive or (guest.id >= 0) == active)
        ]

    def _guest(self, uuid: UUID) -> Guest:
        if uuid not in self.guests:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return self.guests[uuid]

    def _running(self, uuid: UUID) -> Guest:
        guest = self._guest(uuid)
        if guest.id < 0:
            raise OperationInvalid("domain is not running")
        return guest

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

    def info(self, uuid: UUID) -> DomainInfo:
        return DomainInfo(self._guest(uuid).state[0], 524_288, 131_072, 2, 1_500_000_000)

    def xml(self, uuid: UUID, flags: int) -> str:
        guest = self._guest(uuid)
        live = "" if flags & XmlFlags.INACTIVE or guest.id < 0 else f" id='{guest.id}'"
        return guest.xml.replace("<domain", f"<domain{live}", 1)

    def os_type(self, uuid: UUID) -> str:
        return "hvm"

    def is_active(self, uuid: UUID) -> bool:
        return self._guest(uuid).id >= 0

    def is_persistent(self, uuid: UUID) -> bool:
        return self._guest(uuid).persistent

    def is_updated(self, uuid: UUID) -> bool:
        return False

    def messages(self, uuid: UUID) -> Sequence[str]:
        return []

    def autostart(self, uuid: UUID) -> bool:
        return self._guest(uuid).autostart

    async def set_autostart(self, uuid: UUID, on: bool) -> None:
        self._guest(uuid).autostart = on

    async def define(self, xml: str, flags: int) -> DomainRef:
        found = re.search("<name>(.*?)</name>", xml)
        if found is None:
            raise XmlDetail("at line 1: Document is empty\n<nonsense\n^")
        said = re.search("<uuid>(.*?)</uuid>", xml)
        uuid = UUID(said[1]) if said else uuid5(NAMESPACE_OID, found[1])
        if any(other.name == found[1] and other.uuid != uuid for other in self.guests.values()):
            raise OperationFailed(f"domain '{found[1]}' already exists with another uuid")
        if "broken" in found[1] or "<refused/>" in xml:
            problem = Problem(
                "devices/interface[1]", "no such model (really)", "use virtio (or e1000)", line=7, column=3
            )
            raise BadConfig([problem])
        guest = self.guests.setdefault(uuid, Guest(found[1], uuid, xml))
        guest.xml = xml
        self.tell(guest, Lifecycle.DEFINED, 0)
        return guest.ref

    async def undefine(self, uuid: UUID, flags: int) -> None:
        guest = self._guest(uuid)
        guest.persistent = False
        if guest.id < 0:
            del self.guests[uuid]
        self.tell(guest, Lifecycle.UNDEFINED, 0)

    async def create(self, xml: str, flags: int, owner: object) -> DomainRef:
        ref = await self.define(xml, 0)
        self.guests[ref.uuid].persistent = False
        return await self.start(ref.uuid, flags, owner)

    async def start(self, uuid: UUID, flags: int, owner: object) -> DomainRef:
        guest = self._guest(uuid)
        if guest.id >= 0:
            raise OperationInvalid("domain is already running")
        if "failing" in guest.name:
            raise OperationFailed("port 2022 of 127.0.0.1 is taken by sshd (pid 1)", hint="choose another port")
        self.ids += 1
        guest.id, guest.state = self.ids, (DomainState.RUNNING, RunningReason.BOOTED)
        self.tell(guest, Lifecycle.STARTED, 0)
        if flags & 1:
            await self.suspend(uuid)
        return guest.ref

    async def suspend(self, uuid: UUID) -> None:
        guest = self._running(uuid)
        guest.state = (DomainState.PAUSED, PausedReason.USER)
        self.tell(guest, Lifecycle.SUSPENDED, 0)

    async def resume(self, uuid: UUID) -> None:
        guest = self._running(uuid)
        guest.state = (DomainState.RUNNING, RunningReason.UNPAUSED)
        self.tell(guest, Lifecycle.RESUMED, 0)

    async def shutdown(self, uuid: UUID, flags: int) -> None:
        self._end(self._running(uuid), ShutoffReason.SHUTDOWN, StoppedDetail.SHUTDOWN)

    async def reboot(self, uuid: UUID, flags: int) -> None:
        raise ZeroDivisionError("a driver's bug")

    async def reset(self, uuid: UUID, flags: int) -> None:
        guest = self._running(uuid)
        for sink in list(self.sinks):
            sink(DomainEvent(EventId.REBOOT, guest.ref, {}))
            sink(HelperEvent(guest.ref, "net0", "restarted", "passt of net0 runs again (pid 7)"))

    async def destroy(self, uuid: UUID, flags: int) -> None:
        self._end(self._running(uuid), ShutoffReason.DESTROYED, StoppedDetail.DESTROYED)

    def _end(self, guest: Guest, reason: ShutoffReason, detail: StoppedDetail) -> None:
        guest.id, guest.state = -1, (DomainState.SHUTOFF, reason)
        self.tell(guest, Lifecycle.STOPPED, detail)
        if not guest.persistent:
            del self.guests[guest.uuid]

    async def owner_gone(self, owner: object) -> None:
        return None

    async def attach(self, uuid: UUID, xml: str, flags: int) -> None:
        guest = self._guest(uuid)
        guest.xml = guest.xml.replace("</domain>", f"<devices>{xml}</devices></domain>")

    async def detach(self, uuid: UUID, xml: str, flags: int) -> None:
        guest = self._guest(uuid)
        guest.xml = guest.xml.partition("<devices>")[0] + "</domain>"

    async def detach_alias(self, uuid: UUID, alias: str, flags: int) -> None:
        raise NoSupport("virDomainDetachDeviceAlias")

    async def update(self, uuid: UUID, xml: str, flags: int) -> None:
        await self.detach(uuid, xml, flags)
        await self.attach(uuid, xml, flags)

    async def open_console(self, uuid: UUID, device: str | None, flags: int) -> Echo:
        self._running(uuid)
        if self.console is not None and self.console.fileno() >= 0:
            if not flags & ConsoleFlags.FORCE:
                raise OperationFailed("Active console session exists for this domain")
            assert self.console.taken is not None
            self.console.taken()
        self.console = Echo()
        return self.console

    async def open_channel(self, uuid: UUID, name: str | None, flags: int) -> Echo:
        return await self.open_console(uuid, name, flags)

    async def native(self, xml: str) -> str:
        return "qemu"

    async def explain(self, uuid: UUID | None, xml: str | None) -> Mapping[str, object]:
        if xml is not None and "nowhere" in xml:
            return {"name": "nowhere", "interfaces": [], "problems": ["there is no QEMU"]}
        return {
            "name": "file" if uuid is None else self._guest(uuid).name,
            "commands": ["qemu -name x", "passt --fd 3"],
            "interfaces": [
                {
                    "alias": "net0",
                    "backend": "passt",
                    "why": ["it is the fastest that works here"],
                    "forwards": [forward("tcp", None, 2022, 2022, 22)],
                    "backends": [
                        {"name": "passt", "chosen": True, "concerned": True, "ok": True, "reason": "", "hint": None},
                        verdict("slirp", True, "built into QEMU"),
                        verdict("slirp-helper", True, "there is no libslirp", "install it"),
                        verdict("bridge", False, "not for interfaces of type 'user'"),
                        verdict("null", False, "not for interfaces of type 'user'"),
                    ],
                }
            ],
            "problems": [],
        }

    async def doctor(self) -> Mapping[str, object]:
        return {
            "host": {"arch": "x86_64", "kvm": {"ok": False, "reason": "no /dev/kvm", "hint": "load the module kvm"}},
            "qemu": [
                {
                    "path": "/usr/bin/qemu-system-x86_64",
                    "arch": "x86_64",
                    "version": "7.2.19",
                    "networks": {"passt": {"ok": True, "reason": "", "hint": None}},
                }
            ],
            "passt": None,
            "ping": False,
            "lowest_port": 1024,
            "directories": {"config": "/c"},
            "problems": ["a status file cannot be read"],
        }

    def ports(self, uuid: UUID) -> Sequence[Mapping[str, object]]:
        state = "running" if self._guest(uuid).id >= 0 else "off"
        common = {"alias": "net0", "state": state}
        return [
            {**common, **forward("tcp", "127.0.0.1", 2022, 2022, 22)},
            {**common, **forward("tcp", None, 5000, 5009, 1000)},
            {**common, **forward("udp", "::1", "all", None, "same"), "dev": "lo"},
        ]

    def details(self, uuid: UUID) -> Mapping[str, object]:
        return {"pid": 4711, "interfaces": [{"alias": "net0", "backend": "passt"}], "name": self._guest(uuid).name}

    async def logs(self, uuid: UUID, which: str, offset: int, limit: int) -> tuple[bytes, int, bool]:
        self._guest(uuid)
        data = LOG[offset : offset + min(limit, 8)]
        return data, offset + len(data), offset + len(data) >= len(LOG)

    async def close(self) -> None:
        return None


async def serve(path: Path, config: Path) -> None:
    server = Server(Compat(config, config / "libvirt"))
    server.drivers.add("qemu:///session", Names())
    server.listen(Listener(path))
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), lambda: os.read(0, 1) or over.set())
    print("ready", flush=True)
    await over.wait()
    await server.close()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), Path(sys.argv[2])))
