"""Bytes and descriptors on their way to a server: all of them in order, or the end."""

from __future__ import annotations

import asyncio
import os
import resource
import socket
from collections.abc import Iterator

import pytest

from virlet.client.outbox import UNSENT, Outbox
from virlet.client.transport import receive


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(30)
    with ours, theirs:
        yield ours, theirs


async def test_everything_comes_in_order_and_who_has_sent_much_waits(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    failed: list[OSError] = []
    out = Outbox(ours, failed.append)
    await out.drain()
    out.send(b"first")
    assert theirs.recv(9) == b"first", "without the loop's help"
    sent = b"".join(number.to_bytes(4) for number in range(UNSENT // 2))
    out.send(sent)
    out.send(b"last")
    waiting = asyncio.ensure_future(out.drain())
    await asyncio.sleep(0)
    assert not waiting.done()
    got = b""
    while len(got) < len(sent) + 4:
        got += await asyncio.to_thread(theirs.recv, 1 << 20)
    assert got == sent + b"last"
    await waiting
    assert not failed
    out.close()


async def test_descriptors_follow_their_call_and_the_caller_s_own_may_be_closed(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    out = Outbox(ours, lambda error: pytest.fail(str(error)))
    reading, writing = os.pipe()
    out.send(b"call", [reading, reading])
    out.send(b"next")
    os.close(reading)
    os.write(writing, b"ab")
    got, passed = b"", []
    while len(got) < 10:
        data, fds = await asyncio.to_thread(receive, theirs)
        got, passed = got + data, passed + fds
    assert got == b"call\0\0next"
    assert [os.read(fd, 1) for fd in passed] == [b"a", b"b"]
    for fd in (writing, *passed):
        os.close(fd)
    out.close()


async def test_what_was_not_sent_is_closed(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    out = Outbox(ours, lambda error: pytest.fail(str(error)))
    reading, writing = os.pipe()
    out.send(b"call", [reading])
    os.close(reading)
    out.close()
    with pytest.raises(BrokenPipeError):
        os.write(writing, b"nobody has the other end")
    os.close(writing)
    await out.drain()
    ours.close()
    assert theirs.recv(9) == b""


async def test_without_a_free_descriptor_nothing_is_sent_and_no_copy_stays(
    pair: tuple[socket.socket, socket.socket],
) -> None:
    ours, theirs = pair
    out = Outbox(ours, lambda error: pytest.fail(str(error)))
    reading, writing = os.pipe()
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(reading)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 1, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            out.send(b"call", [reading] * 8)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert os.dup(reading) == free, "the copy that could be made is closed again"
    os.close(free)
    out.send(b"x")
    assert theirs.recv(9) == b"x"
    os.close(reading)
    os.close(writing)
    out.close()


async def test_a_server_that_is_gone_is_told_of(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    failed: list[OSError] = []
    out = Outbox(ours, failed.append)
    theirs.close()
    out.send(b"x")
    assert [type(error) for error in failed] == [BrokenPipeError]
    out.close()
