"""What the daemon says to odd input: libvirt's own answers, byte for byte where clients can see them."""

from __future__ import annotations

import asyncio
import os
import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import NoConnect, RpcError, VirletError
from virlet.wire import remote
from virlet.wire.faults import decode_error
from virlet.wire.packet import packet

PROGRAM = remote.PROGRAM.id
GET_TYPE = remote.CONNECT_GET_TYPE.number


def call(program=PROGRAM, version=1, procedure=GET_TYPE, kind=0, serial=7, status=0, payload=b""):
    return packet(program, version, procedure, kind, serial, status, payload)


async def answer(client, data):
    """The header's six words and the error of the one packet that comes back."""
    await client.say(data)
    got = await client.hear()
    return struct.unpack(">6I", got[4:28]), decode_error(got[28:])


@pytest.mark.parametrize(
    ("program", "version"), [(0x12345678, 1), (PROGRAM, 2), (0x06900690, 1), (0x00068000, 1)], ids=hex
)
async def test_an_unknown_program_or_version_is_named_in_decimal(client, program, version):
    header, error = await answer(client, call(program=program, version=version))
    assert header == (program, version, GET_TYPE, 1, 7, 1)
    assert (error.code, error.domain) == (ErrorCode.RPC, ErrorDomain.RPC)
    assert error.message == f"Cannot find program {program} version {version}"


@pytest.mark.parametrize("number", [0, -1, 99_999, 318])
async def test_an_unknown_procedure_is_named(client, number):
    _, error = await answer(client, call(procedure=number))
    assert (error.code, error.message) == (ErrorCode.RPC, f"unknown procedure: {number}")


@pytest.mark.parametrize("payload", [b"", b"\0\0\0\x20short", b"\xff\xff\xff\xff" + b"x" * 8])
async def test_a_payload_that_does_not_decode(client, payload):
    _, error = await answer(client, call(procedure=remote.DOMAIN_LOOKUP_BY_NAME.number, payload=payload))
    assert (error.code, error.domain) == (ErrorCode.RPC, ErrorDomain.RPC)
    assert error.message == "Unable to decode message payload"


async def test_bytes_after_the_arguments_are_ignored(client):
    await client.say(call(payload=b"more of the future"))
    assert (await client.hear())[28:] == b"\0\0\0\4QEMU"


async def test_a_call_with_a_status(client):
    _, error = await answer(client, call(status=1))
    assert (error.code, error.message) == (ErrorCode.RPC, "Unexpected message status 1")


@pytest.mark.parametrize("kind", [1, 2, 3, 6, 77])
async def test_packets_that_belong_to_nothing_are_dropped_and_the_client_stays(client, kind):
    await client.say(call(kind=kind, status=2, payload=bytes(12)) + call(serial=8))
    assert struct.unpack(">I", (await client.hear())[20:24]) == (8,)


@pytest.mark.parametrize("length", [0, 27, 33_554_437, 0xFFFFFFFF])
async def test_a_length_that_cannot_be_ends_the_connection(client, length):
    await client.say(struct.pack(">I", length) + bytes(40))
    assert await client.hear() == b""


async def test_a_call_with_no_descriptors_is_a_call(client):
    await client.say(call(kind=4, payload=bytes(4)))
    assert (await client.hear())[28:] == b"\0\0\0\4QEMU"


async def test_more_descriptors_than_a_packet_can_have_end_the_connection(client):
    await client.say(call(kind=4, payload=struct.pack(">I", 33)))
    assert await client.hear() == b""


async def test_descriptors_that_no_call_wants_are_closed(client):
    before = set(os.listdir("/proc/self/fd"))
    reading, writing = os.pipe()
    await client.say(call(kind=4, payload=struct.pack(">I", 1)))
    socket.send_fds(client.sock, [b"\0"], [writing])
    os.close(writing)
    assert (await client.hear())[28:] == b"\0\0\0\4QEMU"
    assert os.read(reading, 1) == b"", "the daemon has closed its copy of the writing end"
    os.close(reading)
    assert set(os.listdir("/proc/self/fd")) == before


async def test_serials_may_be_anything(client):
    for serial in (5, 5, 0, 0xFFFFFFFF):
        await client.say(call(serial=serial))
        assert struct.unpack(">I", (await client.hear())[20:24]) == (serial,)


async def test_nothing_but_greetings_before_open(connect):
    one = connect()
    assert await one.ask(remote.AUTH_LIST) == ((0,),)
    assert await one.ask(remote.AUTH_LIST) == ((0,),)
    assert await one.ask(remote.CONNECT_SUPPORTS_FEATURE, 10) == (1,)
    for procedure, args in ((remote.CONNECT_GET_TYPE, ()), (remote.DOMAIN_MEMORY_STATS, (("d", bytes(16), 1), 1, 0))):
        with pytest.raises(VirletError) as caught:
            await one.ask(procedure, *args)
        assert (caught.value.code, caught.value.domain) == (ErrorCode.INTERNAL_ERROR, ErrorDomain.RPC)
        assert caught.value.message == "internal error: hypervisor connection not open"


async def test_an_open_that_failed_may_be_followed_by_another(connect):
    one = connect()
    with pytest.raises(VirletError, match="connection not open"):
        await one.ask(remote.CONNECT_OPEN, None, 0)
    with pytest.raises(NoConnect, match="no connection driver available for foo:///x"):
        await one.ask(remote.CONNECT_OPEN, "foo:///x", 0)
    with pytest.raises(VirletError, match="unexpected qemu URI path '/system', try qemu:///session"):
        await one.ask(remote.CONNECT_OPEN, "qemu:///system", 0)
    await one.ask(remote.CONNECT_OPEN, "", 0xFFFF_FFF0)
    assert await one.ask(remote.CONNECT_GET_URI) == ("qemu:///session",)


async def test_close_is_answered_and_then_the_socket_ends(client):
    await client.ask(remote.CONNECT_CLOSE)
    assert await client.hear() == b""


async def test_calls_behind_a_close_are_not_run(client, driver):
    request = client.link.call(remote.DOMAIN_DEFINE_XML, ("<name>x</name>",))
    await client.say(client.link.call(remote.CONNECT_CLOSE, None).data + request.data)
    await asyncio.wait_for(_end(client), 30)
    assert not driver.guests


async def _end(client):
    while await client.hear():
        pass


async def test_sasl_is_not_on_offer(connect):
    with pytest.raises(VirletError, match="authentication failed: authentication failed") as caught:
        await connect().ask(remote.AUTH_SASL_INIT)
    assert (caught.value.code, caught.value.domain) == (ErrorCode.AUTH_FAILED, ErrorDomain.RPC)


async def test_qemus_own_calls_are_not_supported_rather_than_unknown(client):
    from virlet.wire import qemu

    with pytest.raises(VirletError) as caught:
        await client.ask(qemu.DOMAIN_MONITOR_COMMAND, ("d", bytes(16), 1), "info", 0)
    assert (caught.value.code, caught.value.domain) == (ErrorCode.NO_SUPPORT, ErrorDomain.NONE)
    assert caught.value.message.startswith("this function is not supported by the connection driver: vir")


async def test_the_answer_to_the_impossible_is_short_of_the_limit(client, driver):
    (dom,) = await client.ask(remote.DOMAIN_DEFINE_XML, "<name>big</name>")
    driver.guests[next(iter(driver.guests))].xml = "x" * 5_000_000
    with pytest.raises(RpcError, match="Unable to encode message payload"):
        await client.ask(remote.DOMAIN_GET_XML_DESC, dom, 0)


KNOWN = st.sampled_from([row[0] for row in remote.PROGRAM.rows.values()])
HEADERS = st.tuples(
    st.sampled_from([PROGRAM, 0x20008087, 0x20766C74, 0x6B656570, 1]),
    st.sampled_from([1, 0, 2]),
    KNOWN | st.integers(-5, 500),
    st.sampled_from([0, 0, 0, 0, 1, 2, 3, 6, 9]),
    st.integers(0, 3),
    st.sampled_from([0, 0, 0, 1, 2]),
)


PACKETS = st.lists(st.tuples(HEADERS, st.binary(max_size=80)), min_size=1, max_size=8)


@settings(max_examples=100, deadline=None)
@given(
    packets=st.lists(st.tuples(HEADERS, st.binary(max_size=80)), min_size=1, max_size=8), junk=st.binary(max_size=40)
)
def test_whatever_a_client_says_the_daemon_lives_and_others_notice_nothing(kit, packets, junk):
    """Invariant: after any packets and then any bytes the server answers another client, and no descriptor is left."""
    before = set(os.listdir("/proc/self/fd"))
    asyncio.run(_fuzz(kit, packets, junk))
    assert set(os.listdir("/proc/self/fd")) == before


async def _fuzz(kit, packets, junk):
    async with kit.serving() as (_server, path):
        hostile, other = kit.RawClient(path), kit.RawClient(path)
        await other.ask(remote.CONNECT_OPEN, kit.URI, 0)
        await hostile.ask(remote.CONNECT_OPEN, kit.URI, 0)
        said = b"".join(packet(*header[:4], header[4], header[5], payload) for header, payload in packets)
        await hostile.say(said + junk)
        assert await other.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
        hostile.close()
        assert await other.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
        other.close()


@settings(max_examples=25, deadline=None)
@given(pieces=st.lists(st.integers(1, 60), min_size=1, max_size=30))
def test_bytes_may_come_in_any_pieces(kit, pieces):
    """Invariant: the same calls in any pieces have the same answers in the same order."""
    asyncio.run(_pieces(kit, pieces))


async def _pieces(kit, pieces):
    said = b"".join(call(serial=serial) for serial in range(8))
    async with kit.serving() as (_server, path):
        client = kit.RawClient(path)
        await client.ask(remote.CONNECT_OPEN, kit.URI, 0)
        for size in pieces:
            await client.say(said[:size])
            said = said[size:]
            await asyncio.sleep(0)
        await client.say(said)
        heard = b""
        while len(heard) < 8 * 36:
            heard += await client.hear()
        assert [struct.unpack_from(">I", heard, at * 36 + 20)[0] for at in range(8)] == list(range(8))
        client.close()
