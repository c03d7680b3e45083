"""A control group of its own for each guest, from the user's systemd (``org.freedesktop.systemd1.Manager``).

Without one QEMU and its helpers stay in the group of the daemon that started them, and are counted, limited and shown
as part of it.  All is best effort: a host without a user manager, or a Python without jeepney, runs guests as well.
jeepney (pure Python, no I/O of its own here) is loaded when there is a manager to talk to; it costs 0.3 MB.
"""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from virlet.errors import OperationFailed, OperationTimeout, OperationUnsupported, SystemFailure

if TYPE_CHECKING:
    from jeepney.low_level import Message

__all__ = ["Scope", "attach", "create", "in_group", "manager_socket"]

TIMEOUT = 5.0
"""Seconds for everything that one request needs; a manager answers within milliseconds."""
_NAME, _PATH, _INTERFACE = "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager"
_SLICE = "virlet.slice"
_ERROR, _RETURN = 3, 2
_MOST = 1 << 20
"""Bytes of one message that we read at most; an answer has a hundred."""


@dataclass(frozen=True, slots=True)
class Scope:
    """A transient scope unit, gone when the last process in it has ended."""

    unit: str
    """``virlet-….scope``."""
    description: str


def manager_socket(environ: Mapping[str, str]) -> Path | None:
    """Where the user's systemd is reached: by the user's bus, or by its own socket; None where there is none."""
    runtime = environ.get("XDG_RUNTIME_DIR")
    if not runtime or not (Path(runtime) / "systemd").is_dir():
        return None  # A bus alone has no manager on it (dbus-run-session, containers).
    for name in ("bus", "systemd/private"):
        path = Path(runtime) / name
        if path.is_socket():
            return path
    return None


def in_group(pid: int, unit: str, proc: Path = Path("/proc")) -> bool:
    """Whether that process is in the control group of *unit*, of whichever hierarchy (cgroups(7))."""
    try:
        lines = (proc / str(pid) / "cgroup").read_text().splitlines()
    except OSError:
        return False
    return any(unit in line.partition("/")[2].split("/") for line in lines)


async def create(path: Path, scope: Scope, pids: Sequence[int]) -> None:
    """Start *scope* with *pids* in it.

    :raises OperationUnsupported: Python has no jeepney.
    :raises SystemFailure: the socket cannot be used.
    :raises OperationFailed: systemd says no, in its words.
    :raises OperationTimeout: it says nothing.
    """
    properties = [
        ("Description", ("s", scope.description)),
        ("Slice", ("s", _SLICE)),
        ("PIDs", ("au", list(pids))),
        ("CollectMode", ("s", "inactive-or-failed")),
        ("TasksMax", ("t", (1 << 64) - 1)),
    ]
    await _ask(path, "StartTransientUnit", "ssa(sv)a(sa(sv))", (scope.unit, "fail", properties, []))


async def attach(path: Path, scope: Scope, pids: Sequence[int]) -> None:
    """Move *pids* into *scope*, which is there (systemd 238); raises as :func:`create`."""
    await _ask(path, "AttachProcessesToUnit", "ssau", (scope.unit, "", list(pids)))


async def _ask(path: Path, method: str, signature: str, body: tuple[object, ...]) -> None:
    try:
        async with asyncio.timeout(TIMEOUT):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as sock:
                sock.setblocking(False)
                await _talk(sock, path, method, signature, body)
    except TimeoutError:
        raise OperationTimeout(f"systemd ({path}) did not answer within {TIMEOUT:g} s") from None
    except OSError as error:
        raise SystemFailure.of(error, f"cannot talk to systemd by {path}") from error


async def _talk(sock: socket.socket, path: Path, method: str, signature: str, body: tuple[object, ...]) -> None:
    try:
        from jeepney import DBusAddress, new_method_call
    except ImportError:
        hint = "install python3-jeepney, or virlet[systemd]"
        raise OperationUnsupported("this Python has no jeepney to talk to systemd with", hint=hint) from None
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, str(path))
    await _authenticate(sock)
    if path.name == "bus":
        hello = DBusAddress("/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus")
        await _call(sock, new_method_call(hello, "Hello"), 1)
    # systemctl names the destination on systemd's own socket as well, where nobody looks at it.
    address = DBusAddress(_PATH, bus_name=_NAME, interface=_INTERFACE)
    await _call(sock, new_method_call(address, method, signature, body), 2)


async def _authenticate(sock: socket.socket) -> None:
    from jeepney.auth import BEGIN, AuthenticationError, Authenticator

    loop = asyncio.get_running_loop()
    steps = Authenticator()
    try:
        for said in steps:
            await loop.sock_sendall(sock, said)
            steps.feed(await _some(sock, 4096))
        await loop.sock_sendall(sock, BEGIN)
    except AuthenticationError as error:
        raise OperationFailed(f"the user's bus does not let us in: {error}") from None


async def _call(sock: socket.socket, message: Message, serial: int) -> None:
    """Send *message* and wait for its answer; what else comes is not for us."""
    from jeepney.low_level import HeaderFields

    await asyncio.get_running_loop().sock_sendall(sock, message.serialise(serial))
    while True:
        answer = await _message(sock)
        if answer.header.fields.get(HeaderFields.reply_serial) != serial:
            continue
        kind = int(answer.header.message_type.value)
        if kind == _ERROR:
            name = answer.header.fields.get(HeaderFields.error_name)
            said = answer.body[0] if answer.body and isinstance(answer.body[0], str) else ""
            raise OperationFailed(f"systemd says no: {said or name}")
        if kind == _RETURN:
            return


async def _message(sock: socket.socket) -> Message:
    from jeepney.low_level import Parser

    parser = Parser()
    try:
        while (found := parser.get_next_message()) is None:
            wanted = parser.bytes_desired()
            if not 0 < wanted <= _MOST:
                raise OperationFailed(f"a message of {wanted} bytes came from the user's bus")
            parser.add_data(await _some(sock, wanted))
    except (ValueError, LookupError, TypeError, AssertionError, struct.error, RecursionError) as error:
        raise OperationFailed(f"a message from the user's bus makes no sense: {error!r:.100}") from None
    return found


async def _some(sock: socket.socket, most: int) -> bytes:
    data = await asyncio.get_running_loop().sock_recv(sock, most)
    if not data:
        raise ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
    return data
