"""XDR (RFC 4506) as composable codecs, built once per type and then run as plain closures.

A codec has two functions.  ``put(append, value)`` hands encoded pieces to *append*; ``get(data, pos, out)`` appends
one decoded value to *out* and returns the position after it.  Neither makes a tuple or a reader object per field, and
neighbouring fields of fixed size share one :class:`struct.Struct`: that is what makes a call cheap.

What a decoder accepts is what libvirt's daemon accepts: any non-zero optional marker is "present", a string ends at
its first NUL, UTF-8 need not be valid, padding need not be zero, and bytes after the value are ignored.  Limits are
always enforced, so a decoder never allocates more than a small multiple of what it was given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import Struct
from struct import error as StructError
from typing import Any, Generic, TypeAlias, TypeVar

from virlet.errors import RpcError

__all__ = [
    "F64",
    "I32",
    "I64",
    "STRING",
    "STRING_MAX",
    "U32",
    "U64",
    "UUID",
    "AnyCodec",
    "Codec",
    "DecodeError",
    "EncodeError",
    "array",
    "char_array",
    "char_list",
    "opaque",
    "optional",
    "record",
]

T = TypeVar("T")
Append: TypeAlias = Callable[[bytes], None]
Put: TypeAlias = Callable[[Append, T], None]
Get: TypeAlias = Callable[[bytes, int, list[object]], int]

STRING_MAX = 4_194_304
"""The longest string in bytes (``REMOTE_STRING_MAX``)."""

_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")
_word = Struct(">I")
_pack_word = _word.pack
_word_at = _word.unpack_from


class DecodeError(RpcError):
    """The payload is not what the procedure says; ``reason`` says why (the peer is told libvirt's own words only)."""

    def __init__(self, reason: str) -> None:
        super().__init__("Unable to decode message payload")
        self.reason = reason


class EncodeError(RpcError):
    """A value cannot be put on the wire: too long, out of range; ``reason`` says which."""

    def __init__(self, reason: str) -> None:
        super().__init__("Unable to encode message payload")
        self.reason = reason


class Codec(Generic[T]):
    """How a ``T`` looks on the wire."""

    __slots__ = ("fixed", "get", "least", "put")

    def __init__(self, put: Put[T], get: Get, *, least: int, fixed: str = "") -> None:
        self.put = put
        self.get = get
        self.least = least
        """The fewest bytes a value takes; at least 4, so that a list's count can be checked before it is read."""
        self.fixed = fixed
        """The ``struct`` letter of a scalar of fixed size, else empty."""

    def encode(self, value: T) -> bytes:
        """The bytes of *value*; raises :class:`EncodeError`."""
        pieces: list[bytes] = []
        try:
            self.put(pieces.append, value)
        except (StructError, UnicodeEncodeError) as error:
            raise EncodeError(str(error)) from None
        return b"".join(pieces)

    def decode(self, data: bytes, pos: int = 0) -> T:
        """The value that starts at *pos*; what follows it is ignored; raises :class:`DecodeError`."""
        out: list[T] = []
        try:
            self.get(data, pos, out)  # type: ignore[arg-type]  # a codec of T appends T
        except StructError:
            raise DecodeError("the payload is too short") from None
        return out[0]


AnyCodec: TypeAlias = Codec[Any]
"""In tables and structs codecs of all types stand side by side."""


def _scalar(letter: str) -> Codec[int]:
    packer = Struct(">" + letter)
    pack, unpack_from, size = packer.pack, packer.unpack_from, packer.size

    def put(append: Append, value: int) -> None:
        append(pack(value))

    def get(data: bytes, pos: int, out: list[object]) -> int:
        out += unpack_from(data, pos)
        return pos + size

    return Codec(put, get, least=size, fixed=letter)


I32 = _scalar("i")
U32 = _scalar("I")
I64 = _scalar("q")
U64 = _scalar("Q")
F64: Codec[float] = _scalar("d")  # type: ignore[assignment]  # the same closures carry a float


def _put_uuid(append: Append, value: bytes) -> None:
    if len(value) != 16:
        raise EncodeError(f"a UUID has 16 bytes, not {len(value)}")
    append(value)


def _get_uuid(data: bytes, pos: int, out: list[object]) -> int:
    end = pos + 16
    if end > len(data):
        raise DecodeError("a UUID is cut short")
    out.append(data[pos:end])
    return end


UUID: Codec[bytes] = Codec(_put_uuid, _get_uuid, least=16, fixed="16s")
"""16 raw bytes."""


def _put_string(append: Append, value: str) -> None:
    text = value.encode("utf-8", "surrogateescape")
    size = len(text)
    if size > STRING_MAX:
        raise EncodeError(f"a string of {size} bytes is over the limit of {STRING_MAX}")
    if b"\0" in text:
        raise EncodeError("a string with a NUL would be cut short by the receiver")
    append(_pack_word(size) + text + _PADDING[size & 3])


def _get_string(data: bytes, pos: int, out: list[object]) -> int:
    size: int = _word_at(data, pos)[0]
    pos += 4
    end = pos + size
    after = end + (-size & 3)
    if size > STRING_MAX or after > len(data):
        raise DecodeError(f"a string of {size} bytes is cut short or over the limit")
    text = data[pos:end]
    if b"\0" in text:
        text = text[: text.index(b"\0")]
    out.append(text.decode("utf-8", "surrogateescape"))
    return after


STRING: Codec[str] = Codec(_put_string, _get_string, least=4)
"""At most :data:`STRING_MAX` bytes; bytes that are no UTF-8 come as surrogate escapes and go back as they came."""


def opaque(limit: int) -> Codec[bytes]:
    """Counted bytes, at most *limit*."""

    def put(append: Append, value: bytes) -> None:
        size = len(value)
        if size > limit:
            raise EncodeError(f"{size} bytes are over the limit of {limit}")
        append(_pack_word(size))
        append(value)
        append(_PADDING[size & 3])

    def get(data: bytes, pos: int, out: list[object]) -> int:
        size: int = _word_at(data, pos)[0]
        pos += 4
        end = pos + size
        after = end + (-size & 3)
        if size > limit or after > len(data):
            raise DecodeError(f"{size} bytes are cut short or over the limit of {limit}")
        out.append(data[pos:end])
        return after

    return Codec(put, get, least=4)


def optional(inner: Codec[T]) -> Codec[T | None]:
    """A value that may be absent: XDR's pointer."""
    put_inner, get_inner = inner.put, inner.get

    def put(append: Append, value: T | None) -> None:
        if value is None:
            append(b"\0\0\0\0")
        else:
            append(b"\0\0\0\1")
            put_inner(append, value)

    def get(data: bytes, pos: int, out: list[object]) -> int:
        # go-libvirt marks presence by 01 00 00 00: anything but zero counts.
        if _word_at(data, pos)[0]:
            return get_inner(data, pos + 4, out)
        out.append(None)
        return pos + 4

    return Codec(put, get, least=4)


def array(inner: Codec[T], limit: int) -> Codec[Sequence[T]]:
    """A counted list of at most *limit* elements; decoded to a tuple."""
    if inner.fixed and inner is not UUID:
        return _scalar_array(inner, limit)
    put_inner, get_inner, least = inner.put, inner.get, inner.least

    def put(append: Append, value: Sequence[T]) -> None:
        count = len(value)
        if count > limit:
            raise EncodeError(f"{count} elements are over the limit of {limit}")
        append(_pack_word(count))
        for item in value:
            put_inner(append, item)

    def get(data: bytes, pos: int, out: list[object]) -> int:
        count = _count_at(data, pos, limit, least)
        pos += 4
        items: list[object] = []
        for _ in range(count):
            pos = get_inner(data, pos, items)
        out.append(tuple(items))
        return pos

    return Codec(put, get, least=4)


def _count_at(data: bytes, pos: int, limit: int, least: int) -> int:
    count: int = _word_at(data, pos)[0]
    if count > limit or count * least > len(data) - pos - 4:
        raise DecodeError(f"a list of {count} elements is cut short or over the limit of {limit}")
    return count


def _scalar_array(inner: Codec[T], limit: int) -> Codec[Sequence[T]]:
    letter, size = inner.fixed, inner.least

    def put(append: Append, value: Sequence[T]) -> None:
        count = len(value)
        if count > limit:
            raise EncodeError(f"{count} elements are over the limit of {limit}")
        append(Struct(f">I{count}{letter}").pack(count, *value))

    def get(data: bytes, pos: int, out: list[object]) -> int:
        count = _count_at(data, pos, limit, size)
        pos += 4
        out.append(Struct(f">{count}{letter}").unpack_from(data, pos))
        return pos + count * size

    return Codec(put, get, least=4)


def _widened(value: bytes) -> bytes:
    # XDR has no char: C sends each as a sign-extended int.
    return Struct(f">{len(value)}i").pack(*(byte - 256 if byte > 127 else byte for byte in value))


def _narrowed(data: bytes, pos: int, count: int) -> bytes:
    return bytes(number & 0xFF for number in Struct(f">{count}i").unpack_from(data, pos))


def char_list(limit: int) -> Codec[bytes]:
    """Counted C chars, 4 bytes each on the wire."""

    def put(append: Append, value: bytes) -> None:
        if len(value) > limit:
            raise EncodeError(f"{len(value)} chars are over the limit of {limit}")
        append(_pack_word(len(value)) + _widened(value))

    def get(data: bytes, pos: int, out: list[object]) -> int:
        count = _count_at(data, pos, limit, 4)
        out.append(_narrowed(data, pos + 4, count))
        return pos + 4 + 4 * count

    return Codec(put, get, least=4)


def char_array(size: int) -> Codec[bytes]:
    """A C string in a fixed array of *size* chars: filled up with NULs, and without them when decoded."""

    def put(append: Append, value: bytes) -> None:
        if len(value) > size:
            raise EncodeError(f"{len(value)} chars do not fit into {size}")
        append(_widened(value.ljust(size, b"\0")))

    def get(data: bytes, pos: int, out: list[object]) -> int:
        out.append(_narrowed(data, pos, size).rstrip(b"\0"))
        return pos + 4 * size

    return Codec(put, get, least=4 * size)


def record(make: Callable[[Sequence[object]], T], fields: Sequence[AnyCodec]) -> Codec[T]:
    """A struct: *make* builds the value from the list of its fields, and the value is a tuple of them."""
    putters, getters = _steps(fields)
    least = sum(field.least for field in fields)

    def put(append: Append, value: Any) -> None:
        for putter in putters:
            putter(append, value)

    if len(getters) == 1:
        (only,) = getters

        def get_one(data: bytes, pos: int, out: list[object]) -> int:
            values: list[object] = []
            pos = only(data, pos, values)
            out.append(make(values))
            return pos

        return Codec(put, get_one, least=least)

    def get(data: bytes, pos: int, out: list[object]) -> int:
        values: list[object] = []
        for getter in getters:
            pos = getter(data, pos, values)
        out.append(make(values))
        return pos

    return Codec(put, get, least=least)


_Putter: TypeAlias = Callable[[Append, "tuple[Any, ...]"], None]


def _steps(fields: Sequence[AnyCodec]) -> tuple[list[_Putter], list[Get]]:
    """One step for each run of scalars and for each other field."""
    putters: list[_Putter] = []
    getters: list[Get] = []
    start = 0
    while start < len(fields):
        end = start
        while end < len(fields) and fields[end].fixed:
            end += 1
        if end > start:
            putters.append(_put_run(fields, start, end))
            getters.append(_get_run(fields, start, end))
            start = end
        else:
            putters.append(_put_field(fields[start].put, start))
            getters.append(fields[start].get)
            start += 1
    return putters, getters


def _put_field(inner: Put[Any], index: int) -> _Putter:
    def put(append: Append, value: tuple[Any, ...]) -> None:
        inner(append, value[index])

    return put


def _put_run(fields: Sequence[AnyCodec], start: int, end: int) -> _Putter:
    pack = Struct(">" + "".join(field.fixed for field in fields[start:end])).pack
    uuids = [index for index in range(start, end) if fields[index].fixed == "16s"]

    def put(append: Append, value: tuple[Any, ...]) -> None:
        append(pack(*value[start:end]))

    def put_checked(append: Append, value: tuple[Any, ...]) -> None:
        # struct would fill or cut a UUID of another length without a word.
        for index in uuids:
            if len(value[index]) != 16:
                raise EncodeError(f"a UUID has 16 bytes, not {len(value[index])}")
        append(pack(*value[start:end]))

    return put_checked if uuids else put


def _get_run(fields: Sequence[AnyCodec], start: int, end: int) -> Get:
    packer = Struct(">" + "".join(field.fixed for field in fields[start:end]))
    unpack_from, size = packer.unpack_from, packer.size

    def get(data: bytes, pos: int, out: list[object]) -> int:
        out += unpack_from(data, pos)
        return pos + size

    return get
