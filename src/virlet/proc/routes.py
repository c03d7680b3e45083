"""The host's default routes, and the kernel's word that something about them has changed (rtnetlink(7)).

What a message says is not used beyond "this may matter": the state is read anew afterwards, so a lost message (the
kernel's ENOBUFS) costs nothing but that look.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from virlet.errors import SystemFailure
from virlet.plan.follow import Uplinks
from virlet.proc.resolver import nameservers

__all__ = ["RouteWatch", "concerns_routes", "uplinks"]

_ERROR, _OVERRUN = 2, 4  # NLMSG_…
_NEWLINK, _DELLINK, _NEWROUTE, _DELROUTE = 16, 17, 24, 25  # RTM_…
_GROUPS = 0x1 | 0x40 | 0x400  # RTMGRP_LINK, RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE
_HEADER = struct.Struct("=IHHII")
_ROUTE = struct.Struct("=BBBBBBBBI")  # rtmsg: family, length of the destination, …, type, flags
_UNICAST = 1  # RTN_UNICAST
_RTF_UP, _RTF_REJECT = 0x1, 0x200


def concerns_routes(data: bytes) -> bool:
    """Whether a datagram of the kernel's may tell of another default route, or of a link that came, went or changed.

    Anything is accepted: what is cut off or makes no sense ends the reading, and counts as a yes where a message had
    been lost.
    """
    return any(_matters(kind, body) for kind, body in _messages(data))


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, *_ = _HEADER.unpack_from(data, at)
        if not _HEADER.size <= length <= len(data) - at:
            return
        yield kind, data[at + _HEADER.size : at + length]
        at += (length + 3) & ~3


def _matters(kind: int, body: bytes) -> bool:
    if kind in (_NEWROUTE, _DELROUTE) and len(body) >= _ROUTE.size:
        _, length, _, _, _, _, _, route, _ = _ROUTE.unpack_from(body)
        return bool(length == 0 and route == _UNICAST)
    # IPv4 routes go without a word when their link goes down: the link's own message has to do.
    return kind in (_NEWLINK, _DELLINK, _ERROR, _OVERRUN)


def uplinks() -> Uplinks:
    """The default routes, links and nameservers of this network namespace, as they are now; 0.1 ms.

    Raises :class:`SystemFailure` where they cannot be read just now, as by a process that is out of descriptors: that
    is not the same as a host without a network.
    """
    try:
        routes = {*((4, link) for link in _ipv4()), *((6, link) for link in _ipv6())}
        return Uplinks(frozenset(routes), {name: index for index, name in socket.if_nameindex()}, nameservers())
    except OSError as error:
        raise SystemFailure.of(error, "cannot read the host's routes") from error


def _ipv4() -> Iterator[str]:
    """``/proc/net/route``: link, destination, gateway, flags, …, mask."""
    for line in _lines("/proc/self/net/route")[1:]:
        fields = line.split()
        if fields[1] == "00000000" and fields[7] == "00000000" and _usable(fields[3]):
            yield fields[0]


def _ipv6() -> Iterator[str]:
    """``/proc/net/ipv6_route``: destination, prefix length, …, flags, link."""
    for line in _lines("/proc/self/net/ipv6_route"):
        fields = line.split()
        if fields[1] == "00" and _usable(fields[8]) and fields[9] != "lo":
            yield fields[9]


def _lines(path: str) -> list[str]:
    """Of a file that a kernel without that protocol does not have, and that a sandbox may hide."""
    try:
        return Path(path).read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, PermissionError):
        return []


def _usable(flags: str) -> bool:
    return int(flags, 16) & (_RTF_UP | _RTF_REJECT) == _RTF_UP


class RouteWatch:
    """A socket that becomes readable when the kernel has something to say; never blocks.

    Opening raises :class:`SystemFailure` where the kernel offers no netlink (some sandboxes).
    """

    __slots__ = ("_socket",)

    def __init__(self) -> None:
        try:
            self._socket = socket.socket(
                socket.AF_NETLINK,
                socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
                socket.NETLINK_ROUTE,
            )
        except OSError as error:
            raise SystemFailure.of(error, "cannot watch the host's routes") from error
        try:
            self._socket.bind((0, _GROUPS))
        except OSError as error:
            self._socket.close()
            raise SystemFailure.of(error, "cannot watch the host's routes") from error

    def fileno(self) -> int:
        """For the event loop."""
        return self._socket.fileno()

    def read(self, most: int = 64) -> bool:
        """Take what there is, *most* datagrams at once; whether any of it may matter."""
        found = False
        for _ in range(most):
            try:
                found |= concerns_routes(self._socket.recv(1 << 16))
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise SystemFailure.of(error, "cannot watch the host's routes") from error
                found = True  # Some were lost; any of them may have mattered.
        return found

    def close(self) -> None:
        """Stop watching."""
        self._socket.close()
