from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.aio import stream
from virlet.aio.stream import FdStream, Handlers, SocketStream
from virlet.errors import OperationFailed


class Seen:
    """Keeps what a stream calls."""

    def __init__(self) -> None:
        self.data = b""
        self.fds: list[int] = []
        self.calls: list[str] = []
        self.end: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self._more = asyncio.Event()

    def handlers(self) -> Handlers:
        return Handlers(
            data=self._data,
            closed=self.end.set_result,
            pause=lambda: self._call("pause"),
            resume=lambda: self._call("resume"),
        )

    def _data(self, data: bytes, fds: list[int]) -> None:
        self.data += data
        self.fds += fds
        self._more.set()

    def _call(self, name: str) -> None:
        self.calls.append(name)
        self._more.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                self._more.clear()
                await self._more.wait()


def pair() -> tuple[SocketStream, Seen, socket.socket]:
    ours, theirs = socket.socketpair()
    seen = Seen()
    return SocketStream(ours, seen.handlers()), seen, theirs


def two() -> tuple[SocketStream, Seen, SocketStream, Seen]:
    left, right = socket.socketpair()
    seen_left, seen_right = Seen(), Seen()
    return SocketStream(left, seen_left.handlers()), seen_left, SocketStream(right, seen_right.handlers()), seen_right


async def test_bytes_go_both_ways_and_the_end_is_told_once() -> None:
    one, seen_one, other, seen_other = two()
    one.write(b"ping")
    await seen_other.until(lambda: seen_other.data == b"ping")
    other.write(b"pong")
    other.close()
    assert await seen_other.end is None
    assert await seen_one.end is None
    assert seen_one.data == b"pong"
    assert one.closed
    one.write(b"into the void")
    one.close()
    one.abort()


async def test_a_descriptor_arrives_after_the_bytes_before_it_and_is_closed_on_exec() -> None:
    one, _, other, seen = two()
    read, write = os.pipe()
    one.write(b"before")
    one.write_fd(write)
    one.write(b"after")
    os.close(write)  # A copy is under way.
    await seen.until(lambda: seen.data == b"before\0after")
    (copy,) = seen.fds
    assert not os.get_inheritable(copy)
    os.write(copy, b"x")
    assert os.read(read, 10) == b"x"
    os.close(copy)
    os.close(read)
    one.close()
    await seen.end
    other.close()


@given(st.lists(st.binary(min_size=1, max_size=2000) | st.none(), max_size=12))
@settings(max_examples=40)
def test_bytes_and_descriptors_keep_their_order(writes: list[bytes | None]) -> None:
    """Invariant: the n-th descriptor comes with the byte that it was sent with."""

    async def scenario() -> None:
        one, _, other, seen = two()
        files = []
        for item in writes:
            if item is None:
                fd = os.memfd_create(f"{len(files)}")
                files.append(os.fstat(fd).st_ino)
                one.write_fd(fd)
                os.close(fd)
            else:
                one.write(item)
        one.close()
        assert await seen.end is None
        assert seen.data == b"".join(b"\0" if item is None else item for item in writes)
        assert [os.fstat(fd).st_ino for fd in seen.fds] == files
        for fd in seen.fds:
            os.close(fd)
        assert other.closed

    asyncio.run(scenario())


async def test_a_slow_reader_pauses_the_writer_and_loses_nothing() -> None:
    one, seen_one, other, seen_other = two()
    other.pause_reading()
    blob = os.urandom(3 * stream.HIGH_WATER)
    one.write(blob)
    await seen_one.until(lambda: seen_one.calls == ["pause"])
    assert one.waiting > stream.HIGH_WATER
    other.resume_reading()
    await one.drain()
    assert one.waiting == 0
    await seen_one.until(lambda: seen_one.calls == ["pause", "resume"])
    await seen_other.until(lambda: len(seen_other.data) == len(blob))
    assert seen_other.data == blob
    one.close()
    await seen_other.end


async def test_close_writes_what_waits_first() -> None:
    one, seen_one, other, seen_other = two()
    other.pause_reading()
    one.write(b"x" * (2 * stream.HIGH_WATER))
    one.close()
    one.write(b"too late")
    assert not one.closed
    other.resume_reading()
    assert await seen_one.end is None
    assert await seen_other.end is None
    assert len(seen_other.data) == 2 * stream.HIGH_WATER


async def test_a_peer_that_never_reads_is_given_up() -> None:
    one, seen, theirs = pair()
    chunk = bytes(8 << 20)
    for _ in range(10):
        one.write(chunk)
    assert isinstance(await seen.end, OperationFailed)
    assert one.waiting == 0
    theirs.close()


async def test_a_drain_ends_when_the_stream_does() -> None:
    one, seen, theirs = pair()
    one.write(bytes(stream.HIGH_WATER))
    waiting = asyncio.ensure_future(one.drain())
    await asyncio.sleep(0)
    theirs.close()
    await waiting
    assert await seen.end is None
    await one.drain()


async def test_descriptors_not_yet_sent_are_closed_with_the_stream() -> None:
    one, seen, theirs = pair()
    one.write(bytes(stream.HIGH_WATER))
    fd = os.memfd_create("x")
    one.write_fd(fd)
    one.abort(ValueError("enough"))
    one.write_fd(fd)
    os.close(fd)
    assert isinstance(await seen.end, ValueError)
    theirs.close()
    # The test's own check of open descriptors proves the rest.


async def test_more_descriptors_than_may_come_are_not_ours_to_close() -> None:
    one, seen, theirs = pair()
    files = [os.memfd_create("x") for _ in range(stream.MAX_FDS + 10)]
    socket.send_fds(theirs, [b"x"], files)
    await seen.until(lambda: seen.data == b"x")
    assert len(seen.fds) == stream.MAX_FDS
    for fd in files + seen.fds:
        os.close(fd)
    theirs.close()
    await seen.end
    assert one.closed


async def test_a_terminal_carries_bytes_and_ends_with_its_other_side() -> None:
    master, slave = os.openpty()
    os.set_blocking(slave, True)
    seen = Seen()
    terminal = FdStream(master, seen.handlers())
    os.write(slave, b"login: ")
    await seen.until(lambda: seen.data == b"login: ")
    terminal.write(b"root\n")
    await terminal.drain()
    assert os.read(slave, 100) == b"root\n"
    os.close(slave)
    assert await seen.end is None


async def test_a_pipe_without_a_reader_ends_the_stream() -> None:
    read, write = os.pipe()
    seen = Seen()
    pipe = FdStream(write, Handlers(data=lambda data, fds: None, closed=seen.end.set_result))
    pipe.pause_reading()
    os.close(read)
    pipe.write(b"x")
    assert await seen.end is None


async def test_a_reset_connection_is_an_end_like_any_other() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        accepted, _ = server.accept()
        seen = Seen()
        SocketStream(accepted, seen.handlers())
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    assert await seen.end is None
