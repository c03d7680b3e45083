"""A byte stream on the event loop: a socket that keeps passed descriptors, or a terminal or pipe.

asyncio's own transports read with ``recv`` and lose what came by SCM_RIGHTS, and Python 3.11 has no ``sock_recvmsg``.
Here the loop's reader callback reads and hands the bytes on at once: no task, no buffer on the way in.  On the way out
bytes are tried at once; what the peer does not take waits in a buffer of bounded size.
"""

from __future__ import annotations

import array
import asyncio
import errno
import os
import socket
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from virlet.errors import OperationFailed

__all__ = ["FdStream", "Handlers", "SocketStream"]

READ_SIZE = 1 << 16
"""Bytes read in one turn of the loop: one connection must not keep the others waiting."""
HIGH_WATER = 1 << 20
"""Bytes waiting to be written at which the writer is asked to pause."""
LOW_WATER = HIGH_WATER // 4
MAX_BUFFER = 64 << 20
"""Bytes waiting to be written at which the peer counts as dead: nobody may fill our memory by not reading."""
MAX_FDS = 32
"""Descriptors taken with one read (libvirt passes at most 32 with one call); more are closed by the kernel."""

_GONE = frozenset({errno.EPIPE, errno.ECONNRESET, errno.EIO})
"""How a peer that went away shows itself; EIO is a terminal whose other side was closed."""


def _nothing() -> None:
    """The default of a notification that nobody wants."""


@dataclass(frozen=True, slots=True)
class Handlers:
    """What a stream calls, always from the event loop, never from inside a call of its user."""

    data: Callable[[bytes, list[int]], None]
    """Bytes came, and the descriptors that came with them: whoever is called closes those."""
    closed: Callable[[Exception | None], None]
    """The stream has ended, and this is the last call: None at its regular end, else what went wrong."""
    pause: Callable[[], None] = _nothing
    """Much waits to be written: stop writing until *resume*."""
    resume: Callable[[], None] = _nothing


class _Stream:
    """What both kinds share; the three primitives at the end differ."""

    def __init__(self, fd: int, handlers: Handlers) -> None:
        os.set_blocking(fd, False)
        self._loop = asyncio.get_running_loop()
        self._fd = fd
        self._handlers = handlers
        self._out: deque[tuple[memoryview, int]] = deque()
        """Bytes to write, and the descriptor that goes with the first of them (-1: none; ours until sent)."""
        self._waiting = 0
        self._reading = self._writing = self._paused = self._closing = False
        self._drained: asyncio.Future[None] | None = None
        self.resume_reading()

    @property
    def closed(self) -> bool:
        """Nothing is read or written any more."""
        return self._fd < 0

    @property
    def waiting(self) -> int:
        """Bytes written that the peer has not taken."""
        return self._waiting

    def pause_reading(self) -> None:
        """Leave what comes in the kernel's buffer, so that the peer has to wait.  The peer's end goes unnoticed."""
        if self._reading:
            self._loop.remove_reader(self._fd)
            self._reading = False

    def resume_reading(self) -> None:
        """The opposite; nothing on a stream that has ended."""
        if not self._reading and not self._closing and self._fd >= 0:
            self._loop.add_reader(self._fd, self._on_readable)
            self._reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send *data*, now or when the peer takes it; what is written to a stream that has ended is dropped.

        *data* must not be changed afterwards.
        """
        if len(data):
            self._put(memoryview(data).cast("B"), -1)

    async def drain(self) -> None:
        """Wait until everything written has been taken, or the stream has ended."""
        if self._out and self._fd >= 0:
            if self._drained is None:
                self._drained = self._loop.create_future()
            await asyncio.shield(self._drained)

    def close(self) -> None:
        """Stop reading, write what waits, then end; ``closed`` is called with None."""
        self.pause_reading()
        self._closing = True
        if not self._out:
            self._finish(None)

    def abort(self, error: Exception | None = None) -> None:
        """End at once; what waits is dropped."""
        self._finish(error)

    def _put(self, data: memoryview, fd: int) -> None:
        if self._fd < 0 or self._closing:
            if fd >= 0:
                os.close(fd)
            return
        self._out.append((data, fd))
        self._waiting += len(data)
        if not self._writing:
            self._flush()
        if self._waiting > MAX_BUFFER:
            self._finish(OperationFailed(f"the peer leaves {self._waiting} bytes unread"))
        elif self._waiting > HIGH_WATER and not self._paused:
            self._paused = True
            self._loop.call_soon(self._handlers.pause)

    def _flush(self) -> None:
        """Write until nothing waits or the peer takes no more."""
        try:
            while self._out:
                data, fd = self._out[0]
                sent = self._send(data, fd)
                self._waiting -= sent
                if fd >= 0:
                    os.close(fd)
                if sent < len(data):
                    self._out[0] = (data[sent:], -1)
                else:
                    self._out.popleft()
        except (BlockingIOError, InterruptedError):
            pass
        except OSError as error:
            self._finish(None if error.errno in _GONE else error)
            return
        self._after_flush()

    def _after_flush(self) -> None:
        if bool(self._out) != self._writing:
            self._writing = not self._writing
            if self._writing:
                self._loop.add_writer(self._fd, self._flush)
            else:
                self._loop.remove_writer(self._fd)
        if self._paused and self._waiting <= LOW_WATER:
            self._paused = False
            self._loop.call_soon(self._handlers.resume)
        if not self._out:
            self._wake()
            if self._closing:
                self._finish(None)

    def _wake(self) -> None:
        if self._drained is not None and not self._drained.done():
            self._drained.set_result(None)
        self._drained = None

    def _on_readable(self) -> None:
        try:
            data, fds = self._receive()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._finish(None if error.errno in _GONE else error)
            return
        if data:
            self._handlers.data(data, fds)
            return
        for fd in fds:
            os.close(fd)
        self._finish(None)

    def _finish(self, error: Exception | None) -> None:
        if self._fd < 0:
            return
        self.pause_reading()
        if self._writing:
            self._loop.remove_writer(self._fd)
            self._writing = False
        self._close_fd()
        self._fd = -1
        for _, fd in self._out:
            if fd >= 0:
                os.close(fd)
        self._out.clear()
        self._waiting = 0
        self._wake()
        self._loop.call_soon(self._handlers.closed, error)

    def _receive(self) -> tuple[bytes, list[int]]:
        raise NotImplementedError

    def _send(self, data: memoryview, fd: int) -> int:
        raise NotImplementedError

    def _close_fd(self) -> None:
        raise NotImplementedError


class SocketStream(_Stream):
    """A connected stream socket, which it takes over; over a UNIX socket descriptors can be passed both ways.

    Belongs to the running event loop, and reads from the start.
    """

    def __init__(self, sock: socket.socket, handlers: Handlers) -> None:
        self._socket = sock
        super().__init__(sock.fileno(), handlers)

    def write_fd(self, fd: int, data: bytes = b"\0") -> None:
        """Send a copy of *fd* with the first byte of *data*; the caller's stays open.

        One descriptor a message: what libvirt does, and the kernel keeps its place among the bytes.
        """
        self._put(memoryview(data), os.dup(fd))

    def _receive(self) -> tuple[bytes, list[int]]:
        space = socket.CMSG_SPACE(MAX_FDS * array.array("i").itemsize)
        data, ancillary, _, _ = self._socket.recvmsg(READ_SIZE, space, socket.MSG_CMSG_CLOEXEC)
        fds = array.array("i")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
        return data, list(fds)

    def _send(self, data: memoryview, fd: int) -> int:
        if fd < 0:
            return self._socket.send(data)
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        return self._socket.sendmsg([data], [rights])

    def _close_fd(self) -> None:
        self._socket.close()


class FdStream(_Stream):
    """A terminal, pipe or the like that is open for reading and writing; takes *fd* over.

    No descriptors come or go with it: ``data`` is called with an empty list.
    """

    def _receive(self) -> tuple[bytes, list[int]]:
        return os.read(self._fd, READ_SIZE), []

    def _send(self, data: memoryview, fd: int) -> int:
        return os.write(self._fd, data)

    def _close_fd(self) -> None:
        os.close(self._fd)
