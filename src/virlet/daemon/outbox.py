"""What one client is sent: at once as far as its socket takes it, the rest when it takes more, and not without end."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from typing import Protocol

from virlet.daemon.listener import Peer

__all__ = ["Outbox", "Sender"]

log = logging.getLogger(__name__)

HIGH = 262_144
"""Bytes waiting to be sent above which nothing more is read from that client."""
MOST = 40_000_000
"""Bytes waiting to be sent above which the client is dropped: one reply of the greatest size and many events."""
STALLED = 30.0
"""Seconds after which a client that takes none of the bytes waiting for it is dropped, as keepalive would."""


class Sender(Protocol):
    """The connection, as its outbox sees it."""

    def taken(self) -> None:
        """The client has taken some of what waited."""
        ...

    def close(self) -> None:
        """There is nobody to send to."""
        ...


class Outbox:
    """The bytes on their way to one client."""

    __slots__ = ("_dropped", "_loop", "_peer", "_progress", "_sender", "_sock", "_stall", "_unsent", "waiting")

    def __init__(self, sock: socket.socket, peer: Peer, sender: Sender) -> None:
        self.waiting = 0
        """Bytes that the socket has not taken yet."""
        self._sock = sock
        self._peer = peer
        self._sender = sender
        self._loop = asyncio.get_running_loop()
        self._unsent: deque[memoryview] = deque()
        self._progress = 0
        self._stall: asyncio.TimerHandle | None = None
        self._dropped = False

    @property
    def full(self) -> bool:
        """Enough waits for now: what would make more of it should not be begun."""
        return self.waiting > HIGH

    def send(self, data: bytes) -> None:
        """Send *data* now as far as the socket takes it, the rest when it takes more."""
        if self._unsent:
            self._queue(data)
            return
        if self._dropped:
            return
        try:
            sent = self._sock.send(data)
        except (BlockingIOError, InterruptedError):
            sent = 0
        except OSError as error:
            log.debug("%r: %s", self._peer, error)
            self._drop()
            return
        if sent < len(data):
            self._loop.add_writer(self._sock.fileno(), self._writable)
            self._queue(data[sent:])

    def _queue(self, data: bytes) -> None:
        self._unsent.append(memoryview(data))
        self.waiting += len(data)
        if self.waiting > MOST:
            log.warning("%r does not take what it asked for: dropped", self._peer)
            self._drop()
        elif self._stall is None:
            self._stall = self._loop.call_later(STALLED, self._check_progress, self._progress)

    def _drop(self) -> None:
        """Close soon, and send nothing more: not at once, for a handler may be at work further up the stack."""
        self._dropped = True
        self._forget()
        self._loop.call_soon(self._sender.close)

    def _forget(self) -> None:
        self._unsent.clear()
        self.waiting = 0

    def _check_progress(self, before: int) -> None:
        self._stall = None
        if self._unsent and self._progress == before:
            log.warning("%r took nothing for %d s: dropped", self._peer, STALLED)
            self._sender.close()
        elif self._unsent:
            self._stall = self._loop.call_later(STALLED, self._check_progress, self._progress)

    def _writable(self) -> None:
        try:
            while self._unsent:
                head = self._unsent[0]
                sent = self._sock.send(head)
                self._progress += sent
                self.waiting -= sent
                if sent < len(head):
                    self._unsent[0] = head[sent:]
                    break
                self._unsent.popleft()
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.debug("%r: %s", self._peer, error)
            self._sender.close()
            return
        if not self._unsent:
            self._loop.remove_writer(self._sock.fileno())
        self._sender.taken()

    def close(self) -> None:
        """Send nothing more; the socket is still its owner's to close."""
        if self._stall is not None:
            self._stall.cancel()
        self._loop.remove_writer(self._sock.fileno())
        self._forget()
