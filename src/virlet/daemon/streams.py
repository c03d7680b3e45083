"""A console as a stream: bytes pumped both ways between a descriptor and a client, neither waiting for the other.

One chunk is in flight: while the client has not taken the last one the console is not read, so a slow client costs
no memory; its input counts as held until the console takes it, which stops the reading of that client.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections import deque
from collections.abc import Callable
from typing import Protocol

from virlet.engine.api import Console
from virlet.enums import ErrorDomain
from virlet.errors import RpcError
from virlet.wire.link import ServerLink, StreamId

__all__ = ["ConsoleStream", "Outlet"]

log = logging.getLogger(__name__)

CHUNK = 65_536
"""Bytes read from a console at a time; the protocol would allow 262 120."""


class Outlet(Protocol):
    """The connection, as a stream sees it."""

    @property
    def congested(self) -> bool: ...

    def send(self, data: bytes) -> None: ...

    def stream_gone(self, stream: StreamId) -> None: ...


class ConsoleStream:
    """The pump of one open console."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, link: ServerLink, stream: StreamId, console: Console, outlet: Outlet
    ) -> None:
        self._loop = loop
        self._link = link
        self._stream = stream
        self._console = console
        self._outlet = outlet
        self._input: deque[tuple[bytes, Callable[[], None]]] = deque()
        self._reading = False
        self._ended = False
        """The console has no more to say; the client still has to finish."""
        self._closed = False

    def start(self) -> None:
        """The reply is on its way: begin."""
        self._console.on_taken(self._taken)
        self.resume()

    def resume(self) -> None:
        """Everything sent so far has been taken: read on."""
        if not (self._reading or self._ended or self._closed):
            self._reading = True
            self._loop.add_reader(self._console.fileno(), self._readable)

    def _pause(self) -> None:
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._console.fileno())

    def _readable(self) -> None:
        try:
            data = os.read(self._console.fileno(), CHUNK)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            data = b""  # EIO: nobody has the other side of the pty open, the guest is gone
        if not data:
            self._pause()
            self._ended = True
            self._drop_input()
        self._outlet.send(self._link.stream_data(self._stream, data))
        if self._outlet.congested:
            self._pause()

    def write(self, data: bytes, done: Callable[[], None]) -> None:
        """Give *data* to the console; *done* is called when it was taken or has nowhere to go."""
        if self._ended or self._closed or not data:
            done()
            return
        self._input.append((data, done))
        if len(self._input) == 1:
            self._writable()

    def _writable(self) -> None:
        while self._input:
            data, done = self._input[0]
            try:
                taken = os.write(self._console.fileno(), data)
            except (BlockingIOError, InterruptedError):
                self._loop.add_writer(self._console.fileno(), self._writable)
                return
            except OSError as error:
                log.debug("console input: %s", error)
                self._drop_input()
                return
            if taken < len(data):
                self._input[0] = (data[taken:], done)
                continue
            self._input.popleft()
            done()
            if self._closed:
                return
        self._loop.remove_writer(self._console.fileno())

    def _drop_input(self) -> None:
        if self._console.fileno() >= 0:
            self._loop.remove_writer(self._console.fileno())
        waiting, self._input = self._input, deque()
        for _, done in waiting:
            done()

    def _taken(self) -> None:
        """Somebody else took the console by force."""
        if self._closed:
            return
        error = RpcError("stream had I/O failure", domain=ErrorDomain.STREAMS)
        self._outlet.send(self._link.stream_error(self._stream, error))
        self.close()

    def finish(self) -> None:
        """The client is done, or gave up: both are answered with the end."""
        self._outlet.send(self._link.stream_finish(self._stream))
        self.close()

    def close(self) -> None:
        """Let go of the console."""
        if self._closed:
            return
        self._closed = True
        self._pause()
        self._drop_input()
        self._console.close()
        self._outlet.stream_gone(self._stream)
