"""No client can hold up the daemon or make it grow: requests in flight, unread replies, silence, unread events."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
import struct

import pytest

from virlet.daemon import connection, outbox
from virlet.daemon import server as server_module
from virlet.enums import ErrorCode
from virlet.errors import VirletError
from virlet.wire import remote
from virlet.wire.link import Reply
from virlet.wire.packet import PING, PONG


async def defined(client, name="a"):
    return (await client.ask(remote.DOMAIN_DEFINE_XML, f"<domain><name>{name}</name></domain>"))[0]


async def until(condition):
    """Let the loop turn until *condition* holds; the test's own time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110  the server has no event for it, and needs none
        await asyncio.sleep(0.001)


async def test_a_quick_call_overtakes_a_slow_one(client, driver):
    dom = await defined(client)
    driver.gate.clear()
    slow = client.link.call(remote.DOMAIN_CREATE, (dom,))
    quick = client.link.call(remote.CONNECT_GET_TYPE, None)
    await client.say(slow.data + quick.data)
    assert (await client.next()).serial == quick.serial
    driver.gate.set()
    assert (await client.next()).serial == slow.serial


async def test_five_calls_are_held_and_the_rest_waits_unread(client, driver):
    doms = [await defined(client, f"d{number}") for number in range(7)]
    driver.gate.clear()
    await client.say(b"".join(client.link.call(remote.DOMAIN_CREATE, (dom,)).data for dom in doms))
    last = client.link.call(remote.CONNECT_GET_TYPE, None)
    await client.say(last.data)
    for _ in range(20):
        await asyncio.sleep(0)
    assert sum(guest.id >= 0 for guest in driver.guests.values()) == 0
    assert client.events == []
    driver.gate.set()
    serials = [(await client.next()).serial for _ in range(8)]
    assert sorted(serials) == list(range(last.serial - 7, last.serial + 1))


async def test_a_client_that_asks_much_is_answered_in_turn_with_the_others(client, connect, kit):
    greedy, other = client, connect()
    await other.ask(remote.CONNECT_OPEN, kit.URI, 0)
    questions = [greedy.link.call(remote.CONNECT_GET_TYPE, None) for _ in range(1000)]
    await greedy.say(b"".join(question.data for question in questions))
    await other.ask(remote.CONNECT_GET_TYPE)
    assert (await greedy.next()).serial == questions[0].serial
    assert len(greedy.events) < 100
    last = [(await greedy.next()).serial for _ in questions[1:]][-1]
    assert last == questions[-1].serial


async def test_a_large_packet_is_read_in_large_pieces(client, server, monkeypatch):
    (one,) = server.connections
    sizes = []

    class Counting:
        def __init__(self, sock):
            self._sock = sock

        def recvmsg(self, size, *args):
            sizes.append(size)
            return self._sock.recvmsg(size, *args)

        def __getattr__(self, name):
            return getattr(self._sock, name)

    monkeypatch.setattr(one, "_sock", Counting(one._sock))
    xml = f"<domain><name>a</name><!--{'x' * 1_000_000}--></domain>"
    await client.ask(remote.DOMAIN_DEFINE_XML, xml)
    assert sizes[0] == connection.READ_LEAST
    assert max(sizes) == connection.READ_MOST
    assert len(sizes) < 100
    sizes.clear()
    await client.ask(remote.CONNECT_GET_TYPE)
    assert sizes == [connection.READ_LEAST]


async def test_a_ping_is_answered_while_a_call_waits(client, driver):
    dom = await defined(client)
    driver.gate.clear()
    await client.say(client.link.call(remote.DOMAIN_CREATE, (dom,)).data + PING)
    assert await client.hear() == PONG
    driver.gate.set()
    assert isinstance(await client.next(), Reply)


async def test_pings_begin_after_feature_10_and_silence_is_the_end(connect, monkeypatch):
    monkeypatch.setattr(connection, "PING_INTERVAL", 0.02)
    monkeypatch.setattr(connection, "PING_COUNT", 3)
    one = connect()
    await one.ask(remote.CONNECT_SUPPORTS_FEATURE, 10)
    heard = b""
    while data := await one.hear():
        heard += data
    assert heard == PING * 3


async def test_a_client_that_never_asked_is_never_pinged(connect, monkeypatch):
    monkeypatch.setattr(connection, "PING_INTERVAL", 0.02)
    silent, one = connect(), connect()
    await silent.ask(remote.AUTH_LIST)
    await one.ask(remote.CONNECT_SUPPORTS_FEATURE, 10)
    for _ in range(5):  # Meanwhile somebody else is.
        assert await one.hear() == PING
        await one.say(PONG)
    with pytest.raises(BlockingIOError):
        silent.sock.recv(1)


async def test_a_pong_keeps_the_connection(connect, monkeypatch, clock):
    monkeypatch.setattr(connection, "PING_COUNT", 1)
    one = connect()
    await one.ask(remote.CONNECT_SUPPORTS_FEATURE, 10)
    for _ in range(5):
        clock.advance(connection.PING_INTERVAL)
        assert await one.hear() == PING
        await one.say(PONG)
        for _ in range(2):  # What has arrived is read in the loop's next turn.
            await asyncio.sleep(0)
    clock.advance(connection.PING_INTERVAL)
    assert await one.hear() == PING
    clock.advance(connection.PING_INTERVAL)
    assert await one.hear() == b"", "without one it would have ended"


async def test_a_client_that_reads_no_replies_stalls_itself_alone(client, driver, connect, server):
    dom = await defined(client)
    driver.guests[next(iter(driver.guests))].xml = "x" * 100_000
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    calls = b"".join(client.link.call(remote.DOMAIN_GET_XML_DESC, (dom, 0)).data for _ in range(500))
    sending = asyncio.ensure_future(client.say(calls))
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    await until(lambda: any(one.unsent for one in server.connections))
    for _ in range(50):
        assert await other.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
    (stalled,) = [one for one in server.connections if one.unsent]
    assert stalled.unsent < outbox.HIGH + 200_000
    for _ in range(500):
        assert len((await client.next()).value.xml) == 100_000
    await sending


async def test_a_client_that_takes_nothing_is_dropped(client, driver, monkeypatch, server):
    monkeypatch.setattr(outbox, "STALLED", 0.05)
    dom = await defined(client)
    driver.guests[next(iter(driver.guests))].xml = "x" * 3_000_000
    await client.say(client.link.call(remote.DOMAIN_GET_XML_DESC, (dom, 0)).data)
    await until(lambda: not server.connections)


async def test_a_client_that_lets_events_pile_up_is_dropped(client, driver, monkeypatch, server):
    monkeypatch.setattr(outbox, "MOST", 100_000)
    await client.ask(remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, 0, None)
    await defined(client)
    (one,) = driver.guests.values()
    for _ in range(100_000):
        driver.emit(one, 4, 0)
        if next(iter(server.connections)).unsent > 100_000:
            break
    await until(lambda: not server.connections)


async def test_more_clients_than_allowed_wait_at_the_door(connect, monkeypatch, server):
    monkeypatch.setattr(server_module, "CLIENTS", 2)
    first, second, third = connect(), connect(), connect()
    await first.ask(remote.AUTH_LIST)
    await second.ask(remote.AUTH_LIST)
    waiting = asyncio.ensure_future(third.ask(remote.AUTH_LIST))
    for _ in range(20):  # As many turns of the loop, in which those inside are served.
        await first.ask(remote.AUTH_LIST)
        await second.ask(remote.AUTH_LIST)
    assert not waiting.done()
    assert len(server.connections) == 2
    first.close()
    assert await waiting == ((0,),)


@pytest.mark.parametrize("idle", [0, 1])
async def test_clients_that_found_no_descriptor_are_let_in_when_there_is_one_though_nobody_leaves(
    connect, monkeypatch, server, caplog, idle
):
    monkeypatch.setattr(server_module, "AGAIN", 0.02)
    for _ in range(idle):
        await connect().ask(remote.AUTH_LIST)
    late = connect()
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)  # Below it there is no free number.
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, before[1]))
    try:
        waiting = asyncio.ensure_future(late.ask(remote.AUTH_LIST))
        await until(lambda: "cannot accept a client" in caplog.text)
        await asyncio.sleep(0.1)  # For some attempts more.
        assert not waiting.done()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        os.close(lowest)
    assert await waiting == ((0,),)
    assert caplog.text.count("cannot accept a client: Too many open files; trying again") == 1


async def test_many_clients_at_once(connect, server):
    clients = [connect() for _ in range(400)]
    for one in clients:
        await one.ask(remote.CONNECT_OPEN, "", 0)
    assert len(server.connections) == 400
    for one in clients:
        one.close()
    await until(lambda: not server.connections)


async def test_a_bug_in_a_driver_is_an_answer_and_a_traceback_in_the_log(client, caplog):
    dom = await defined(client)
    with pytest.raises(VirletError, match="bug in virletd: ZeroDivisionError in DOMAIN_RESET") as caught:
        await client.ask(remote.DOMAIN_RESET, dom, 0)
    assert caught.value.code == ErrorCode.INTERNAL_ERROR
    assert "Traceback" in caplog.text
    assert await client.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)


async def test_autodestroy_guests_end_with_their_connection(client, driver, connect):
    dom = await defined(client)
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    await other.ask(remote.DOMAIN_CREATE_WITH_FLAGS, dom, 2)
    await client.ask(remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, 0, None)
    other.close()
    said = await client.next()
    assert said.value.msg[1:] == (5, 1)


async def test_what_a_client_began_goes_on_when_it_vanishes(client, driver, server):
    dom = await defined(client)
    driver.gate.clear()
    await client.say(client.link.call(remote.DOMAIN_CREATE, (dom,)).data)
    await until(lambda: any(one.tasks for one in server.connections))
    client.close()
    await until(lambda: not server.connections)
    driver.gate.set()
    (guest,) = driver.guests.values()
    await until(lambda: guest.id >= 0)


async def test_what_ends_with_its_client_ends_also_when_that_died_while_it_was_started(client, driver, server):
    dom = await defined(client)
    driver.gate.clear()
    await client.say(client.link.call(remote.DOMAIN_CREATE_WITH_FLAGS, (dom, 2)).data)
    await until(lambda: any(one.tasks for one in server.connections))
    client.close()
    await until(lambda: not server.connections)
    assert server.needed
    driver.gate.set()
    (guest,) = driver.guests.values()
    await until(lambda: not server.needed)
    assert guest.id == -1
    assert len(driver.gone) == 2


async def test_every_number_is_big_endian_on_the_wire(client):
    await client.say(client.link.call(remote.CONNECT_GET_LIB_VERSION, None).data)
    assert struct.unpack(">Q", (await client.hear())[28:]) == (9_000_000,)


async def test_the_end_of_the_daemon_waits_for_calls_at_work_and_begins_no_more(kit, driver, monkeypatch):
    async with kit.serving(driver) as (server, path):
        client = kit.RawClient(path)
        await client.ask(remote.CONNECT_OPEN, kit.URI, 0)
        doms = [await defined(client, f"d{number}") for number in range(7)]
        driver.gate.clear()
        await client.say(b"".join(client.link.call(remote.DOMAIN_CREATE, (dom,)).data for dom in doms))
        await until(lambda: sum(len(one.tasks) for one in server.connections) == 5)
        ending = asyncio.ensure_future(server.close())
        await asyncio.sleep(0.01)
        driver.gate.set()
        await ending
        assert sum(guest.id >= 0 for guest in driver.guests.values()) == 5
        client.close()


async def test_what_takes_too_long_at_the_end_is_undone(kit, driver, monkeypatch):
    monkeypatch.setattr(server_module, "PATIENCE", 0.05)
    async with kit.serving(driver) as (server, path):
        client = kit.RawClient(path)
        await client.ask(remote.CONNECT_OPEN, kit.URI, 0)
        dom = await defined(client)
        driver.gate.clear()
        await client.say(client.link.call(remote.DOMAIN_CREATE, (dom,)).data)
        await until(lambda: any(one.tasks for one in server.connections))
        await server.close()
        assert [guest.id for guest in driver.guests.values()] == [-1]
        client.close()
