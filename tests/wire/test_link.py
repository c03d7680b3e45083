"""virlet.wire.link: both ends against each other, against hand-made bytes, and against garbage."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.errors import NoDomain, OperationFailed
from virlet.wire import keepalive, qemu, remote, types, virlet
from virlet.wire.link import (
    Broken,
    Call,
    ClientLink,
    Failed,
    Message,
    Reply,
    ServerLink,
    StreamAbort,
    StreamData,
    StreamFinish,
    StreamHole,
    StreamId,
)
from virlet.wire.packet import PIECE_MAX, PING, PONG, Framer, packet
from virlet.wire.xdr import DecodeError

PROGRAMS = [table.PROGRAM.id for table in (remote, qemu, virlet)]
DOM = types.Domain("vm", bytes(range(16)), 3)
NAME = remote.DomainLookupByNameArgs("vm")


def ends() -> tuple[ClientLink, ServerLink]:
    return ClientLink(), ServerLink(PROGRAMS)


def only_call(server: ServerLink, data: bytes) -> Call:
    (call,) = server.feed(data)
    assert isinstance(call, Call)
    return call


def opened(*, sparse: bool = False) -> tuple[ClientLink, ServerLink, StreamId]:
    client, server = ends()
    args = remote.DomainOpenConsoleArgs(DOM, None, 0)
    request = client.call(remote.DOMAIN_OPEN_CONSOLE, args, sparse=sparse)
    call = only_call(server, request.data)
    assert client.feed(server.reply(call, None, sparse=sparse)) == [Reply(0, None, ())]
    return client, server, call.stream


def refusal(data: bytes) -> str:
    """The error text in the server's own answer to *data*."""
    server = ServerLink(PROGRAMS)
    assert server.feed(data) == []
    client = ClientLink()
    client._calls[7] = (remote.CONNECT_CLOSE, False)
    answer = server.to_send()
    (got,) = Framer().feed(answer)
    assert (got.kind, got.serial, got.status) == (1, 7, 1)
    assert answer[4:16] == data[4:16]
    as_remote = packet(remote.PROGRAM.id, 1, got.procedure, got.kind, got.serial, got.status, got.payload)
    (failed,) = client.feed(as_remote)
    assert isinstance(failed, Failed)
    assert (failed.error.code, failed.error.domain) == (39, 7)
    return failed.error.message


def test_a_call_and_its_reply() -> None:
    client, server = ends()
    request = client.call(remote.DOMAIN_LOOKUP_BY_NAME, NAME)
    assert request.data.hex() == (
        "00000024" "20008086" "00000001" "00000017" "00000000" "00000000" "00000000" "00000002" "766d0000"
    )  # fmt: skip
    call = only_call(server, request.data)
    assert call.procedure is remote.DOMAIN_LOOKUP_BY_NAME
    assert call.procedure.decode_args(call.payload) == NAME
    ret = remote.DomainLookupByNameRet(DOM)
    assert client.feed(server.reply(call, ret)) == [Reply(0, ret, ())]


def test_replies_may_overtake_each_other() -> None:
    client, server = ends()
    first = only_call(server, client.call(remote.CONNECT_GET_TYPE, None).data)
    second = only_call(server, client.call(remote.CONNECT_GET_LIB_VERSION, None).data)
    data = server.reply(second, remote.ConnectGetLibVersionRet(9)) + server.reply(first, remote.ConnectGetTypeRet("Q"))
    assert [(got.serial, got.value[0]) for got in client.feed(data) if isinstance(got, Reply)] == [(1, 9), (0, "Q")]


def test_an_error_reply_is_an_exception_on_the_other_side() -> None:
    client, server = ends()
    call = only_call(server, client.call(remote.DOMAIN_LOOKUP_BY_NAME, NAME).data)
    (failed,) = client.feed(server.error(call, NoDomain("no domain 'vm'")))
    assert isinstance(failed, Failed)
    assert type(failed.error) is NoDomain
    assert failed.error.message == "Domain not found: no domain 'vm'"


def test_a_result_too_big_for_the_protocol_becomes_an_error() -> None:
    client, server = ends()
    call = only_call(server, client.call(remote.CONNECT_GET_CAPABILITIES, None).data)
    (failed,) = client.feed(server.reply(call, remote.ConnectGetCapabilitiesRet("x" * 4_194_305)))
    assert isinstance(failed, Failed)
    assert failed.error.message == "Unable to encode message payload"


def test_a_reply_that_cannot_be_decoded_fails_its_call_only() -> None:
    client, server = ends()
    call = only_call(server, client.call(remote.CONNECT_GET_TYPE, None).data)
    whole = server.reply(call, remote.ConnectGetTypeRet("QEMU"))
    short = (len(whole) - 4).to_bytes(4, "big") + whole[4:-4]
    (failed,) = client.feed(short)
    assert isinstance(failed, Failed)
    assert client.feed(whole) == []


@pytest.mark.parametrize(
    ("program", "version", "procedure", "status", "text"),
    [
        (0x12345678, 1, 1, 0, "Cannot find program 305419896 version 1"),
        (0x20008086, 2, 1, 0, "Cannot find program 536903814 version 2"),
        (0x06900690, 1, 1, 0, "Cannot find program 110102160 version 1"),
        (0x20008086, 1, 99999, 0, "unknown procedure: 99999"),
        (0x20008086, 1, 0, 0, "unknown procedure: 0"),
        (0x20008086, 1, -5, 0, "unknown procedure: -5"),
        (0x20008086, 1, 318, 0, "unknown procedure: 318"),
        (0x20008086, 1, 1, 2, "Unexpected message status 2"),
        (0x20008086, 1, 1, -1, "Unexpected message status 4294967295"),
    ],
)
def test_calls_that_nobody_serves_are_answered_by_the_link(
    program: int, version: int, procedure: int, status: int, text: str
) -> None:
    assert refusal(packet(program, version, procedure, 0, 7, status, b"")) == text


@pytest.mark.parametrize("kind", [1, 2, 3, 6, 7, -1])
def test_packets_that_mean_nothing_to_a_server_are_dropped(kind: int) -> None:
    server = ServerLink(PROGRAMS)
    assert server.feed(packet(remote.PROGRAM.id, 1, 1, kind, 7, 0, bytes(12))) == []
    assert server.to_send() == b""


def test_both_ends_answer_a_ping() -> None:
    for link in ends():
        assert link.feed(PING + PONG) == []
        assert link.to_send() == PONG
        assert link.to_send() == b""


def test_events_are_messages_with_serial_1() -> None:
    client, server = ends()
    msg = remote.DomainEventCallbackLifecycleMsg(0, types.DomainEventLifecycleMsg(DOM, 2, 0))
    data = server.message(remote.DOMAIN_EVENT_CALLBACK_LIFECYCLE, msg)
    assert data[16:28].hex() == "000000020000000100000000"
    assert client.feed(data) == [Message(remote.DOMAIN_EVENT_CALLBACK_LIFECYCLE, msg)]
    assert client.feed(packet(remote.PROGRAM.id, 1, 318, 2, 1, 0, b"")) == []
    assert client.feed(packet(remote.PROGRAM.id, 1, 9999, 2, 1, 0, b"")) == []


def test_streams_carry_bytes_both_ways_until_they_are_finished() -> None:
    client, server, stream = opened()
    assert client.feed(server.stream_data(stream, b"login: ")) == [StreamData(stream, b"login: ")]
    assert server.feed(client.stream_data(stream, b"root\r")) == [StreamData(stream, b"root\r")]
    assert client.feed(server.stream_data(stream, b"")) == [StreamData(stream, b"")]
    assert server.feed(client.stream_finish(stream)) == [StreamFinish(stream)]
    assert server.feed(client.stream_data(stream, b"late")) == []
    assert client.feed(server.stream_finish(stream)) == [StreamFinish(stream)]
    assert client.feed(server.stream_data(stream, b"late")) == []


def test_long_data_goes_in_pieces() -> None:
    client, server, stream = opened()
    data = bytes(PIECE_MAX) + b"24 more"
    pieces = client.feed(server.stream_data(stream, data))
    assert [len(one.data) for one in pieces if isinstance(one, StreamData)] == [PIECE_MAX, 7]


def test_an_abort_is_answered_by_finish_and_data_in_between_still_arrives() -> None:
    client, server, stream = opened()
    late = server.stream_data(stream, b"late")
    assert server.feed(client.stream_abort(stream)) == [StreamAbort(stream, None)]
    said = client.feed(late + server.stream_finish(stream))
    assert said == [StreamData(stream, b"late"), StreamFinish(stream)]


def test_a_stream_that_fails_says_why() -> None:
    client, server, stream = opened()
    (said,) = client.feed(server.stream_error(stream, OperationFailed("kicked")))
    assert isinstance(said, StreamAbort)
    assert str(said.error) == "operation failed: kicked"
    assert server.feed(client.stream_data(stream, b"x")) == []


def test_holes_need_a_sparse_stream() -> None:
    client, server, stream = opened(sparse=True)
    assert client.feed(server.stream_hole(stream, 4096)) == [StreamHole(stream, 4096)]
    client, server, stream = opened()
    (broken,) = server.feed(client.stream_hole(stream, 4096) + PING)
    assert isinstance(broken, Broken)
    assert server.feed(PING) == []


def test_the_stream_of_an_abandoned_call_is_aborted() -> None:
    client, server = ends()
    request = client.call(remote.DOMAIN_OPEN_CONSOLE, remote.DomainOpenConsoleArgs(DOM, None, 0))
    client.abandon(request.serial)
    call = only_call(server, request.data)
    assert client.feed(server.reply(call, None)) == []
    assert server.feed(client.to_send()) == [StreamAbort(call.stream, None)]


def test_descriptors_travel_with_calls_and_replies() -> None:
    client, server = ends()
    request = client.call(remote.DOMAIN_OPEN_GRAPHICS, remote.DomainOpenGraphicsArgs(DOM, 0, 0), fds=1)
    (call,) = server.feed(request.data + b"\0", [10])
    assert isinstance(call, Call)
    assert call.fds == (10,)
    assert call.procedure.decode_args(call.payload).dom == DOM
    request = client.call(remote.DOMAIN_OPEN_GRAPHICS_FD, remote.DomainOpenGraphicsFdArgs(DOM, 0, 0))
    call = only_call(server, request.data)
    assert client.feed(server.reply(call, None, fds=1) + b"\0", [11]) == [Reply(request.serial, None, (11,))]
    assert client.close() == server.close() == []


def test_descriptors_of_packets_that_lead_nowhere_are_for_the_shell_to_close() -> None:
    server = ServerLink(PROGRAMS)
    body = (1).to_bytes(4, "big")
    server.feed(packet(remote.PROGRAM.id, 1, 99999, 4, 0, 0, body) + b"\0", [10])
    server.feed(packet(remote.PROGRAM.id, 1, 1, 5, 0, 0, body) + b"\0", [11])
    assert server.unwanted == [10, 11]
    assert server.close() == [10, 11]
    client = ClientLink()
    client.feed(packet(remote.PROGRAM.id, 1, 1, 5, 0, 0, body) + b"\0", [12])
    assert client.close() == [12]


def test_keepalive_cannot_be_called() -> None:
    server = ServerLink(PROGRAMS)
    assert server.feed(packet(keepalive.PROGRAM.id, 1, 1, 0, 0, 0, b"")) == []
    assert b"Cannot find program" in server.to_send()


PACKETS = st.builds(
    packet,
    st.sampled_from([*PROGRAMS, keepalive.PROGRAM.id, 1]),
    st.sampled_from([1, 1, 1, 2]),
    st.integers(-1, 460),
    st.integers(0, 7),
    st.integers(0, 3),
    st.integers(0, 3),
    st.binary(max_size=40),
)
STREAMS = st.lists(PACKETS | st.binary(max_size=40) | st.just(PING), max_size=6).map(b"".join)


@given(data=STREAMS)
@settings(max_examples=300)
def test_whatever_the_bytes_a_server_only_answers_drops_or_breaks(data: bytes) -> None:
    """Invariant: feed never raises, and whole and byte by byte give the same events and the same answers."""
    whole, single = ServerLink(PROGRAMS), ServerLink(PROGRAMS)
    events = whole.feed(data)
    one_by_one = [event for at in range(len(data)) for event in single.feed(data[at : at + 1])]
    assert [str(event) for event in events] == [str(event) for event in one_by_one]
    assert whole.to_send() == single.to_send()
    for event in events:
        if isinstance(event, Call):
            with suppress(DecodeError):
                event.procedure.decode_args(event.payload)


@given(data=STREAMS)
@settings(max_examples=300)
def test_whatever_the_bytes_a_client_only_fails_its_calls_or_breaks(data: bytes) -> None:
    """Invariant: feed never raises, and whole and byte by byte give the same events."""

    def waiting() -> ClientLink:
        client = ClientLink()
        client.call(remote.CONNECT_GET_TYPE, None)
        client.call(remote.DOMAIN_OPEN_CONSOLE, remote.DomainOpenConsoleArgs(DOM, None, 0))
        client.call(virlet.VERSION, None)
        return client

    whole, single = waiting(), waiting()
    events = whole.feed(data)
    one_by_one = [event for at in range(len(data)) for event in single.feed(data[at : at + 1])]
    assert [str(event) for event in events] == [str(event) for event in one_by_one]
    assert whole.to_send() == single.to_send()
