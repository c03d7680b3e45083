"""Who listens on which TCP and UDP port of this network namespace.

Only the ports that somebody wants to know of are kept: a host may have tens of thousands of listening sockets (a passt
that forwards a range has one for each port), and to keep 20 000 of them once cost a daemon 20 MiB that it never gave
back.

The kernel is asked over netlink (sock_diag(7)): it walks only its listening sockets, 0.3 ms for all four tables where
reading ``/proc/net/tcp`` costs 3.4 ms even when it is empty, and a guest's start waits for this.  No library: pyroute2
takes 100 ms to import.  Where the kernel does not answer (its diag module missing) the files are read.
"""

from __future__ import annotations

import os
import pwd
import socket
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import NamedTuple, TypeAlias

from virlet.errors import SystemFailure

__all__ = ["Listeners", "ListeningSocket", "Owner", "PortRange", "holder", "listeners"]

_SOCK_DIAG = 4  # NETLINK_SOCK_DIAG
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301  # NLM_F_REQUEST | NLM_F_DUMP
_ERROR, _DONE = 2, 3  # NLMSG_ERROR, NLMSG_DONE
_LISTEN, _CLOSE = 10, 7  # TCP_LISTEN; an unconnected UDP socket counts as TCP_CLOSE
_HEADER = struct.Struct("=IHHII")
_REQUEST = struct.Struct("=BBBxI48x")  # inet_diag_req_v2
_ANSWER = struct.Struct("=BBBB2s2s16s16sI8sIIIII")  # inet_diag_msg
_PORT = struct.Struct(">4xH")
"""The socket's own port, all that is read of one that nobody wants to know of."""
_PROTOCOLS = {"tcp": (socket.IPPROTO_TCP, _LISTEN), "udp": (socket.IPPROTO_UDP, _CLOSE)}


@dataclass(frozen=True, slots=True)
class ListeningSocket:
    """A socket that strangers can reach."""

    proto: str
    """``tcp`` or ``udp``."""
    address: IPv4Address | IPv6Address
    """An IPv4 address in IPv6 clothes is shown as what it is."""
    port: int
    uid: int
    inode: int

    @property
    def wildcard(self) -> bool:
        """It takes every address of the host."""
        return self.address.is_unspecified

    def takes(self, address: IPv4Address | IPv6Address | None) -> bool:
        """Whether nobody else could bind *address* (None: all) on the same port."""
        if address is None or self.address == address:
            return True
        if self.wildcard:  # ``::`` holds IPv4 as well, unless told otherwise.
            return self.address.version == 6 or address.version == 4
        return address.is_unspecified and self.address.version <= address.version


Owner: TypeAlias = Callable[[str, int], str | None]
"""Protocol and port to what has it, in words."""


def _nobody(_proto: str, _port: int) -> None:
    return None


class PortRange(NamedTuple):
    """Ports of one protocol, the last included."""

    proto: str
    """``tcp`` or ``udp``."""
    first: int
    last: int


class Listeners:
    """The listening sockets of some ports at one moment."""

    def __init__(
        self, sockets: Iterable[ListeningSocket], asked: Mapping[str, bytearray], owner: Owner | None = None
    ) -> None:
        self.owner = owner or _nobody
        self._asked = asked
        self._by_port: dict[tuple[str, int], list[ListeningSocket]] = {}
        self.inodes: set[int] = set()
        for each in sockets:
            self._by_port.setdefault((each.proto, each.port), []).append(each)
            self.inodes.add(each.inode)

    def on(self, proto: str, port: int) -> list[ListeningSocket]:
        """Those on that port, whatever their address; raises :class:`ValueError` for one that was not asked about."""
        if proto not in self._asked or not self._asked[proto][port]:
            raise ValueError(f"nobody has asked about {proto} port {port}")
        return self._by_port.get((proto, port), [])


def listeners(ports: Iterable[PortRange], owner: Owner | None = None) -> Listeners:
    """Ask now who listens on *ports*; *owner* knows whose ports some of our own user's are."""
    asked = _wanted(ports)
    return Listeners(_on(asked), asked, owner)


def _on(asked: Mapping[str, bytearray]) -> Iterator[ListeningSocket]:
    for proto, wanted in asked.items():
        for family in (socket.AF_INET, socket.AF_INET6):
            try:
                found = list(_diag(proto, family, wanted))
            except OSError:
                # ENOENT: no diag module; EPERM, EPROTONOSUPPORT: a container's seccomp filter forbids netlink.
                found = list(_proc_net(proto, family, wanted))
            yield from found


def _wanted(ports: Iterable[PortRange]) -> dict[str, bytearray]:
    """For each protocol a byte for each port, 1 where it is wanted: somebody may want all."""
    wanted: dict[str, bytearray] = {}
    for proto, first, last in ports:
        wanted.setdefault(proto, bytearray(1 << 16))[first : last + 1] = b"\1" * (last - first + 1)
    return wanted


def _diag(proto: str, family: int, wanted: bytearray) -> Iterator[ListeningSocket]:
    number, state = _PROTOCOLS[proto]
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _SOCK_DIAG) as netlink:
        body = _REQUEST.pack(family, number, 0, 1 << state)
        head = _HEADER.pack(_HEADER.size + len(body), _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 1, 0)
        netlink.send(head + body)
        while True:
            data = netlink.recv(1 << 18)
            at = 0
            while at < len(data):
                length, kind, *_ = _HEADER.unpack_from(data, at)
                if kind == _DONE:
                    return
                if kind == _ERROR:
                    (code,) = struct.unpack_from("=i", data, at + _HEADER.size)
                    raise OSError(-code, os.strerror(-code))
                if wanted[_PORT.unpack_from(data, at + _HEADER.size)[0]]:
                    yield _socket(proto, family, data, at + _HEADER.size)
                at += (length + 3) & ~3


def _socket(proto: str, family: int, data: bytes, at: int) -> ListeningSocket:
    fields = _ANSWER.unpack_from(data, at)
    address = fields[6][:4] if family == socket.AF_INET else fields[6]
    return ListeningSocket(proto, _plain(address), int.from_bytes(fields[4], "big"), fields[13], fields[14])


@lru_cache(maxsize=256)
def _plain(packed: bytes) -> IPv4Address | IPv6Address:
    address = ip_address(packed)
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address


def _proc_net(proto: str, family: int, wanted: bytearray) -> Iterator[ListeningSocket]:
    """The same from ``/proc/self/net`` (proc(5)): addresses are 32-bit words in the host's byte order."""
    path = Path(f"/proc/self/net/{proto}{'6' if family == socket.AF_INET6 else ''}")
    try:
        lines = path.read_text("ascii").splitlines()[1:]
    except FileNotFoundError:
        return  # A kernel without IPv6.
    except OSError as error:
        raise SystemFailure.of(error, f"cannot read {path}") from error
    state = f"{_PROTOCOLS[proto][1]:02X}"
    for line in lines:
        fields = line.split()
        text, _, number = fields[1].partition(":")
        port = int(number, 16)
        if fields[3] != state or not wanted[port]:
            continue
        words = (int(text[at : at + 8], 16) for at in range(0, len(text), 8))
        packed = b"".join(struct.pack("=I", word) for word in words)
        yield ListeningSocket(proto, _plain(packed), port, int(fields[7]), int(fields[9]))


def holder(found: ListeningSocket) -> str:
    """Who holds that socket, as far as it can be known: ``'nginx' (pid 42)``, or the user.

    Another user's processes do not show their descriptors, and neither does passt.
    """
    if found.uid == os.getuid():
        pid = _pid_of(found.inode)
        if pid is not None:
            return f"'{_name_of(pid)}' (pid {pid})"
        return "another process of yours"
    try:
        user = pwd.getpwuid(found.uid).pw_name
    except KeyError:
        user = f"uid {found.uid}"
    return f"a process of user '{user}'"


def _pid_of(inode: int) -> int | None:
    wanted = f"socket:[{inode}]"
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(link) == wanted for link in (process / "fd").iterdir()):
                return int(process.name)
        except (PermissionError, FileNotFoundError, ProcessLookupError):
            continue  # Not ours, undumpable, or gone meanwhile.
    return None


def _name_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return "?"
