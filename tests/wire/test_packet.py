"""virlet.wire.packet: framing, whole and byte by byte."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.errors import RpcError
from virlet.wire.packet import (
    CALL,
    CALL_WITH_FDS,
    FDS_MAX,
    HEADER,
    LENGTH_MAX,
    PING,
    PONG,
    Framer,
    Packet,
    packet,
)

REMOTE = 0x20008086


def with_fds(count: int, payload: bytes = b"", *, dummies: int | None = None) -> bytes:
    head = packet(REMOTE, 1, 5, CALL_WITH_FDS, 9, 0, count.to_bytes(4, "big") + payload)
    return head + bytes(count if dummies is None else dummies)


def test_a_packet_is_its_length_six_words_and_the_payload() -> None:
    data = packet(REMOTE, 1, 66, CALL, 0, 0, b"abcd")
    assert data.hex() == "0000002020008086000000010000004200000000000000000000000061626364"
    assert Framer().feed(data) == [Packet(REMOTE, 1, 66, CALL, 0, 0, b"abcd", ())]


def test_keepalive_packets_are_28_bytes() -> None:
    assert PING.hex() == "0000001c6b6565700000000100000001000000020000000000000000"
    assert PONG.hex() == "0000001c6b6565700000000100000002000000020000000000000000"


@given(payloads=st.lists(st.binary(max_size=60), max_size=6), cuts=st.lists(st.integers(1, 50), max_size=30))
@settings(max_examples=150)
def test_however_the_bytes_arrive_the_packets_are_the_same(payloads: list[bytes], cuts: list[int]) -> None:
    stream = b"".join(packet(REMOTE, 1, n, CALL, n, 0, payload) for n, payload in enumerate(payloads))
    whole = Framer().feed(stream)
    assert [got.payload for got in whole] == payloads
    pieces, single = [], []
    framer, by_byte = Framer(), Framer()
    rest = stream
    for cut in cuts:
        pieces += framer.feed(rest[:cut])
        rest = rest[cut:]
    pieces += framer.feed(rest)
    for at in range(len(stream)):
        single += by_byte.feed(stream[at : at + 1])
    assert whole == pieces == single


def test_what_is_missing_is_known_as_soon_as_the_length_is() -> None:
    framer, data = Framer(), with_fds(2, bytes(100))
    assert framer.missing == 0
    framer.feed(data[:2])
    assert framer.missing == 2
    framer.feed(data[2:10])
    assert framer.missing == len(data) - 2 - 10  # that descriptors follow is in the header
    framer.feed(data[10:40], (7, 8))
    assert framer.missing == len(data) - 2 - 40
    framer.feed(data[40:-2])
    assert framer.missing == 2
    assert framer.feed(data[-2:] + data[:1])[0].fds == (7, 8)
    assert framer.missing == 3


@pytest.mark.parametrize("length", [0, 1, 27, LENGTH_MAX + 1, 0xFFFFFFFF])
def test_impossible_lengths_break_the_connection_at_once(length: int) -> None:
    framer = Framer()
    assert framer.feed(PING + length.to_bytes(4, "big")) == Framer().feed(PING)
    assert isinstance(framer.broken, RpcError)
    assert framer.feed(PING) == []


def test_the_longest_packet_is_accepted_and_none_longer_is_made() -> None:
    data = packet(REMOTE, 1, 1, CALL, 0, 0, bytes(LENGTH_MAX - 28))
    framer = Framer()
    got = [one for at in range(0, len(data), 1 << 20) for one in framer.feed(data[at : at + (1 << 20)])]
    assert len(got[0].payload) == LENGTH_MAX - 28
    with pytest.raises(RpcError):
        packet(REMOTE, 1, 1, CALL, 0, 0, bytes(LENGTH_MAX - 27))


def test_descriptors_belong_to_the_packet_before_their_bytes() -> None:
    framer = Framer()
    first, second = with_fds(2, b"abcd"), with_fds(1)
    assert framer.feed(first[:-1], [10]) == []
    (one,) = framer.feed(first[-1:], [11])
    assert (one.payload, one.fds) == (b"abcd", (10, 11))
    (two, ping) = framer.feed(second + PING, [12])
    assert (two.fds, ping.fds) == ((12,), ())
    assert framer.broken is None


def test_no_descriptors_is_a_fine_number_of_them() -> None:
    assert Framer().feed(with_fds(0, b"abcd"))[0].payload == b"abcd"


@pytest.mark.parametrize(
    ("data", "fds"),
    [
        (with_fds(FDS_MAX + 1), []),
        (with_fds(2), [10]),
        (HEADER.pack(28, REMOTE, 1, 1, CALL_WITH_FDS, 0, 0), []),
        (PING, [10]),
        (b"", [10]),
        (packet(REMOTE, 1, 1, CALL, 0, 0, b"")[:20], [10]),
        (with_fds(1, dummies=0), list(range(10, 10 + FDS_MAX + 1))),
    ],
)
def test_descriptors_that_do_not_add_up_break_the_connection(data: bytes, fds: list[int]) -> None:
    framer = Framer()
    got = [fd for one in framer.feed(data, fds) for fd in one.fds]
    assert framer.broken is not None
    assert sorted(got + framer.take_fds()) == fds
