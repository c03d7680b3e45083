"""virlet.wire.schema: the table's notation."""

from __future__ import annotations

import pytest

from virlet.wire.schema import Schema, class_name, split_fields


def test_names_become_python_names() -> None:
    assert class_name("DOMAIN_GET_INFO") == class_name("domain_get_info") == "DomainGetInfo"
    assert split_fields("from:string flags:u32") == [("from_", "string"), ("flags", "u32")]


def test_structs_may_hold_structs_lists_and_absent_things() -> None:
    schema = Schema({"inner": "a:i32 b:string?", "outer": "x:inner<2> y:char[2] z:opaque<4> c:uchar"}, __name__)
    outer, inner = schema.struct("outer"), schema.struct("inner")
    value = outer((inner(1, None), inner(2, "s")), b"ab", b"\1", 9)
    data = schema.codec("outer").encode(value)
    assert data.hex() == (
        "00000002" "00000001" "00000000" "00000002" "00000001" "00000001" "73000000"
        "00000061" "00000062" "00000001" "01000000" "00000009"
    )  # fmt: skip
    assert schema.codec("outer").decode(data) == value


def test_a_type_that_does_not_exist_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Schema({}, __name__).codec("nothing")
    with pytest.raises(KeyError):
        Schema({}, __name__).codec("i32<x>")
