"""Bytes on their way to one client: all of them in order, or the end of the client."""

from __future__ import annotations

import asyncio
import socket

import pytest

from virlet.daemon import outbox
from virlet.daemon.outbox import Outbox


class Owner:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.closed = asyncio.Event()
        self.taken_when: list[int] = []
        self.out = Outbox(sock, "a client", self)  # type: ignore[arg-type]  # it is only named

    def taken(self) -> None:
        self.taken_when.append(self.out.waiting)

    def close(self) -> None:
        self.out.close()
        self.closed.set()


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    for sock in (ours, theirs):
        sock.setblocking(False)
    with ours, theirs:
        yield ours, theirs


async def heard(sock, size):
    data = b""
    async with asyncio.timeout(30):
        while len(data) < size:
            data += await asyncio.get_running_loop().sock_recv(sock, 65_536)
    return data


async def test_what_the_socket_takes_goes_at_once(pair):
    ours, theirs = pair
    one = Owner(ours)
    one.out.send(b"ab")
    assert theirs.recv(10) == b"ab"
    assert (one.out.waiting, one.out.full, one.taken_when) == (0, False, [])
    one.out.close()


async def test_the_rest_follows_in_order_and_its_taking_is_told(pair):
    ours, theirs = pair
    one = Owner(ours)
    parts = [bytes([number]) * 300_000 for number in range(5)]
    for part in parts:
        one.out.send(part)
    assert one.out.full
    assert await heard(theirs, 1_500_000) == b"".join(parts)
    async with asyncio.timeout(30):
        while not one.taken_when or one.taken_when[-1]:  # noqa: ASYNC110  the other side has no event for it
            await asyncio.sleep(0.001)
    assert one.taken_when == sorted(one.taken_when, reverse=True)
    assert (one.out.waiting, one.out.full) == (0, False)
    one.out.close()


async def test_too_much_is_the_end_but_not_at_once(pair, monkeypatch):
    monkeypatch.setattr(outbox, "MOST", 1_000_000)
    one = Owner(pair[0])
    one.out.send(b"x" * 2_000_000)
    assert not one.closed.is_set(), "a handler may be at work further up the stack"
    one.out.send(b"y")
    assert one.out.waiting == 0
    await asyncio.wait_for(one.closed.wait(), 30)


async def test_nothing_taken_for_long_is_the_end_and_slowness_is_not(pair, clock):
    ours, theirs = pair
    one = Owner(ours)
    one.out.send(b"x" * 2_000_000)
    for _ in range(5):
        clock.advance(0.9 * outbox.STALLED)
        await heard(theirs, 250_000)
        assert not one.closed.is_set()
    begun = clock.now
    while not one.closed.is_set():
        clock.advance(0.1 * outbox.STALLED)
        for _ in range(2):  # What is due is done in the loop's next turn.
            await asyncio.sleep(0)
    assert 0.95 * outbox.STALLED < clock.now - begun < 2.3 * outbox.STALLED


async def test_a_client_that_is_gone_is_the_end(pair):
    ours, theirs = pair
    one, late = Owner(ours), Owner(ours.dup())
    late.sock.setblocking(False)
    late.out.send(b"x" * 2_000_000)
    theirs.close()
    one.out.send(b"a")
    assert not one.closed.is_set()
    await asyncio.wait_for(one.closed.wait(), 30)
    await asyncio.wait_for(late.closed.wait(), 30)
    late.sock.close()
