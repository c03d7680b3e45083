"""libvirt's typed parameters on the wire: a value behind the number of its type."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Any, NamedTuple

from virlet.wire.xdr import F64, I32, I64, STRING, U32, U64, AnyCodec, Append, Codec, DecodeError, EncodeError

__all__ = ["TYPED_VALUE", "TypedValue", "ValueType"]

_WORD = Struct(">I")


class ValueType(IntEnum):
    """``virTypedParameterType``."""

    INT = 1
    UINT = 2
    LLONG = 3
    ULLONG = 4
    DOUBLE = 5
    BOOLEAN = 6
    STRING = 7


class TypedValue(NamedTuple):
    """A value that carries its type: libvirt's typed parameters."""

    kind: int
    """One of :class:`ValueType`."""
    value: int | float | str


_VALUES: dict[int, AnyCodec] = {
    ValueType.INT: I32,
    ValueType.UINT: U32,
    ValueType.LLONG: I64,
    ValueType.ULLONG: U64,
    ValueType.DOUBLE: F64,
    ValueType.BOOLEAN: I32,
    ValueType.STRING: STRING,
}


def _put_typed_value(append: Append, value: TypedValue) -> None:
    codec = _VALUES.get(value.kind)
    if codec is None:
        raise EncodeError(f"no typed parameter has type {value.kind}")
    append(_WORD.pack(value.kind))
    codec.put(append, value.value)


def _get_typed_value(data: bytes, pos: int, out: list[object]) -> int:
    kind: int = _WORD.unpack_from(data, pos)[0]
    codec = _VALUES.get(kind)
    if codec is None:
        raise DecodeError(f"no typed parameter has type {kind}")
    values: list[Any] = []
    pos = codec.get(data, pos + 4, values)
    out.append(TypedValue(kind, values[0]))
    return pos


TYPED_VALUE: Codec[TypedValue] = Codec(_put_typed_value, _get_typed_value, least=8)
