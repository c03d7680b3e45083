"""One RPC connection as a state machine without I/O, for either end.

A shell feeds the bytes and descriptors it received and gets events; it calls methods to say something and gets bytes
to send.  What the protocol itself has to answer (a PING, an unknown procedure) waits in :meth:`to_send` after each
:meth:`feed`.  Descriptors in ``unwanted`` are for the shell to close.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct
from typing import NamedTuple, TypeVar

from virlet.errors import RpcError, VirletError
from virlet.wire.events import (
    Broken,
    Call,
    ClientEvent,
    Failed,
    Message,
    Reply,
    ServerEvent,
    StreamAbort,
    StreamData,
    StreamEvent,
    StreamFinish,
    StreamHole,
    StreamId,
)
from virlet.wire.faults import decode_error, encode_error
from virlet.wire.packet import (
    CALL,
    CALL_WITH_FDS,
    CONTINUE,
    ERROR,
    HEADER,
    LENGTH_MAX,
    MESSAGE,
    OK,
    PIECE_MAX,
    PONG,
    REPLY,
    REPLY_WITH_FDS,
    STREAM,
    STREAM_HOLE,
    Framer,
    Packet,
    packet,
)
from virlet.wire.procedure import PROGRAMS, AnyProcedure, Event, Procedure, StreamKind, by_number, event_by_number
from virlet.wire.xdr import DecodeError, EncodeError

__all__ = [
    "Broken",
    "Call",
    "ClientEvent",
    "ClientLink",
    "Failed",
    "Message",
    "Reply",
    "Request",
    "ServerEvent",
    "ServerLink",
    "StreamAbort",
    "StreamData",
    "StreamFinish",
    "StreamHole",
    "StreamId",
]

Args = TypeVar("Args")
Ret = TypeVar("Ret")
Msg = TypeVar("Msg")

_KEEPALIVE = 0x6B656570
_HOLE = Struct(">qI")
_COUNT = Struct(">I")
_pack_header = HEADER.pack


class _Link:
    __slots__ = ("_broken", "_framer", "_out", "_sparse", "_streams", "_told", "unwanted")

    def __init__(self) -> None:
        self.unwanted: list[int] = []
        self._broken: RpcError | None = None
        self._told = False
        self._framer = Framer()
        self._out: list[bytes] = []
        self._streams: set[StreamId] = set()
        self._sparse: set[StreamId] = set()

    def to_send(self) -> bytes:
        """What the protocol has to answer by itself; ahead of everything else that waits to be sent."""
        if not self._out:
            return b""
        out = b"".join(self._out)
        self._out.clear()
        return out

    @property
    def missing(self) -> int:
        """Bytes that the packet which has begun still lacks, as far as is known; 0 between two packets."""
        return self._framer.missing

    def close(self) -> list[int]:
        """The connection has ended: descriptors that arrived and were never handed out, to be closed."""
        left = self.unwanted + self._framer.take_fds()
        self.unwanted = []
        self._streams.clear()
        self._sparse.clear()
        return left

    def stream_data(self, stream: StreamId, data: bytes) -> bytes:
        """Packets that carry *data*; empty data says that no more will come."""
        pieces = (data[at : at + PIECE_MAX] for at in range(0, len(data) or 1, PIECE_MAX))
        return b"".join(self._stream(stream, STREAM, CONTINUE, piece) for piece in pieces)

    def stream_hole(self, stream: StreamId, length: int) -> bytes:
        """A packet that stands for *length* zero bytes; only on a stream that was asked to be sparse."""
        return self._stream(stream, STREAM_HOLE, CONTINUE, _HOLE.pack(length, 0))

    def _breaks(self) -> Broken | None:
        """Said once, as soon as nothing more can be understood."""
        error = self._broken or self._framer.broken
        if error is None or self._told:
            return None
        self._told = True
        self._framer.broken = error
        return Broken(error)

    def _stream(self, stream: StreamId, kind: int, status: int, payload: bytes) -> bytes:
        return packet(stream.program, 1, stream.procedure, kind, stream.serial, status, payload)

    def _forget_stream(self, stream: StreamId) -> None:
        self._streams.discard(stream)
        self._sparse.discard(stream)

    def _on_stream(self, got: Packet) -> StreamEvent | None:
        stream = StreamId(got.program, got.procedure, got.serial)
        if stream not in self._streams:
            return None
        if got.kind == STREAM_HOLE:
            return self._on_hole(stream, got)
        if got.status == CONTINUE:
            return StreamData(stream, got.payload)
        self._forget_stream(stream)
        if got.status == OK:
            return StreamFinish(stream)
        return StreamAbort(stream, decode_error(got.payload) if got.payload else None)

    def _on_hole(self, stream: StreamId, got: Packet) -> StreamHole | None:
        length = _HOLE.unpack_from(got.payload)[0] if len(got.payload) >= _HOLE.size else -1
        if stream not in self._sparse or length < 0:
            self._broken = RpcError("a hole came on a stream that has none")
            return None
        return StreamHole(stream, length)

    def _on_keepalive(self, got: Packet) -> None:
        if got.procedure == 1 and got.version == 1:
            self._out.append(PONG)


class ServerLink(_Link):
    """The server's end; *programs* are the ids of the RPC programs it serves."""

    __slots__ = ("_programs",)

    def __init__(self, programs: Iterable[int]) -> None:
        super().__init__()
        served = set(programs)
        self._programs = {key for key in PROGRAMS if key[0] in served}

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[ServerEvent]:
        """What the client said; never raises, whatever the bytes are."""
        events: list[ServerEvent] = []
        for got in self._framer.feed(data, fds):
            kind = got.kind
            if kind in (CALL, CALL_WITH_FDS):
                if call := self._on_call(got):
                    events.append(call)
                continue
            self.unwanted += got.fds
            if kind in (STREAM, STREAM_HOLE):
                if said := self._on_stream(got):
                    events.append(said)
                if self._broken:
                    break
            elif kind == MESSAGE and got.program == _KEEPALIVE:
                self._on_keepalive(got)
        if (broken := self._breaks()) is not None:
            events.append(broken)
        return events

    def reply(self, call: Call, ret: object, *, fds: int = 0, sparse: bool = False) -> bytes:
        """The answer to *call*; if it has a stream, that is open from now on, with holes if *sparse*.

        After the bytes the shell sends *fds* descriptors, each with one zero byte of its own.  A result that is too
        big for the protocol becomes an error reply, as libvirt does it.
        """
        procedure = call.procedure
        try:
            payload: bytes = procedure.encode_ret(ret)
            if len(payload) > LENGTH_MAX - 32:
                raise EncodeError(f"a reply of {len(payload)} bytes is too long")
        except EncodeError as error:
            return self.error(call, error)
        if procedure.stream is not StreamKind.NONE:
            self._streams.add(call.stream)
            if sparse:
                self._sparse.add(call.stream)
        kind = REPLY
        if fds:
            kind, payload = REPLY_WITH_FDS, _COUNT.pack(fds) + payload
        head = _pack_header(
            28 + len(payload), procedure.program, procedure.version, procedure.number, kind, call.serial, OK
        )
        return head + payload

    def error(self, call: Call, error: VirletError) -> bytes:
        """*call* has failed."""
        which = call.procedure
        return packet(which.program, which.version, which.number, REPLY, call.serial, ERROR, encode_error(error))

    def message(self, event: Event[Msg], msg: Msg) -> bytes:
        """An event; libvirt sends them with serial 1, and clients do not look at it."""
        return packet(event.program, event.version, event.number, MESSAGE, 1, OK, event.encode_msg(msg))

    def stream_finish(self, stream: StreamId) -> bytes:
        """The end of a stream: the answer to the client's end or abort of it."""
        self._forget_stream(stream)
        return self._stream(stream, STREAM, OK, b"")

    def stream_error(self, stream: StreamId, error: VirletError) -> bytes:
        """The stream has failed and is gone."""
        self._forget_stream(stream)
        return self._stream(stream, STREAM, ERROR, encode_error(error))

    def _on_call(self, got: Packet) -> Call | None:
        if (got.program, got.version) not in self._programs:
            problem = f"Cannot find program {got.program} version {got.version}"
        elif got.status != OK:
            problem = f"Unexpected message status {got.status & 0xFFFFFFFF}"
        else:
            procedure = by_number(got.program, got.version, got.procedure)
            if procedure is not None:
                return Call(procedure, got.serial, got.payload, got.fds)
            problem = f"unknown procedure: {got.procedure}"
        self.unwanted += got.fds
        payload = encode_error(RpcError(problem))
        self._out.append(packet(got.program, got.version, got.procedure, REPLY, got.serial, ERROR, payload))
        return None


class Request(NamedTuple):
    """A call that is about to be made."""

    serial: int
    data: bytes


class ClientLink(_Link):
    """The client's end: numbers its calls and finds the call that a reply belongs to."""

    __slots__ = ("_abandoned", "_calls", "_serial")

    def __init__(self) -> None:
        super().__init__()
        self._serial = 0
        self._calls: dict[int, tuple[AnyProcedure, bool]] = {}
        self._abandoned: dict[int, AnyProcedure] = {}

    def call(self, procedure: Procedure[Args, Ret], args: Args, *, fds: int = 0, sparse: bool = False) -> Request:
        """The bytes of a call; after them the shell sends *fds* descriptors, each with one zero byte of its own.

        EncodeError when the arguments are too big for the protocol.
        """
        payload = procedure.encode_args(args)
        kind = CALL
        if fds:
            kind, payload = CALL_WITH_FDS, _COUNT.pack(fds) + payload
        serial = self._serial
        data = packet(procedure.program, procedure.version, procedure.number, kind, serial, OK, payload)
        self._calls[serial] = (procedure, sparse)
        self._serial = (serial + 1) & 0xFFFFFFFF
        return Request(serial, data)

    def abandon(self, serial: int) -> None:
        """Nobody waits for that call any more; a stream that it opens will be aborted."""
        if (call := self._calls.pop(serial, None)) is not None:
            self._abandoned[serial] = call[0]

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[ClientEvent]:
        """What the server said; never raises, whatever the bytes are."""
        events: list[ClientEvent] = []
        for got in self._framer.feed(data, fds):
            said = self._on_packet(got)
            if said is not None:
                events.append(said)
            if self._broken:
                break
        if (broken := self._breaks()) is not None:
            events.append(broken)
        return events

    def stream_finish(self, stream: StreamId) -> bytes:
        """No more will be sent; the server answers with its end when it has taken everything."""
        return self._stream(stream, STREAM, OK, b"")

    def stream_abort(self, stream: StreamId) -> bytes:
        """Give the stream up; the server answers with its end, until which data may still come."""
        return self._stream(stream, STREAM, ERROR, b"")

    def _on_packet(self, got: Packet) -> ClientEvent | None:
        kind = got.kind
        if kind in (REPLY, REPLY_WITH_FDS):
            return self._on_reply(got)
        self.unwanted += got.fds
        if kind in (STREAM, STREAM_HOLE):
            return self._on_stream(got)
        if kind == MESSAGE:
            if got.program == _KEEPALIVE:
                self._on_keepalive(got)
            else:
                return self._on_message(got)
        return None

    def _on_reply(self, got: Packet) -> Reply | Failed | None:
        procedure, sparse = self._calls.get(got.serial, (None, False))
        if procedure is None or (procedure.program, procedure.version) != (got.program, got.version):
            self.unwanted += got.fds
            self._on_abandoned(got)
            return None
        del self._calls[got.serial]
        if got.status != OK:
            self.unwanted += got.fds
            return Failed(got.serial, decode_error(got.payload))
        try:
            value = procedure.decode_ret(got.payload)
        except DecodeError as error:
            self.unwanted += got.fds
            return Failed(got.serial, error)
        if procedure.stream is not StreamKind.NONE:
            stream = StreamId(got.program, procedure.number, got.serial)
            self._streams.add(stream)
            if sparse:
                self._sparse.add(stream)
        return Reply(got.serial, value, got.fds)

    def _on_abandoned(self, got: Packet) -> None:
        procedure = self._abandoned.pop(got.serial, None)
        if procedure is not None and procedure.stream is not StreamKind.NONE and got.status == OK:
            self._out.append(self.stream_abort(StreamId(procedure.program, procedure.number, got.serial)))

    def _on_message(self, got: Packet) -> Message | None:
        event = event_by_number(got.program, got.version, got.procedure)
        if event is None:
            return None
        try:
            return Message(event, event.decode_msg(got.payload))
        except DecodeError:
            # Events are hints about a newer server's world; one that we cannot read is no reason to hang up.
            return None
