"""virlet.client.aio against a server of our own."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from virlet.client import aio
from virlet.client.aio import connect
from virlet.errors import AuthFailed, NoConnect, NoDomain, OperationFailed, RpcError
from virlet.wire import remote, types
from virlet.wire.events import Call, StreamAbort, StreamData, StreamFinish
from virlet.wire.packet import PING

if TYPE_CHECKING:
    from tests.client.conftest import Peer, TinyServer
    from tests.conftest import Clock

DOM = types.Domain("vm", bytes(range(16)), 3)


def lookup(peer: Peer, call: Call) -> bytes:
    return peer.link.reply(call, remote.DomainLookupByNameRet(DOM))


async def test_descriptors_go_along_even_when_the_caller_does_not_wait(server: TinyServer) -> None:
    got: list[bytes] = []

    def associate(peer: Peer, call: Call) -> None:
        for fd in call.fds:
            got.append(os.read(fd, 9))
            os.close(fd)
        peer.send(peer.link.reply(call, None))

    server.answers[remote.DOMAIN_FD_ASSOCIATE] = associate
    server.answers[remote.DOMAIN_LOOKUP_BY_NAME] = lookup
    async with await connect(server.uri) as conn:
        one = await conn.lookup_by_name("vm")
        reading, writing = os.pipe()
        os.write(writing, b"hello")
        impatient = asyncio.ensure_future(one.fd_associate("g", [reading, reading]))
        await asyncio.sleep(0)
        impatient.cancel()
        os.close(reading)
        with pytest.raises(asyncio.CancelledError):
            await impatient
        os.write(writing, b" " * 9)
        assert (await conn.lookup_by_name("vm")).name == "vm"
        assert len(got) == 2
        assert got[0].startswith(b"hello")
        reading, other = os.pipe()
        hanging = asyncio.ensure_future(one.fd_associate("g", [reading]))
        await asyncio.sleep(0)
        conn.hang_up(RpcError("enough"))
        with pytest.raises(RpcError, match="enough"):
            await hanging
        for fd in (reading, writing, other):
            os.close(fd)


async def test_a_connection_opens_asks_and_says_good_bye(server: TinyServer) -> None:
    server.answers[remote.CONNECT_LIST_ALL_DOMAINS] = lambda peer, call: peer.link.reply(
        call, remote.ConnectListAllDomainsRet((DOM,), 1)
    )
    async with await connect(server.uri) as conn:
        (one,) = await conn.domains()
        assert (one.name, one.uuid, repr(one)) == ("vm", "00010203-0405-0607-0809-0a0b0c0d0e0f", "<Domain vm>")
        await one.suspend()
    await conn.close()
    with pytest.raises(RpcError, match="closed"):
        await conn.hostname()
    names = [call.procedure.name for call in server.calls]
    assert names == ["AUTH_LIST", "CONNECT_OPEN", "CONNECT_LIST_ALL_DOMAINS", "DOMAIN_SUSPEND", "CONNECT_CLOSE"]


async def test_replies_may_overtake_each_other(server: TinyServer) -> None:
    held: list[Call] = []

    def hold(peer: Peer, call: Call) -> None:
        held.append(call)

    def release(peer: Peer, call: Call) -> bytes:
        first = peer.link.reply(call, remote.ConnectGetLibVersionRet(1))
        return first + b"".join(peer.link.reply(one, remote.ConnectGetHostnameRet(str(one.serial))) for one in held)

    server.answers |= {remote.CONNECT_GET_HOSTNAME: hold, remote.CONNECT_GET_LIB_VERSION: release}
    async with await connect(server.uri) as conn:
        found = await asyncio.gather(conn.hostname(), conn.hostname(), conn.lib_version())
    assert found == ["2", "3", 1]


async def test_a_cancelled_call_leaves_the_connection_in_order(server: TinyServer) -> None:
    held: list[Call] = []
    came = asyncio.Event()
    loop = asyncio.get_running_loop()

    def hold(peer: Peer, call: Call) -> None:
        held.append(call)
        loop.call_soon_threadsafe(came.set)

    def both(peer: Peer, call: Call) -> bytes:
        late = peer.link.reply(held[0], remote.ConnectGetHostnameRet("late"))
        return late + peer.link.reply(call, remote.ConnectGetUriRet("u"))

    server.answers |= {remote.CONNECT_GET_HOSTNAME: hold, remote.CONNECT_GET_URI: both}
    async with await connect(server.uri) as conn:
        waiting = asyncio.ensure_future(conn.hostname())
        await came.wait()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await conn.uri() == "u"


async def test_a_console_opened_for_a_cancelled_caller_is_aborted(server: TinyServer) -> None:
    aborted = asyncio.Event()
    loop = asyncio.get_running_loop()

    def note(peer: Peer, event: StreamAbort) -> None:
        loop.call_soon_threadsafe(aborted.set)

    held: list[Call] = []
    came = asyncio.Event()

    def hold(peer: Peer, call: Call) -> None:
        held.append(call)
        loop.call_soon_threadsafe(came.set)

    def release(peer: Peer, call: Call) -> bytes:
        return peer.link.reply(held[0], None) + peer.link.reply(call, remote.ConnectGetUriRet("u"))

    server.answers |= {
        remote.DOMAIN_LOOKUP_BY_NAME: lookup,
        remote.DOMAIN_OPEN_CONSOLE: hold,
        remote.CONNECT_GET_URI: release,
        StreamAbort: note,
    }
    async with await connect(server.uri) as conn:
        vm = await conn.lookup_by_name("vm")
        waiting = asyncio.ensure_future(vm.open_console())
        await came.wait()
        waiting.cancel()
        assert await conn.uri() == "u"
        await aborted.wait()


async def test_errors_are_exceptions_of_their_class(server: TinyServer) -> None:
    server.answers[remote.DOMAIN_LOOKUP_BY_NAME] = lambda peer, call: peer.link.error(call, NoDomain("x"))
    async with await connect(server.uri) as conn:
        with pytest.raises(NoDomain):
            await conn.lookup_by_name("x")


async def test_a_lost_connection_fails_all_who_wait(server: TinyServer) -> None:
    def open_console(peer: Peer, call: Call) -> bytes:
        return peer.link.reply(call, None)

    server.answers |= {
        remote.DOMAIN_LOOKUP_BY_NAME: lookup,
        remote.DOMAIN_OPEN_CONSOLE: open_console,
        remote.CONNECT_GET_HOSTNAME: lambda peer, call: None,
        remote.CONNECT_GET_URI: lambda peer, call: peer.hang_up(),
        remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY: lambda peer, call: peer.link.reply(
            call, remote.ConnectDomainEventCallbackRegisterAnyRet(0)
        ),
    }
    conn = await connect(server.uri)
    stream = await (await conn.lookup_by_name("vm")).open_console()
    events = await conn.events(["lifecycle"])
    waiting = [conn.hostname(), conn.hostname(), stream.read(), anext(events), conn.uri()]
    found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(one) for one in found] == [RpcError] * 5
    await events.close()
    await conn.close()


async def test_a_console_is_a_stream_both_ways(server: TinyServer) -> None:
    def open_console(peer: Peer, call: Call) -> bytes:
        return peer.link.reply(call, None) + peer.link.stream_data(call.stream, b"login: ")

    def echo(peer: Peer, event: StreamData) -> None:
        peer.send(peer.link.stream_data(event.stream, event.data.upper()) + peer.link.stream_data(event.stream, b""))

    def finish(peer: Peer, event: StreamFinish) -> None:
        peer.send(peer.link.stream_finish(event.stream))

    server.answers |= {
        remote.DOMAIN_LOOKUP_BY_NAME: lookup,
        remote.DOMAIN_OPEN_CONSOLE: open_console,
        StreamData: echo,
        StreamFinish: finish,
    }
    async with await connect(server.uri) as conn, await (await conn.lookup_by_name("vm")).open_console() as stream:
        assert await stream.read() == b"login: "
        await stream.write(b"root")
        assert [piece async for piece in stream] == [b"ROOT"]
        await stream.finish()


async def test_a_slow_reader_of_a_stream_stops_the_server_and_loses_nothing(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "HIGH", 1 << 16)
    monkeypatch.setattr(aio, "LOW", 1 << 14)
    total = 3 << 20

    def flood(peer: Peer, call: Call) -> bytes:
        data = peer.link.reply(call, None) + peer.link.stream_data(call.stream, bytes(total))
        return data + peer.link.stream_error(call.stream, OperationFailed("that was it"))

    server.answers |= {remote.DOMAIN_LOOKUP_BY_NAME: lookup, remote.DOMAIN_OPEN_CONSOLE: flood}
    async with await connect(server.uri) as conn:
        stream = await (await conn.lookup_by_name("vm")).open_console()
        got = 0
        while got < total:
            got += len(await stream.read())
            assert conn.core.backlog < (1 << 16) + 2 * (1 << 18)
        assert got == total
        with pytest.raises(OperationFailed):
            await stream.read()


async def test_much_data_to_a_slow_server_waits_for_it(server: TinyServer) -> None:
    taken = 0

    def count(peer: Peer, event: StreamData) -> None:
        nonlocal taken
        taken += len(event.data)

    def finish(peer: Peer, event: StreamFinish) -> None:
        peer.send(peer.link.stream_finish(event.stream))

    server.answers |= {
        remote.DOMAIN_LOOKUP_BY_NAME: lookup,
        remote.DOMAIN_OPEN_CONSOLE: lambda peer, call: peer.link.reply(call, None),
        StreamData: count,
        StreamFinish: finish,
    }
    async with await connect(server.uri) as conn:
        stream = await (await conn.lookup_by_name("vm")).open_console()
        for _ in range(40):
            await stream.write(bytes(1 << 18))
        await stream.finish()
    assert taken == 40 << 18


async def test_events_are_an_asynchronous_iterator(server: TinyServer) -> None:
    def register(peer: Peer, call: Call) -> bytes:
        msg = remote.DomainEventCallbackRebootMsg(0, types.DomainEventRebootMsg(DOM))
        ret = remote.ConnectDomainEventCallbackRegisterAnyRet(0)
        return peer.link.reply(call, ret) + 3 * peer.link.message(remote.DOMAIN_EVENT_CALLBACK_REBOOT, msg)

    server.answers[remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY] = register
    async with await connect(server.uri) as conn, await conn.events(["reboot"]) as events:
        kinds = []
        async for event in events:
            kinds.append(event.kind)
            if len(kinds) == 3:
                break
    assert kinds == ["reboot"] * 3


async def test_a_server_that_stops_answering_is_given_up(server: TinyServer, clock: Clock) -> None:
    server.answers |= {
        remote.CONNECT_SUPPORTS_FEATURE: lambda peer, call: peer.link.reply(call, remote.ConnectSupportsFeatureRet(1)),
        remote.CONNECT_GET_HOSTNAME: lambda peer, call: None,
    }
    conn = await connect(server.uri, keepalive=(5, 0))
    waiting = asyncio.ensure_future(conn.hostname())
    await asyncio.sleep(0)
    clock.advance(5)
    with pytest.raises(RpcError, match="does not answer"):
        await waiting
    conn = await connect(server.uri, keepalive=(5, 1))  # One that answers pings is not, however slow a call is.
    slow = asyncio.ensure_future(conn.hostname())
    assert conn._pulse is not None
    for number in range(1, 6):
        clock.advance(5)
        while server.peers[1].raw.count(PING) < number or conn._pulse._left == 0:  # noqa: ASYNC110  no event tells
            await asyncio.sleep(0)
        assert not slow.done()
    await conn.close()
    with pytest.raises(RpcError):
        await slow
    assert PING not in server.peers[0].raw


async def test_a_display_is_a_descriptor(server: TinyServer) -> None:
    def graphics(peer: Peer, call: Call) -> None:
        peer.send(peer.link.reply(call, None, fds=1))
        reading, writing = os.pipe()
        peer.send_fd(reading)
        os.close(reading)
        os.write(writing, b"RFB")
        os.close(writing)

    server.answers |= {remote.DOMAIN_LOOKUP_BY_NAME: lookup, remote.DOMAIN_OPEN_GRAPHICS_FD: graphics}
    async with await connect(server.uri) as conn:
        fd = await (await conn.lookup_by_name("vm")).open_graphics()
        assert os.read(fd, 9) == b"RFB"
        os.close(fd)


async def test_nobody_there_is_said(tmp_path: object) -> None:
    with pytest.raises(NoConnect):
        await connect(f"virlet:///session?socket={tmp_path}/none")


async def test_a_server_that_wants_sasl_is_refused_and_nothing_is_left_open(server: TinyServer) -> None:
    server.answers[remote.AUTH_LIST] = lambda peer, call: peer.link.reply(call, remote.AuthListRet((1,)))
    with pytest.raises(AuthFailed, match="SASL"):
        await connect(server.uri)


async def test_a_server_that_talks_nonsense_is_left(server: TinyServer) -> None:
    server.answers[remote.CONNECT_GET_URI] = lambda peer, call: b"HTTP/1.1 400 Bad Request"
    async with await connect(server.uri) as conn:
        with pytest.raises(RpcError, match="a packet cannot have"):
            await conn.uri()


async def test_a_server_that_hangs_is_left_without_an_answer(
    server: TinyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aio, "GOODBYE", 0.05)
    server.answers[remote.CONNECT_CLOSE] = lambda peer, call: None
    async with await connect(server.uri) as conn:
        pass
    assert conn.core.lost is not None


def test_both_facades_offer_the_same() -> None:
    from virlet.client import sync

    for name in ("Connection", "Domain"):
        ours, theirs = set(vars(getattr(aio, name))), set(vars(getattr(sync, name)))
        assert {one for one in ours ^ theirs if not one.startswith("_")} <= {
            "drain",
            "fileno",
            "hang_up",
            "pump",
            "taken",
        }
