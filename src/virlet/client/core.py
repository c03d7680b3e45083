"""What a connection has to remember between its bytes, without I/O: who waits for which reply, streams, events."""

from __future__ import annotations

from typing import Any, Protocol

from virlet.client.mail import Inbox, Mailbox
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

__all__ = ["Core", "Waiter"]


class Waiter(Protocol):
    """Who waits for a reply: an :class:`asyncio.Future`, or something of that shape."""

    def done(self) -> bool: ...
    def set_result(self, result: Any, /) -> None: ...
    def set_exception(self, exception: VirletError, /) -> None: ...


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
        serial, data = self.link.call(request.procedure, request.args, fds=len(request.fds))
        self._waiting[serial] = (request, waiter)
        return serial, data

    def abandon(self, serial: int) -> None:
        """Nobody waits any more."""
        if self._waiting.pop(serial, None) is not None:
            self.link.abandon(serial)

    def drop(self, request: Request[Any], value: object) -> bytes:
        """The caller was cancelled when the answer was there already: undo what it opened."""
        if isinstance(value, Inbox) and self._inboxes.pop(value.stream, None) is not None:
            return self.link.stream_abort(value.stream)
        if request.takes_fd and isinstance(value, int):
            self.link.unwanted.append(value)
        return b""

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

    def discard(self, inbox: Inbox) -> None:
        """Forget what came on a stream that nobody will read any more."""
        self.backlog -= sum(map(len, inbox.chunks))
        inbox.chunks.clear()

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
        try:
            value = self._value(request, reply)
        except VirletError as error:
            waiter.set_exception(error)
        else:
            waiter.set_result(value)

    def _value(self, request: Request[Any], reply: Reply) -> object:
        if request.takes_fd:
            self.link.unwanted += reply.fds[1:]
            if not reply.fds:
                raise RpcError(f"{request.procedure.name} gave no file descriptor")
            return reply.fds[0]
        self.link.unwanted += reply.fds
        if request.procedure.stream is StreamKind.NONE:
            return request.convert(reply.value)
        stream = StreamId(request.procedure.program, request.procedure.number, reply.serial)
        inbox = self._inboxes[stream] = Inbox(stream, reply.value)
        return inbox

    def _on_message(self, message: Message) -> None:
        number = getattr(message.value, "callbackID", None)
        if number is None:
            return
        for mailbox in self._mailboxes:
            kind = mailbox.keys.get((message.event.program, number))
            if kind is not None and (event := Event.of(kind, message.value)) is not None:
                mailbox.events.append(event)
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
