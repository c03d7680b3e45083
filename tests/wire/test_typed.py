"""virlet.wire.typed: typed parameters."""

from __future__ import annotations

import pytest

from virlet.wire.typed import TYPED_VALUE, TypedValue, ValueType
from virlet.wire.xdr import DecodeError, EncodeError


@pytest.mark.parametrize(
    ("value", "data"),
    [
        (TypedValue(ValueType.INT, -1), "00000001 ffffffff"),
        (TypedValue(ValueType.UINT, 2), "00000002 00000002"),
        (TypedValue(ValueType.LLONG, -3), "00000003 fffffffffffffffd"),
        (TypedValue(ValueType.ULLONG, 4), "00000004 0000000000000004"),
        (TypedValue(ValueType.DOUBLE, 0.5), "00000005 3fe0000000000000"),
        (TypedValue(ValueType.BOOLEAN, 1), "00000006 00000001"),
        (TypedValue(ValueType.STRING, "abc"), "00000007 00000003 61626300"),
    ],
)
def test_a_value_follows_its_type(value: TypedValue, data: str) -> None:
    assert TYPED_VALUE.encode(value) == bytes.fromhex(data)
    assert TYPED_VALUE.decode(bytes.fromhex(data)) == value


def test_unknown_types_are_refused() -> None:
    with pytest.raises(DecodeError):
        TYPED_VALUE.decode(bytes.fromhex("00000008 00000000"))
    with pytest.raises(EncodeError):
        TYPED_VALUE.encode(TypedValue(0, 1))
