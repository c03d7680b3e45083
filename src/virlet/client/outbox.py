"""What the asyncio client sends, descriptors too: at once what the server takes, the rest when it takes more."""

from __future__ import annotations

import asyncio
import os
import socket
from collections import deque
from collections.abc import Callable, Sequence

from virlet.client.transport import send_fd

__all__ = ["Outbox"]

UNSENT = 1 << 20
"""Bytes that may wait to be sent before a stream's writer has to wait."""


class _Passed:
    """A copy of a descriptor on its way to the server: the caller may close its own meanwhile."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = os.dup(fd)

    def send(self, sock: socket.socket) -> int:
        """Send it with its byte, and close the copy; the number of bytes.  Raises OSError."""
        send_fd(sock, self._fd)
        self.close()
        return 1

    def close(self) -> None:
        """It will not be sent."""
        os.close(self._fd)


class Outbox:
    """The bytes and descriptors on their way to the server; *failed* is called with what ended that."""

    __slots__ = ("_drained", "_failed", "_loop", "_sock", "_unsent", "_waiting")

    def __init__(self, sock: socket.socket, failed: Callable[[OSError], None]) -> None:
        self._sock = sock
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[bytes | _Passed] = deque()
        self._waiting = 0
        self._drained = asyncio.Event()
        self._drained.set()

    def send(self, data: bytes, fds: Sequence[int] = ()) -> None:
        """Send *data*, and copies of *fds*, each with one byte of its own, behind it.

        Raises OSError when there is no descriptor left for the copies; then nothing is sent.
        """
        if fds:
            self._queue(data, *_copies(fds))
            return
        if not self._unsent:
            try:
                sent = self._sock.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self._failed(error)
                return
            if sent == len(data):
                return
            data = data[sent:]
        self._queue(data)

    def _queue(self, data: bytes, *copies: _Passed) -> None:
        if not self._unsent:
            self._loop.add_writer(self._sock, self._writable)
        self._unsent += [data, *copies]
        self._waiting += len(data) + len(copies)
        if self._waiting > UNSENT:
            self._drained.clear()

    async def drain(self) -> None:
        """Wait until the server has taken most of what was sent."""
        await self._drained.wait()

    def _writable(self) -> None:
        head = self._unsent[0]
        try:
            sent = head.send(self._sock) if isinstance(head, _Passed) else self._sock.send(head)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        self._waiting -= sent
        if isinstance(head, _Passed) or sent == len(head):
            self._unsent.popleft()
        else:
            self._unsent[0] = head[sent:]
        if not self._unsent:
            self._loop.remove_writer(self._sock)
        if self._waiting <= UNSENT // 2:
            self._drained.set()

    def close(self) -> None:
        """Send nothing more; the socket is still its owner's to close."""
        for item in self._unsent:
            if isinstance(item, _Passed):
                item.close()
        self._unsent.clear()
        self._drained.set()
        if self._sock.fileno() >= 0:
            self._loop.remove_writer(self._sock)


def _copies(fds: Sequence[int]) -> list[_Passed]:
    copies: list[_Passed] = []
    try:
        for fd in fds:
            copies.append(_Passed(fd))
    except OSError:
        for copy in copies:
            copy.close()
        raise
    return copies
