"""Consoles as streams, both ways, with a slow client, a slow guest, and the ends of each."""

from __future__ import annotations

import asyncio
import socket
import struct

import pytest

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import VirletError
from virlet.wire import remote
from virlet.wire.link import StreamAbort, StreamData, StreamFinish, StreamId
from virlet.wire.packet import packet


async def running(client):
    (dom,) = await client.ask(remote.DOMAIN_DEFINE_XML, "<domain><name>a</name></domain>")
    await client.ask(remote.DOMAIN_CREATE, dom)
    return dom


async def console(client, dom, flags=0):
    """An open console: the stream and the guest's side."""
    serial = client.link._serial
    await client.ask(remote.DOMAIN_OPEN_CONSOLE, dom, None, flags)
    return StreamId(remote.PROGRAM.id, remote.DOMAIN_OPEN_CONSOLE.number, serial)


async def heard_by(guest, count):
    guest.setblocking(False)
    data = b""
    while len(data) < count:
        data += await asyncio.wait_for(asyncio.get_running_loop().sock_recv(guest, 65_536), 30)
    return data


async def test_bytes_go_both_ways(client, driver):
    stream = await console(client, await running(client))
    guest = driver.consoles[0].guest
    guest.sendall(b"login: ")
    assert await client.next() == StreamData(stream, b"login: ")
    await client.say(client.link.stream_data(stream, b"root\n"))
    assert await heard_by(guest, 5) == b"root\n"


async def test_the_end_of_the_guest_is_an_empty_packet_and_finish_is_answered(client, driver):
    stream = await console(client, await running(client))
    driver.consoles[0].guest.close()
    assert await client.next() == StreamData(stream, b"")
    await client.say(
        client.link.stream_data(stream, b"into the void") + packet(*stream[:1], 1, stream[1], 3, stream[2], 0, b"")
    )
    assert await client.next() == StreamFinish(stream)
    assert driver.consoles[0].fileno() == -1


@pytest.mark.parametrize("status", [0, 1])
async def test_finish_and_abort_are_answered_with_the_end_and_close_the_console(client, driver, status):
    stream = await console(client, await running(client))
    await client.say(packet(stream.program, 1, stream.procedure, 3, stream.serial, status, b""))
    assert await client.next() == StreamFinish(stream)
    assert driver.consoles[0].guest.recv(1) == b""
    await client.say(packet(stream.program, 1, stream.procedure, 3, stream.serial, 2, b"late"))
    assert await client.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)


async def test_busy_without_force_and_kicked_with_it(client, driver, connect):
    dom = await running(client)
    stream = await console(client, dom)
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    with pytest.raises(VirletError, match="Active console session exists"):
        await console(other, dom)
    await console(other, dom, 1)
    said = await client.next()
    assert isinstance(said, StreamAbort)
    assert said.stream == stream
    assert said.error.message == "stream had I/O failure"
    assert (said.error.code, said.error.domain) == (ErrorCode.RPC, ErrorDomain.STREAMS)
    driver.consoles[1].guest.sendall(b"hello")
    assert (await other.next()).data == b"hello"


async def test_a_stopped_guest_and_a_wrong_device_are_told(client):
    (dom,) = await client.ask(remote.DOMAIN_DEFINE_XML, "<domain><name>a</name></domain>")
    with pytest.raises(VirletError, match="domain is not running") as caught:
        await console(client, dom)
    assert caught.value.code == ErrorCode.OPERATION_INVALID
    await client.ask(remote.DOMAIN_CREATE, dom)
    with pytest.raises(VirletError, match="cannot find channel agent"):
        await client.ask(remote.DOMAIN_OPEN_CHANNEL, dom, "agent", 0)


async def test_a_hole_on_a_console_ends_the_connection(client, driver):
    stream = await console(client, await running(client))
    await client.say(packet(stream.program, 1, stream.procedure, 6, stream.serial, 2, struct.pack(">qI", 10, 0)))
    assert await client.hear() == b""
    assert driver.consoles[0].guest.recv(1) == b""


async def test_a_client_that_does_not_read_stops_the_reading_of_the_console_not_the_daemon(client, driver, connect):
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    await console(client, await running(client))
    guest = driver.consoles[0].guest
    guest.setblocking(False)
    written, quiet = 0, 0
    while quiet < 20:
        try:
            written += guest.send(bytes(65_536))
            quiet = 0
        except BlockingIOError:
            quiet += 1
            await asyncio.sleep(0)
    assert written < 4_000_000, "the rest stays with the guest"
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    assert await other.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
    received = 0
    while received < written:
        said = await client.next()
        received += len(said.data)
    assert received == written


async def test_a_guest_that_does_not_read_stops_the_reading_of_that_client_only(client, driver, connect):
    stream = await console(client, await running(client))
    sending = asyncio.ensure_future(client.say(client.link.stream_data(stream, bytes(8_000_000))))
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    assert await other.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
    assert not sending.done()
    assert await heard_by(driver.consoles[0].guest, 8_000_000) == bytes(8_000_000)
    await sending


async def test_a_client_that_vanishes_leaves_the_console_closed(client, driver):
    await console(client, await running(client))
    client.close()
    guest = driver.consoles[0].guest
    guest.setblocking(False)
    assert await asyncio.wait_for(asyncio.get_running_loop().sock_recv(guest, 1), 30) == b""


async def test_a_serial_that_names_an_open_stream_opens_no_second_one(client, driver):
    dom = await running(client)
    stream = await console(client, dom)
    client.link._serial = stream.serial
    driver.consoles[0].taken = lambda: None
    with pytest.raises(VirletError, match="names an open stream already"):
        await client.ask(remote.DOMAIN_OPEN_CONSOLE, dom, None, 1)
    assert driver.consoles[1].fileno() == -1
    driver.consoles[0].guest.sendall(b"still here")
    assert (await client.next()).data == b"still here"
