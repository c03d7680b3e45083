"""The descriptors that a plan names, opened: sockets bound and dialled, pairs made, logs opened.

Every descriptor is registered with the caller's exit stack, so that a failed start closes what it opened; once a
child has its copy, ours is closed as well.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from virlet.errors import SystemFailure
from virlet.plan.base import Dial, FdSource, Listener, LogFile, PairEnd
from virlet.proc.logfile import open_log

__all__ = ["FdTable", "dial", "listen"]


def listen(path: Path, backlog: int = 1) -> socket.socket:
    """A listening UNIX socket at *path*, readable to nobody else; raises :class:`SystemFailure`.

    A socket that a dead process left there is replaced: the directory is the guest's own.
    """
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        # The mode of the socket before bind is that of the file after it (Linux, unix_bind), so no umask is changed
        # under the feet of other threads.
        os.fchmod(sock.fileno(), 0o600)
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot listen on '{path}'", hint=_too_long(path)) from error
    return sock


def dial(path: Path) -> socket.socket:
    """A connection to the UNIX socket at *path*, possibly still in its backlog; raises :class:`SystemFailure`."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(str(path))
        sock.setblocking(True)
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot connect to '{path}'") from error
    return sock


def _too_long(path: Path) -> str | None:
    if len(os.fsencode(path)) >= 108:
        return "the path of a UNIX socket has at most 107 bytes: set XDG_RUNTIME_DIR to a shorter directory"
    return None


class FdTable:
    """What every source of a plan became; the same source is the same descriptor."""

    __slots__ = ("_fds", "_paths", "_stack")

    def __init__(self) -> None:
        self._fds: dict[FdSource, int] = {}
        self._paths: list[Path] = []
        self._stack = ExitStack()

    def __enter__(self) -> FdTable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getitem__(self, source: FdSource) -> int:
        return self._fds[source]

    def __contains__(self, source: object) -> bool:
        return source in self._fds

    @property
    def paths(self) -> tuple[Path, ...]:
        """The sockets that were bound."""
        return tuple(self._paths)

    def open(self, sources: Iterable[FdSource]) -> None:
        """Open what is not open yet, listeners first: a connection may be dialled to one of them."""
        for source in sorted(sources, key=lambda item: isinstance(item, Dial)):
            if source not in self._fds:
                self._open(source)

    def _open(self, source: FdSource) -> None:
        match source:
            case Listener(path, backlog):
                self._fds[source] = self._keep(listen(path, backlog).detach())
                self._paths.append(path)
            case Dial(path):
                self._fds[source] = self._keep(dial(path).detach())
            case PairEnd(name, _, datagram):
                kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
                for end, sock in enumerate(socket.socketpair(socket.AF_UNIX, kind)):
                    self._fds[PairEnd(name, end, datagram)] = self._keep(sock.detach())
            case LogFile(path, truncate):
                self._fds[source] = self._keep(open_log(path, truncate=truncate))

    def _keep(self, fd: int) -> int:
        self._stack.callback(os.close, fd)
        return fd

    def close(self) -> None:
        """Close our copies; the children keep theirs."""
        self._stack.close()
        self._fds.clear()

    def unlink(self) -> None:
        """Remove the sockets that were bound."""
        for path in self._paths:
            with suppress(OSError):
                path.unlink()
