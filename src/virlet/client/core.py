"""What a connection has to remember between its bytes, without I/O: who waits for which reply, streams, events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Protocol

from virlet.client.request import Request
from virlet.client.values import Event
from virlet.errors import NoSupport, RpcError, VirletError
from virlet.wire import virlet
from virlet.wire.events import (
    Broken,
    ClientEvent,
    Failed,
    Message,
    Reply,
    StreamAbort,
    StreamData,
    StreamFinish,
    StreamHole,
    StreamId,
)
from virlet.wire.link import ClientLink
from virlet.wire.procedure import AnyProcedure, StreamKind

__all__ = ["Core", "Inbox", "Mailbox", "Waiter"]


class Waiter(Protocol):
    """Who waits for a reply: an :class:`asyncio.Future`, or something of that shape."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: VirletError, /) -> None: ...


class Inbox:
    """What came on one stream and was not read yet."""

    def __init__(self, stream: StreamId, ret: object) -> None:
        self.stream = stream
        self.ret = ret
        """The result of the call that opened the stream."""
        self.chunks: deque[bytes] = deque()
        self.eof = False
        """No more data will come."""
        self.finished = False
        """The server has answered our end of it."""
        self.error: VirletError | None = None
        self.wake: Callable[[], None] = _nobody


class Mailbox:
    """Events that came for one listener and were not read yet."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.keys: dict[tuple[int, int], str] = {}
        """(program, callback id) of what it listens to, and the kind of event."""
        self.wake: Callable[[], None] = _nobody


def _nobody() -> None:
    return


class Core:
    """One connection's memory."""

    def __init__(self, where: str) -> None:
        self.link = ClientLink()
        self.lost: VirletError | None = None
        """Why nothing more can be asked."""
        self.backlog = 0
        """Bytes of stream data that nobody has read yet."""
        self._where = where
        self._waiting: dict[int, tuple[Request[Any], Waiter]] = {}
        self._inboxes: dict[StreamId, Inbox] = {}
        self._mailboxes: set[Mailbox] = set()

    def begin(self, request: Request[Any], waiter: Waiter) -> tuple[int, bytes]:
        """The serial and the bytes of a call; *waiter* will hear of its end."""
        if self.lost is not None:
            raise self.lost
        serial, data = self.link.call(request.procedure, request.args)
        self._waiting[serial] = (request, waiter)
        return serial, data

    def abandon(self, serial: int) -> None:
        """Nobody waits any more."""
        if self._waiting.pop(serial, None) is not None:
            self.link.abandon(serial)

    def received(self, data: bytes, fds: list[int]) -> bytes:
        """Take what the server sent, wake who waited for it; the result is to be sent at once."""
        for event in self.link.feed(data, fds):
            self._handle(event)
        return self.link.to_send()

    def end(self, error: VirletError | None = None) -> list[int]:
        """The connection is over: everybody who waits hears it.  The descriptors are to be closed."""
        if self.lost is None:
            self.lost = error or RpcError(f"the server closed the connection to {self._where}")
        waiting, self._waiting = self._waiting, {}
        for _, waiter in waiting.values():
            if not waiter.done():
                waiter.set_exception(self.lost)
        for inbox in self._inboxes.values():
            inbox.error = inbox.error or self.lost
            inbox.wake()
        self._inboxes.clear()
        for mailbox in self._mailboxes:
            mailbox.wake()
        return self.link.close()

    def listen(self, mailbox: Mailbox) -> None:
        """Deliver to *mailbox* what its keys name."""
        self._mailboxes.add(mailbox)

    def unlisten(self, mailbox: Mailbox) -> None:
        """Deliver no more to *mailbox*."""
        self._mailboxes.discard(mailbox)

    def take(self, inbox: Inbox) -> bytes | None:
        """The next chunk of a stream; empty at its end, None while nothing is there; raises its error."""
        if inbox.chunks:
            chunk = inbox.chunks.popleft()
            self.backlog -= len(chunk)
            return chunk
        if inbox.error is not None:
            raise inbox.error
        return b"" if inbox.eof or inbox.finished else None

    def _handle(self, event: ClientEvent) -> None:
        if isinstance(event, Reply):
            self._on_reply(event)
        elif isinstance(event, Failed):
            request, waiter = self._waiting.pop(event.serial)
            if not waiter.done():
                waiter.set_exception(_who_can(event.error, request.procedure))
        elif isinstance(event, Message):
            self._on_message(event)
        elif isinstance(event, Broken):
            self.lost = event.error
        else:
            self._on_stream(event)

    def _on_reply(self, reply: Reply) -> None:
        request, waiter = self._waiting.pop(reply.serial)
        value: Any
        if request.on_fds is not None and reply.fds:
            value = request.on_fds(reply.fds)
            self.link.unwanted += reply.fds[1:]
        elif request.on_fds is not None:
            waiter.set_exception(RpcError(f"{request.procedure.name} gave no file descriptor"))
            return
        else:
            self.link.unwanted += reply.fds
            value = request.convert(reply.value)
        if request.procedure.stream is not StreamKind.NONE:
            stream = StreamId(request.procedure.program, request.procedure.number, reply.serial)
            value = self._inboxes[stream] = Inbox(stream, value)
        if not waiter.done():
            waiter.set_result(value)

    def _on_message(self, message: Message) -> None:
        number = getattr(message.value, "callbackID", None)
        if number is None:
            return
        for mailbox in self._mailboxes:
            if kind := mailbox.keys.get((message.event.program, number)):
                mailbox.events.append(Event.of(kind, message.value))
                mailbox.wake()

    def _on_stream(self, event: StreamData | StreamHole | StreamFinish | StreamAbort) -> None:
        inbox = self._inboxes.get(event.stream)
        if inbox is None:
            return
        if isinstance(event, StreamData) and event.data:
            inbox.chunks.append(event.data)
            self.backlog += len(event.data)
        elif isinstance(event, StreamData):
            inbox.eof = True
        elif isinstance(event, StreamFinish):
            inbox.finished = True
            del self._inboxes[event.stream]
        elif isinstance(event, StreamAbort):
            inbox.error = event.error or RpcError("the server aborted the stream")
            del self._inboxes[event.stream]
        inbox.wake()


def _who_can(error: VirletError, procedure: AnyProcedure) -> VirletError:
    """A server that is no virletd does not know virlet's own program: say so in the user's words."""
    unknown = isinstance(error, RpcError) and "Cannot find program" in error.detail
    if not unknown or procedure.program != virlet.PROGRAM.id:
        return error
    what = procedure.name.lower().replace("_", "-")
    return NoSupport(f"'{what}' is virlet's own and this server is not virletd", hint="connect to virlet:///session")
