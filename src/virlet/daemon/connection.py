"""One client's socket: bytes in, calls begun, within limits that no client can exceed; answers go by its outbox.

Everything runs in callbacks of the event loop.  A call that only reads is answered before the callback that read it
returns; a task exists only for a call that waits.  At most :data:`REQUESTS` calls and stream packets of a client are
held at a time: then its socket is not read until one is done, and nothing is refused.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any

from virlet.daemon.dispatch import Handler, begin, blame, waits
from virlet.daemon.fds import ANCILLARY, close_all, received
from virlet.daemon.listener import Peer
from virlet.daemon.outbox import Outbox
from virlet.daemon.session import Host, Session
from virlet.daemon.streams import ConsoleStream
from virlet.engine.api import Console
from virlet.errors import RpcError
from virlet.wire import qemu, remote, virlet
from virlet.wire.link import Broken, Call, ServerEvent, ServerLink, StreamData, StreamHole, StreamId
from virlet.wire.packet import PING
from virlet.wire.procedure import AnyProcedure, StreamKind
from virlet.wire.pulse import Beat, Pulse

__all__ = ["Connection"]

log = logging.getLogger(__name__)

REQUESTS = 5
"""Calls and stream packets of one client held at a time (libvirtd's ``max_client_requests``)."""
READ_LEAST, READ_MOST = 256, 65_536
"""Bytes read of one client at a time: a few small calls, or the rest of one that has begun.

So a client that sends many calls at once takes turns with the others: 2000 of them fit into the largest read, and would
keep everybody waiting for 20 ms.
"""
PING_INTERVAL = 5.0
PING_COUNT = 5
"""libvirtd's defaults."""

PROGRAMS = frozenset((remote.PROGRAM.id, qemu.PROGRAM.id, virlet.PROGRAM.id))
"""What we answer to; calls of theirs that have no handler are "not supported" rather than unknown."""


class Connection:
    """A client that has been let in."""

    __slots__ = (
        "_closing",
        "_draining",
        "_held",
        "_link",
        "_loop",
        "_on_close",
        "_out",
        "_pulse",
        "_quiet",
        "_reading",
        "_room",
        "_sock",
        "_streams",
        "_table",
        "_tasks",
        "_timer",
        "_waiting",
        "peer",
        "session",
    )

    def __init__(
        self,
        sock: socket.socket,
        peer: Peer,
        host: Host,
        table: dict[AnyProcedure, Handler],
        on_close: Callable[[Connection], None],
    ) -> None:
        self.peer = peer
        self.session = Session(host, self)
        self._sock = sock
        self._table = table
        self._on_close = on_close
        self._loop = asyncio.get_running_loop()
        self._link = ServerLink(PROGRAMS)
        self._waiting: deque[ServerEvent] = deque()
        """Events that came while too many calls were held."""
        self._held = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._streams: dict[StreamId, ConsoleStream] = {}
        self._out = Outbox(sock, peer, self)
        self._pulse: Pulse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._closing = False
        self._draining = False
        self._quiet = False
        self._reading = True
        self._room = READ_LEAST
        self._loop.add_reader(sock.fileno(), self._readable)

    # Bytes in

    def _readable(self) -> None:
        try:
            data, ancillary, _, _ = self._sock.recvmsg(self._room, ANCILLARY, socket.MSG_CMSG_CLOEXEC)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            log.debug("%r: %s", self.peer, error)
            self.close()
            return
        if not data:
            self.close()
            return
        if self._pulse is not None:
            self._pulse.received(self._loop.time())
        events = self._link.feed(data, received(ancillary) if ancillary else ())
        self._room = min(max(self._link.missing, READ_LEAST), READ_MOST)
        if answers := self._link.to_send():
            self.send(answers)
        if self._link.unwanted:
            close_all(self._link.unwanted)
            self._link.unwanted.clear()
        if len(events) == 1 and not self._waiting:
            self._handle(events[0])
            if self._held or self._out.waiting or self._closing:
                self._throttle()
        else:
            self._waiting.extend(events)
            self._pump()

    @property
    def _full(self) -> bool:
        """Whether this client has enough of ours for now: calls at work, or answers that it has not taken."""
        return self._held >= REQUESTS or self._out.full or self._quiet

    def _pump(self) -> None:
        """Begin what waits, as far as it may, and read exactly while more may come."""
        if self._draining:
            return  # the loop below is at work further up the stack
        self._draining = True
        try:
            while self._waiting and not self._full:
                self._handle(self._waiting.popleft())
        finally:
            self._draining = False
        self._throttle()

    def _throttle(self) -> None:
        if self._sock.fileno() < 0:
            return
        wanted = not (self._full or self._waiting or self._closing)
        if wanted is not self._reading:
            self._reading = wanted
            if wanted:
                self._loop.add_reader(self._sock.fileno(), self._readable)
            else:
                self._loop.remove_reader(self._sock.fileno())

    def _done(self) -> None:
        """Something that was held is not any more."""
        self._held -= 1
        self._pump()

    # Calls

    def _handle(self, event: ServerEvent) -> None:
        if self._closing:
            if isinstance(event, Call):
                close_all(event.fds)
        elif type(event) is Call:
            self._call(event)
        elif isinstance(event, Broken):
            log.warning("%r: %s", self.peer, event.error)
            self.close()
        else:
            self._stream_event(event)  # type: ignore[arg-type]  # mypy does not narrow by type(), which is faster

    def _call(self, call: Call) -> None:
        session = self.session
        session.call = call
        try:
            outcome = begin(self._table, session, call)
            if waits(outcome):
                self._held += 1
                task = self._loop.create_task(self._finish(call, outcome))
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
                return
            self.send(self._link.reply(call, outcome))
        except Exception as error:  # the one place where anything becomes an answer: the daemon must live
            self.send(self._failed(call, error))
        if call.fds:
            close_all(call.fds)
        if call.procedure.stream is not StreamKind.NONE:
            self._begin_stream(call)

    async def _finish(self, call: Call, outcome: Coroutine[Any, Any, object]) -> None:
        try:
            try:
                answer = self._link.reply(call, await outcome)
            except Exception as error:  # as above
                answer = self._failed(call, error)
            finally:
                close_all(call.fds)
            self.send(answer)
            if call.procedure.stream is not StreamKind.NONE:
                self._begin_stream(call)
        finally:
            self._done()

    def _failed(self, call: Call, error: Exception) -> bytes:
        return self._link.error(call, blame(call.procedure, error))

    # Streams

    def open_stream(self, call: Call, console: Console) -> None:
        """Pump between *console* and the stream of *call*, from its reply on."""
        if self._closing:
            console.close()
            return
        if call.stream in self._streams:
            console.close()
            raise RpcError(f"serial {call.serial} names an open stream already")
        self._streams[call.stream] = ConsoleStream(self._loop, self._link, call.stream, console, self)

    def _begin_stream(self, call: Call) -> None:
        if (stream := self._streams.get(call.stream)) is not None:
            stream.start()

    def _stream_event(self, event: StreamData | StreamHole) -> None:
        stream = self._streams.get(event.stream)
        if stream is None:
            return
        if isinstance(event, StreamHole):
            log.warning("%r: a hole on a console", self.peer)
            self.close()
        elif isinstance(event, StreamData):
            self._held += 1
            stream.write(event.data, self._done)
        else:
            stream.finish()

    def stream_gone(self, stream: StreamId) -> None:
        """The pump of *stream* has ended."""
        self._streams.pop(stream, None)

    # Bytes out

    @property
    def unsent(self) -> int:
        """Bytes that the client has not taken yet."""
        return self._out.waiting

    @property
    def congested(self) -> bool:
        """Whether bytes wait to be sent: then streams do not add to them."""
        return self._out.waiting > 0

    def send(self, data: bytes) -> None:
        """Send *data* now as far as the socket takes it, the rest when it takes more."""
        self._out.send(data)

    def taken(self) -> None:
        """The client has taken some of what waited."""
        if not self._out.waiting:
            if self._closing:
                self.close()
                return
            for stream in list(self._streams.values()):
                stream.resume()
        self._pump()

    # Keepalive and the end

    @property
    def tasks(self) -> set[asyncio.Task[None]]:
        """Calls that are still at work."""
        return self._tasks

    def watch(self) -> None:
        """Begin to send PINGs: the client promised to answer them."""
        if self._pulse is None:
            self._pulse = Pulse(PING_INTERVAL, PING_COUNT, self._loop.time())
            self._set_timer()

    def _set_timer(self) -> None:
        if self._pulse is not None and (when := self._pulse.next_at) is not None:
            self._timer = self._loop.call_at(when, self._beat)

    def _beat(self) -> None:
        assert self._pulse is not None
        beat = self._pulse.due(self._loop.time())
        if beat is Beat.DEAD:
            log.warning("%r does not answer: dropped", self.peer)
            self.close()
            return
        if beat is Beat.PING and not self._out.waiting:
            self.send(PING)
        self._set_timer()

    def quiesce(self) -> None:
        """Begin nothing more: the daemon is about to end."""
        self._quiet = True
        self._throttle()

    def hang_up(self) -> None:
        """Close as soon as everything queued has been sent (CONNECT_CLOSE)."""
        self._closing = True
        self._loop.call_soon(self._close_when_sent)

    def _close_when_sent(self) -> None:
        if not self._out.waiting:
            self.close()
        else:
            self._throttle()

    def close(self) -> None:
        """The end: streams, wishes and descriptors go; operations that the client began go on."""
        if self._sock.fileno() < 0:
            return
        self._closing = True
        if self._timer is not None:
            self._timer.cancel()
        for stream in list(self._streams.values()):
            stream.close()
        self._loop.remove_reader(self._sock.fileno())
        self._out.close()
        self._sock.close()
        for event in self._waiting:
            if isinstance(event, Call):
                close_all(event.fds)
        self._waiting.clear()
        close_all(self._link.close())
        self._on_close(self)
