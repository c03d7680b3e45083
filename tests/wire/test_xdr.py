"""virlet.wire.xdr: golden bytes by hand, round trips, and what hostile bytes may do."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.wire import xdr
from virlet.wire.xdr import AnyCodec, Codec, DecodeError, EncodeError

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)))


class Pair(tuple[object, ...]):
    """A record for tests."""


def pair(*fields: AnyCodec) -> Codec[Pair]:
    return xdr.record(Pair, fields)


@pytest.mark.parametrize(
    ("codec", "value", "data"),
    [
        (xdr.I32, -1, "ffffffff"),
        (xdr.U32, 1, "00000001"),
        (xdr.I64, -2, "fffffffffffffffe"),
        (xdr.U64, 1 << 63, "8000000000000000"),
        (xdr.F64, 1.0, "3ff0000000000000"),
        (xdr.STRING, "", "00000000"),
        (xdr.STRING, "abcde", "00000005 6162636465 000000"),
        (xdr.STRING, "ä", "00000002 c3a4 0000"),
        (xdr.UUID, bytes(range(16)), "000102030405060708090a0b0c0d0e0f"),
        (xdr.opaque(9), b"\1\2\3", "00000003 010203 00"),
        (xdr.optional(xdr.U32), None, "00000000"),
        (xdr.optional(xdr.U32), 7, "00000001 00000007"),
        (xdr.array(xdr.I32, 3), (1, -1), "00000002 00000001 ffffffff"),
        (xdr.array(xdr.STRING, 3), ("a",), "00000001 00000001 61000000"),
        (xdr.array(xdr.UUID, 3), (bytes(16),), "00000001" + 32 * "0"),
        (xdr.char_list(9), b"no\0", "00000003 0000006e 0000006f 00000000"),
        (xdr.char_list(9), b"\xff", "00000001 ffffffff"),
        (xdr.char_array(3), b"x", "00000078 00000000 00000000"),
        (pair(xdr.I32, xdr.U64, xdr.STRING), Pair((1, 2, "z")), "00000001 0000000000000002 00000001 7a000000"),
        (pair(xdr.STRING, xdr.U32, xdr.U32), Pair(("z", 1, 2)), "00000001 7a000000 00000001 00000002"),
    ],
)  # fmt: skip
def test_values_have_the_bytes_that_rfc_4506_says(codec: AnyCodec, value: object, data: str) -> None:
    assert codec.encode(value).hex() == data.replace(" ", "")
    assert codec.decode(bytes.fromhex(data)) == value


@given(
    value=st.tuples(
        st.integers(-(2**31), 2**31 - 1),
        TEXT,
        st.integers(0, 2**64 - 1),
        st.binary(min_size=16, max_size=16),
        st.none() | TEXT,
        st.lists(st.integers(0, 2**32 - 1), max_size=5).map(tuple),
        st.binary(max_size=9),
    ),
    tail=st.binary(max_size=5),
)
@settings(max_examples=200)
def test_a_record_comes_back_as_it_went_and_what_follows_is_ignored(value: tuple[object, ...], tail: bytes) -> None:
    codec = pair(
        xdr.I32,
        xdr.STRING,
        xdr.U64,
        xdr.UUID,
        xdr.optional(xdr.STRING),
        xdr.array(xdr.U32, 5),
        xdr.opaque(9),
    )
    data = codec.encode(Pair(value))
    assert len(data) % 4 == 0
    assert codec.decode(data + tail) == value


@given(data=st.binary(max_size=80))
@settings(max_examples=500)
def test_whatever_the_bytes_the_only_error_is_ours(data: bytes) -> None:
    """Invariant: decoding raises DecodeError or gives a value that is no bigger than the input allows."""
    codec = pair(xdr.array(pair(xdr.STRING, xdr.optional(xdr.UUID)), 1000), xdr.char_list(100), xdr.array(xdr.U64, 9))
    try:
        value = codec.decode(data)
    except DecodeError:
        return
    assert len(str(value)) < 100 * len(data) + 100


@given(value=TEXT, cut=st.integers(1, 4))
@settings(max_examples=100)
def test_a_payload_that_is_cut_short_is_refused(value: str, cut: int) -> None:
    data = xdr.STRING.encode(value)
    with pytest.raises(DecodeError):
        xdr.STRING.decode(data[:-cut])


def test_lists_over_their_limit_are_refused_before_they_are_read() -> None:
    with pytest.raises(DecodeError):
        xdr.array(xdr.U32, 2).decode(bytes.fromhex("00000003 00000000 00000000 00000000"))
    with pytest.raises(DecodeError):
        xdr.array(xdr.STRING, 1 << 32).decode(bytes.fromhex("7fffffff 00000000"))
    with pytest.raises(EncodeError):
        xdr.array(xdr.U32, 2).encode((1, 2, 3))
    with pytest.raises(EncodeError):
        xdr.array(xdr.STRING, 1).encode(("a", "b"))


def test_strings_over_four_mebibytes_are_refused_on_both_sides() -> None:
    longest = "x" * xdr.STRING_MAX
    assert xdr.STRING.decode(xdr.STRING.encode(longest)) == longest
    with pytest.raises(EncodeError):
        xdr.STRING.encode(longest + "x")
    with pytest.raises(DecodeError):
        xdr.STRING.decode((xdr.STRING_MAX + 1).to_bytes(4, "big") + bytes(xdr.STRING_MAX + 4))


def test_odd_input_that_libvirt_accepts_is_accepted() -> None:
    assert xdr.STRING.decode(b"\0\0\0\3a\0b\0") == "a"
    assert xdr.STRING.decode(b"\0\0\0\1a\xff\xff\xff") == "a"
    assert xdr.optional(xdr.U32).decode(b"\1\0\0\0\0\0\0\7") == 7
    broken = xdr.STRING.decode(b"\0\0\0\2\xff\xfe\0\0")
    assert broken == "\udcff\udcfe"
    assert xdr.STRING.encode(broken) == b"\0\0\0\2\xff\xfe\0\0"


def test_values_that_do_not_fit_are_refused_instead_of_cut() -> None:
    cases: list[tuple[AnyCodec, object]] = [
        (xdr.I32, 1 << 31),
        (xdr.U32, -1),
        (xdr.STRING, "a\0b"),
        (xdr.STRING, "\ud800"),
        (xdr.UUID, b"short"),
        (pair(xdr.U32, xdr.UUID), Pair((1, b"short"))),
        (xdr.opaque(2), b"abc"),
        (xdr.char_array(2), b"abc"),
        (xdr.char_list(2), b"abc"),
    ]
    for codec, value in cases:
        with pytest.raises(EncodeError):
            codec.encode(value)
