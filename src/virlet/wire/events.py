"""What a link tells its shell: one small tuple for each thing the peer said."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

from virlet.errors import RpcError, VirletError
from virlet.wire.procedure import AnyProcedure, Event

__all__ = [
    "Broken",
    "Call",
    "ClientEvent",
    "Failed",
    "Message",
    "Reply",
    "ServerEvent",
    "StreamAbort",
    "StreamData",
    "StreamEvent",
    "StreamFinish",
    "StreamHole",
    "StreamId",
]


class StreamId(NamedTuple):
    """What names a stream: the call that opened it."""

    program: int
    procedure: int
    serial: int


class Call(NamedTuple):
    """The client wants something; ``procedure.decode_args(call.payload)`` says what exactly."""

    procedure: AnyProcedure
    serial: int
    payload: bytes
    fds: tuple[int, ...]

    @property
    def stream(self) -> StreamId:
        """The stream that this call opens, if its procedure has one."""
        return StreamId(self.procedure.program, self.procedure.number, self.serial)


class Reply(NamedTuple):
    """The server's answer, decoded."""

    serial: int
    value: Any
    fds: tuple[int, ...]


class Failed(NamedTuple):
    """The server's answer is an error, or cannot be decoded."""

    serial: int
    error: VirletError


class Message(NamedTuple):
    """The server says something unasked."""

    event: Event[Any]
    value: Any


class StreamData(NamedTuple):
    """Bytes of a stream; none at all mean that no more will come."""

    stream: StreamId
    data: bytes


class StreamHole(NamedTuple):
    """*length* zero bytes of a sparse stream."""

    stream: StreamId
    length: int


class StreamFinish(NamedTuple):
    """The stream has ended well; a server answers with :meth:`ServerLink.stream_finish`."""

    stream: StreamId


class StreamAbort(NamedTuple):
    """The stream has failed; a server answers with :meth:`ServerLink.stream_finish`."""

    stream: StreamId
    error: VirletError | None
    """What the server says; clients abort without a word."""


class Broken(NamedTuple):
    """The peer's bytes make no sense: close the connection.  Always the last event."""

    error: RpcError


StreamEvent: TypeAlias = StreamData | StreamHole | StreamFinish | StreamAbort
ServerEvent: TypeAlias = Call | StreamEvent | Broken
ClientEvent: TypeAlias = Reply | Failed | Message | StreamEvent | Broken
