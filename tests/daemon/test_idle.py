"""When the daemon may end."""

from __future__ import annotations

import asyncio

from virlet.daemon.idle import IdleExit
from virlet.wire import remote


async def until(condition):
    """Let the loop turn until *condition* holds; the test's own time limit ends a wait in vain."""
    while not condition():  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def test_it_ends_when_the_last_client_has_left(server, connect):
    stop = asyncio.Event()
    idle = IdleExit(server, 0.05, stop)
    server.on_change = idle.changed
    one, other = connect(), connect()
    await one.ask(remote.CONNECT_OPEN, "", 0)
    await other.ask(remote.CONNECT_OPEN, "", 0)
    one.close()
    await until(lambda: len(server.connections) == 1)
    assert idle._timer is None, "nothing ends it while a client is there"
    other.close()
    await asyncio.wait_for(stop.wait(), 30)


async def test_a_running_guest_keeps_it_and_its_end_lets_it_go(server, connect, driver):
    stop = asyncio.Event()
    idle = IdleExit(server, 0.05, stop)
    server.on_change = idle.changed
    one = connect()
    await one.ask(remote.CONNECT_OPEN, "", 0)
    ((dom),) = await one.ask(remote.DOMAIN_CREATE_XML, "<name>a</name>", 0)
    one.close()
    await until(lambda: not server.connections)
    await until(lambda: idle._timer is None)  # Its time is over: it has looked.
    assert not stop.is_set()
    (uuid,) = driver.guests
    assert uuid.bytes == dom.uuid
    await driver.destroy(uuid, 0)
    await asyncio.wait_for(stop.wait(), 30)


async def test_who_waits_at_the_door_is_let_in_first(server, connect):
    stop = asyncio.Event()
    idle = IdleExit(server, 0, stop)
    connect()
    idle._over()
    assert server.has_clients
    assert not stop.is_set()
