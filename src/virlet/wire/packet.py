"""Packets: a length, a header of six words, a payload, and after some of them file descriptors.

A packet of type CALL_WITH_FDS or REPLY_WITH_FDS is followed by one dummy byte per descriptor that its length does not
count; each byte carries one descriptor as SCM_RIGHTS, and is sent by itself.  Such ancillary data is a barrier for
``recvmsg`` (unix(7)): a read never goes past the bytes that were sent with it.  So a shell that always reads by
``recvmsg`` with room for descriptors may read as much or as little as it likes, and descriptors reach the
:class:`Framer` in the order of their bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple

from virlet.errors import RpcError

__all__ = [
    "CALL",
    "CALL_WITH_FDS",
    "CONTINUE",
    "ERROR",
    "FDS_MAX",
    "HEADER",
    "LENGTH_MAX",
    "LENGTH_MIN",
    "MESSAGE",
    "OK",
    "PIECE_MAX",
    "PING",
    "PONG",
    "REPLY",
    "REPLY_WITH_FDS",
    "STREAM",
    "STREAM_HOLE",
    "Framer",
    "Packet",
    "packet",
]

HEADER = Struct(">IIIiiIi")
"""length, program, version, procedure, type, serial, status."""
LENGTH_MIN: Final = 28
LENGTH_MAX: Final = 33_554_436
"""The longest packet, its length word included."""
PIECE_MAX: Final = 262_120
"""The most stream data in one packet, for the sake of old peers."""
FDS_MAX: Final = 32
"""The most file descriptors with one packet."""

CALL: Final = 0
REPLY: Final = 1
MESSAGE: Final = 2
STREAM: Final = 3
CALL_WITH_FDS: Final = 4
REPLY_WITH_FDS: Final = 5
STREAM_HOLE: Final = 6

OK: Final = 0
ERROR: Final = 1
CONTINUE: Final = 2

_KEEPALIVE: Final = 0x6B656570
_word_at = Struct(">I").unpack_from
_header_at = HEADER.unpack_from
_pack_header = HEADER.pack


class Packet(NamedTuple):
    """One packet, still undecoded."""

    program: int
    version: int
    procedure: int
    kind: int
    serial: int
    status: int
    payload: bytes
    fds: tuple[int, ...]


def packet(program: int, version: int, procedure: int, kind: int, serial: int, status: int, payload: bytes) -> bytes:
    """The bytes of one packet; RpcError when the payload is longer than any peer accepts."""
    length = 28 + len(payload)
    if length > LENGTH_MAX:
        raise RpcError(f"a message of {length} bytes is over the limit of {LENGTH_MAX}")
    return _pack_header(length, program, version, procedure, kind, serial, status) + payload


PING: Final = packet(_KEEPALIVE, 1, 1, MESSAGE, 0, OK, b"")
PONG: Final = packet(_KEEPALIVE, 1, 2, MESSAGE, 0, OK, b"")


class Framer:
    """Cuts a byte stream into packets, however the bytes arrive.

    After a packet whose framing makes no sense ``broken`` says what was wrong, and nothing more is read.
    """

    __slots__ = ("_buffer", "_fds", "_need", "broken")

    def __init__(self) -> None:
        self.broken: RpcError | None = None
        self._buffer = bytearray()
        self._need = 4
        self._fds: list[int] = []

    def feed(self, data: bytes, fds: Sequence[int] = ()) -> list[Packet]:
        """The packets that *data* completes; *fds* are those that arrived with it."""
        if fds:
            self._fds += fds
        if self.broken:
            return []
        if self._buffer:
            self._buffer += data
            if len(self._buffer) < self._need:
                return self._checked([])
            data = bytes(self._buffer)
            self._buffer.clear()
        packets, pos = self._cut(data)
        if pos < len(data):
            self._buffer += data[pos:] if pos else data
        return self._checked(packets) if self._fds else packets

    @property
    def missing(self) -> int:
        """Bytes of the packet that has begun, as far as is known, which have not come yet; 0 between two packets."""
        return self._need - len(self._buffer) if self._buffer else 0

    def take_fds(self) -> list[int]:
        """Descriptors that belong to no packet: for the shell to close when the connection ends."""
        left, self._fds = self._fds, []
        return left

    def _cut(self, data: bytes) -> tuple[list[Packet], int]:
        packets: list[Packet] = []
        pos, size = 0, len(data)
        self._need = 4
        while size - pos >= 4:
            length: int = _word_at(data, pos)[0]
            if not LENGTH_MIN <= length <= LENGTH_MAX:
                self.broken = RpcError(f"a packet cannot have {length} bytes")
                break
            end = pos + length
            if end > size:
                self._need = length
                break
            _, program, version, procedure, kind, serial, status = _header_at(data, pos)
            if kind in (CALL_WITH_FDS, REPLY_WITH_FDS):
                count = self._count(data, pos, length)
                if self.broken or end + count > size:
                    self._need = length + count
                    break
                fds = tuple(self._fds[:count])
                if len(fds) < count:
                    self.broken = RpcError(f"{count} file descriptors were announced, {len(fds)} came")
                    break
                del self._fds[:count]
                payload = data[pos + 32 : end]
                end += count
            else:
                fds = ()
                payload = data[pos + 28 : end]
            packets.append(Packet(program, version, procedure, kind, serial, status, payload, fds))
            pos = end
        return packets, pos

    def _count(self, data: bytes, pos: int, length: int) -> int:
        if length < 32:
            self.broken = RpcError("a packet with file descriptors does not say how many")
            return 0
        count: int = _word_at(data, pos + 28)[0]
        if count > FDS_MAX:
            self.broken = RpcError(f"{count} file descriptors are over the limit of {FDS_MAX}")
        return count

    def _checked(self, packets: list[Packet]) -> list[Packet]:
        """Descriptors may wait only for the rest of the packet that announced them."""
        if self._fds and not self.broken:
            head = bytes(self._buffer[:LENGTH_MIN])
            announced = len(head) == LENGTH_MIN and _header_at(head)[4] in (CALL_WITH_FDS, REPLY_WITH_FDS)
            if not announced or len(self._fds) > FDS_MAX:
                self.broken = RpcError("file descriptors came that no packet announced")
        return packets
