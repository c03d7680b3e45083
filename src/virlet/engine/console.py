"""Serial consoles and channels of a running guest, opened for one user at a time."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable

from virlet.engine.guest import Guest, Run
from virlet.enums import ConsoleFlags, ErrorDomain
from virlet.errors import InternalError, OperationFailed, SystemFailure
from virlet.model.chardev import Channel, ChardevType, Parallel, Serial
from virlet.model.chardev import Console as ConsoleDevice

__all__ = ["Line", "open_channel", "open_console"]

Device = Serial | Parallel | ConsoleDevice | Channel


class Line:
    """An open console or channel (see :class:`virlet.engine.api.Console`)."""

    __slots__ = ("_fd", "_key", "_run", "_taken")

    def __init__(self, run: Run, key: str, fd: int) -> None:
        self._run = run
        self._key = key
        self._fd = fd
        self._taken: Callable[[], None] | None = None
        run.consoles[key] = self._take

    def fileno(self) -> int:
        """The non-blocking descriptor; -1 when closed."""
        return self._fd

    def on_taken(self, callback: Callable[[], None]) -> None:
        """Call *callback* when somebody else took the console by FORCE."""
        self._taken = callback

    def close(self) -> None:
        """Let go of it; the next user may come."""
        if self._run.consoles.get(self._key) == self._take:
            del self._run.consoles[self._key]
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _take(self) -> None:
        self._run.consoles.pop(self._key, None)
        if self._taken is not None:
            self._taken()


def open_console(guest: Guest, device: str | None, flags: int) -> Line:
    """Open the console (or serial or parallel port) called *device*, or the first; raises libvirt's errors."""
    run = guest.running()
    found = _console(guest, device)
    if found is None:
        raise InternalError(f"cannot find character device {device or '(null)'}", domain=ErrorDomain.QEMU)
    path = found.source.path if found.source is not None else None
    if found.type is not ChardevType.PTY or not path:
        raise InternalError(f"character device {found.alias} is not using a PTY", domain=ErrorDomain.QEMU)
    return _open(run, found, flags, lambda: _pty(path))


def _console(guest: Guest, name: str | None) -> Device | None:
    devices = guest.domain.devices
    lines: tuple[Device, ...] = (*devices.consoles, *devices.serials, *devices.parallels)
    if name is None:
        return next(iter(lines), None)
    return next((line for line in lines if line.alias == name), None)


def open_channel(guest: Guest, name: str | None, flags: int) -> Line:
    """Open the channel with the target name *name*, or the first; raises libvirt's errors."""
    run = guest.running()
    channels = guest.domain.devices.channels
    found = next((each for each in channels if name is None or name in (each.target_name, each.alias)), None)
    if found is None:
        raise InternalError(f"cannot find channel {name or '(null)'}", domain=ErrorDomain.QEMU)
    path = found.source.path if found.source is not None else None
    if found.type not in (ChardevType.PTY, ChardevType.UNIX) or not path:
        raise InternalError(f"channel {found.target_name} is not using a UNIX socket", domain=ErrorDomain.QEMU)
    opener = _pty if found.type is ChardevType.PTY else _unix
    return _open(run, found, flags, lambda: opener(path))


def _open(run: Run, device: Device, flags: int, opener: Callable[[], int]) -> Line:
    # The alias of a console that is a serial port is that port's: one line, one user.
    key = device.alias or ""
    taken = run.consoles.get(key)
    if taken is not None and not flags & ConsoleFlags.FORCE:
        raise OperationFailed(
            "Active console session exists for this domain", domain=ErrorDomain.QEMU, hint="take it with --force"
        )
    fd = opener()
    if taken is not None:
        taken()
    return Line(run, key, fd)


def _pty(path: str) -> int:
    try:
        # O_NOCTTY: a daemon that leads a session would get the guest's console as its terminal.
        return os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot open the terminal '{path}'") from error


def _unix(path: str) -> int:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(path)
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot connect to '{path}'") from error
    return sock.detach()
