"""A socket that is there for one connection: made when that is wanted, gone when it has come.

What QEMU dials must not be there without need: a vhost-user connection that nobody answers stops the guest.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from types import TracebackType

from virlet.engine.fds import listen
from virlet.engine.files import make_private
from virlet.errors import OperationTimeout, SystemFailure
from virlet.proc.process import Process

__all__ = ["DIAL_WAIT", "Door"]

DIAL_WAIT = 30.0
"""Seconds for a QEMU that starts to dial: 20 ms, unless it has gigabytes of memory to touch first."""


class Door:
    """A UNIX stream socket at a path, until one has connected to it; raises :class:`SystemFailure` when made.

    The directory is made again where it has vanished (a runtime directory is deleted at the last log-out).
    """

    def __init__(self, path: Path) -> None:
        make_private(path.parent)
        self.path = path
        self._sock: socket.socket | None = listen(path)
        self._sock.setblocking(False)
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Future[None] = self._loop.create_future()
        self._peer: socket.socket | None = None
        self._loop.add_reader(self._sock.fileno(), self._accept, self._sock)

    def __enter__(self) -> Door:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if self._peer is not None:
            self._peer.close()

    async def accept(self) -> socket.socket | None:
        """Wait for the connection, which is the caller's then; None when the door was closed instead.

        Raises :class:`SystemFailure` when it came and could not be let in, as by a daemon that is out of descriptors.
        """
        await asyncio.shield(self._came)
        peer, self._peer = self._peer, None
        return peer

    async def accept_from(self, process: Process) -> socket.socket | None:
        """The same, from *process*; None also when that has ended.  Raises :class:`OperationTimeout`."""
        process.on_exit(lambda _: self.close())
        try:
            async with asyncio.timeout(DIAL_WAIT):
                return await self.accept()
        except TimeoutError:
            raise OperationTimeout(f"{process.name} has not connected to '{self.path}'") from None

    def _accept(self, sock: socket.socket) -> None:
        try:
            self._peer, _ = sock.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # Whoever had come is gone again.
        except OSError as error:
            # It would be at the door without end.  Closing hangs up on it, and whoever waits may open another one.
            self._came.set_exception(SystemFailure.of(error, f"cannot accept a connection at '{self.path}'"))
            self._came.exception()  # Perhaps nobody waits.
        self.close()

    def close(self) -> None:
        """Nobody is let in any more."""
        sock, self._sock = self._sock, None
        if sock is None:
            return
        self._loop.remove_reader(sock.fileno())
        sock.close()
        self.path.unlink(missing_ok=True)
        if not self._came.done():
            self._came.set_result(None)
