"""Is every forwarded port free before a helper starts, and does the helper listen on each of them afterwards?

passt of 2023 exits 0 and leaves a port that was taken to the stranger who has it, so an answer on the port proves
nothing: what counts is a new socket of our own user that was not there before.  (Whose process has it cannot be seen:
passt makes itself undumpable, which hides its descriptors even from its own user.)
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from virlet.enums import ErrorCode
from virlet.errors import BadConfig, OperationFailed, Problem
from virlet.plan.base import Forward
from virlet.proc.process import Process
from virlet.proc.sockets import Listeners, ListeningSocket, PortRange, holder, listeners

__all__ = ["conflicts", "ranges", "wait_listening"]

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_MAX_NAMED = 8
"""Problems told of one start: a stranger on a hundred ports is one story."""


@dataclass(frozen=True, slots=True)
class _Port:
    """One port of a forward."""

    forward: Forward
    number: int
    address: IPv4Address | IPv6Address | None

    @property
    def text(self) -> str:
        where = f" on {self.address}" if self.address is not None else ""
        if not self.number:
            return f"a {self.forward.proto.upper()} port{where}"
        return f"{self.forward.proto.upper()} port {self.number}{where}"

    def problem(self, why: str, hint: str | None = None) -> Problem:
        return Problem(self.forward.path, f"{self.text} {why}", hint, code=ErrorCode.OPERATION_FAILED)


def _ports(forwards: Iterable[Forward]) -> Iterator[_Port]:
    for forward in forwards:
        address = ip_address(forward.address) if forward.address is not None else None
        for number in range(forward.start, forward.end + 1):
            yield _Port(forward, number, address)


def ranges(forwards: Iterable[Forward]) -> Iterator[PortRange]:
    """The host ports of *forwards*, to ask :func:`~virlet.proc.sockets.listeners` about."""
    return (PortRange(forward.proto, forward.start, forward.end) for forward in forwards)


def conflicts(forwards: Sequence[Forward], before: Listeners, *, freebind: bool = False) -> list[Problem]:
    """Why the ports cannot be had: all that is known without disturbing anybody, each with who is in the way.

    Ports are looked up in *before*; the first port of each forward is bound for a moment as well, which finds an
    address that is not the host's (unless *freebind* says that it need not be), a missing link and a port too low for
    us.
    """
    problems: list[Problem] = []
    begun: tuple[_Port, int, str] | None = None
    """Ports in a row that one owner has: the first, the last, and who."""
    for port in _ports(forwards):
        stranger = next((each for each in before.on(port.forward.proto, port.number) if each.takes(port.address)), None)
        owner = before.owner(port.forward.proto, port.number) if stranger and stranger.uid == os.getuid() else None
        if owner is not None:
            if begun is not None and begun[0].forward is port.forward and begun[1:] == (port.number - 1, owner):
                begun = begun[0], port.number, owner
                problems[-1] = _owned(*begun)
            else:
                begun = port, port.number, owner
                problems.append(_owned(*begun))
        elif stranger is not None:
            problems.append(_taken(port, stranger))
        elif port.number == port.forward.start:
            problems.extend(_tried(port, freebind=freebind))
        if len(problems) == _MAX_NAMED:
            break
    return problems


def _taken(port: _Port, stranger: ListeningSocket) -> Problem:
    return port.problem(f"is taken by {holder(stranger)}", hint="use another port, or end that program")


def _owned(first: _Port, last: int, owner: str) -> Problem:
    hint = "use other ports, or end it"
    if last == first.number:
        return first.problem(f"is taken by {owner}", hint)
    where = f" on {first.address}" if first.address is not None else ""
    message = f"{first.forward.proto.upper()} ports {first.number} to {last}{where} are taken by {owner}"
    return Problem(first.forward.path, message, hint, code=ErrorCode.OPERATION_FAILED)


def _tried(port: _Port, *, freebind: bool = False) -> Iterator[Problem]:
    """Bind it for a moment; yields what the kernel says against it."""
    address = port.address or ip_address("0.0.0.0")
    family = socket.AF_INET if address.version == 4 else socket.AF_INET6
    try:
        with socket.socket(family, _KINDS[port.forward.proto] | socket.SOCK_CLOEXEC) as probe:
            if port.forward.proto == "tcp":
                # As passt does: a connection of yesterday in TIME_WAIT is nobody's.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if port.forward.device is not None:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, port.forward.device.encode() + b"\0")
            probe.bind((str(address), port.number))
    except OSError as error:
        if not (freebind and error.errno == errno.EADDRNOTAVAIL):
            yield _refusal(port, error)


def _refusal(port: _Port, error: OSError) -> Problem:
    if error.errno == errno.EACCES:
        return port.problem(
            "is too low for an ordinary user",
            hint=f"use a higher port, or ask root for: sysctl net.ipv4.ip_unprivileged_port_start={port.number}",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return port.problem("cannot be bound: this host has no such address", hint="see: ip address")
    if error.errno == errno.ENODEV:
        return port.problem(f"cannot be bound: there is no interface '{port.forward.device}'", hint="see: ip link")
    if error.errno == errno.EADDRINUSE:
        return port.problem("is taken", hint="use another port; to find the program: ss -lntup")
    return port.problem(f"cannot be bound: {os.strerror(error.errno or 0)}")


def _listened(port: _Port, now: Listeners, before: Listeners, uid: int) -> bool:
    return any(
        each.uid == uid and each.inode not in before.inodes and (each.wildcard or each.address == port.address)
        for each in now.on(port.forward.proto, port.number)
    )


def _missing(forwards: Sequence[Forward], now: Listeners, before: Listeners) -> list[_Port]:
    uid = os.getuid()
    return [port for port in _ports(forwards) if not _listened(port, now, before, uid)]


async def wait_listening(
    process: Process, forwards: Sequence[Forward], before: Listeners, *, timeout: float = 5.0
) -> None:
    """Return when *process* listens on every port of *forwards*.

    *before* is who listened on them before it was started.  The kernel has no event for "somebody listens now", so its
    table is read after 1, 2, 4 … 50 ms; the end of the process ends the wait at once.

    :raises OperationFailed: the process ended first.  The caller knows its log, and should show its end.
    :raises BadConfig: a port is not listened on: a problem for each, with who has it.
    """
    delay, left = 0.001, timeout
    while True:
        now = listeners(ranges(forwards))
        absent = _missing(forwards, now, before)
        if not absent:
            return
        taken = [(port, each) for port in absent if (each := _stranger(port, now, before)) is not None]
        if taken:
            raise BadConfig(_taken(*pair) for pair in taken[:_MAX_NAMED])
        if left <= 0:
            raise BadConfig(_unheard(process, port) for port in absent[:_MAX_NAMED])
        if await process.ended_within(delay):
            raise OperationFailed(f"{process.name} ended with {process.status} before it listened on its ports")
        left -= delay
        delay = min(delay * 2, 0.05)


def _stranger(port: _Port, now: Listeners, before: Listeners) -> ListeningSocket | None:
    for each in now.on(port.forward.proto, port.number):
        if each.takes(port.address) and (each.inode in before.inodes or each.uid != os.getuid()):
            return each
    return None


def _unheard(process: Process, port: _Port) -> Problem:
    return next(_tried(port), None) or port.problem(f"is not listened on by {process.name}", hint="see its log")
