"""The monitor against a scripted peer, byte for byte; against real QEMU and the fake one: test_conformance."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from virlet.errors import InternalError, OperationTimeout, SystemFailure
from virlet.qmp.monitor import Event, Monitor, MonitorClosed, QmpError

GREETING = b'{"QMP": {"version": {"qemu": {"major": 9, "minor": 8, "micro": 7}}, "capabilities": ["oob"]}}\r\n'

Answer = Callable[[dict[str, object]], bytes | None]


class Peer:
    """The other end: greets, then answers each command with what *answer* makes of it (None: nothing)."""

    def __init__(self, sock: socket.socket, greeting: bytes, answer: Answer) -> None:
        self.sock, self.greeting, self.answer = sock, greeting, answer
        sock.setblocking(False)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            await loop.sock_sendall(self.sock, self.greeting)
            rest = b""
            while data := await loop.sock_recv(self.sock, 65536):
                *lines, rest = _split(rest + data)
                for line in lines:
                    command = json.loads(line)
                    if command["execute" if "execute" in command else "exec-oob"] == "qmp_capabilities":
                        reply: bytes | None = b'{"return": {}}\n'
                    else:
                        reply = self.answer(command)
                    if reply is not None:
                        await loop.sock_sendall(self.sock, reply)

    def send(self, data: bytes) -> None:
        self.sock.send(data)


def _split(data: bytes) -> list[bytes]:
    """Complete JSON objects and the rest; the library ends no message with a newline."""
    decoder, text, found = json.JSONDecoder(), data.decode(), []
    while text:
        try:
            _, end = decoder.raw_decode(text)
        except ValueError:
            break
        found.append(text[:end].encode())
        text = text[end:].lstrip()
    return [*found, text.encode()]


def empty(command: dict[str, object]) -> bytes:
    return json.dumps({"return": {}, "id": command["id"]}).encode() + b"\n"


@asynccontextmanager
async def pair(answer: Answer = empty, greeting: bytes = GREETING) -> AsyncIterator[tuple[socket.socket, Peer]]:
    ours, theirs = socket.socketpair()
    peer = Peer(theirs, greeting, answer)
    task = asyncio.create_task(peer.run())
    try:
        yield ours, peer
    finally:
        task.cancel()
        await asyncio.wait({task})
        theirs.close()


async def settle(condition: Callable[[], bool]) -> None:
    """Let the loop turn until *condition* holds."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - nothing but the condition is known
            await asyncio.sleep(0)


async def test_a_qemu_that_ends_right_after_it_has_agreed_is_told_as_one_that_hung_up() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.send(GREETING + b'{"return": {}}\r\n')
        theirs.shutdown(socket.SHUT_WR)
        with pytest.raises(MonitorClosed, match="end of file"):
            await Monitor.connect(ours, name="vm")


async def test_a_command_is_answered() -> None:
    def answer(command: dict[str, object]) -> bytes:
        assert command["execute"] == "query-x"
        return json.dumps({"return": command["arguments"], "id": command["id"]}).encode() + b"\n"

    async with pair(answer) as (sock, _), await Monitor.connect(sock, name="vm") as monitor:
        assert monitor.version == (9, 8, 7)
        assert await monitor.execute("query-x", {"a": [1, None]}) == {"a": [1, None]}


async def test_commands_at_once_get_each_its_own_answer() -> None:
    waiting: list[dict[str, object]] = []

    def answer(command: dict[str, object]) -> bytes | None:
        waiting.append(command)
        if len(waiting) < 3:
            return None
        return b"".join(
            json.dumps({"return": each["execute"], "id": each["id"]}).encode() + b"\n" for each in reversed(waiting)
        )

    async with pair(answer) as (sock, _), await Monitor.connect(sock, name="vm") as monitor:
        assert await asyncio.gather(*(monitor.execute(name) for name in "abc")) == ["a", "b", "c"]


async def test_a_refused_command_is_an_internal_error_with_libvirts_words() -> None:
    def answer(command: dict[str, object]) -> bytes:
        error = {"class": "DeviceNotFound", "desc": "Device 'x' not found"}
        return json.dumps({"error": error, "id": command["id"]}).encode() + b"\n"

    async with pair(answer) as (sock, _), await Monitor.connect(sock, name="vm") as monitor:
        with pytest.raises(QmpError) as caught:
            await monitor.execute("device_del", {"id": "x"})
        assert caught.value.error_class == "DeviceNotFound"
        assert caught.value.code == 1
        assert str(caught.value) == (
            "internal error: unable to execute QEMU command 'device_del': Device 'x' not found"
        )


@pytest.mark.parametrize("late", [{"return": {}}, {"error": {"class": "GenericError", "desc": "it did not work"}}])
@pytest.mark.parametrize("name", ["__qmp#00000", None, []])
async def test_the_answer_to_a_client_before_us_is_not_taken_for_ours(late: dict[str, object], name: object) -> None:
    greeting = GREETING + json.dumps({**late, "id": name}).encode() + b"\r\n"
    async with pair(greeting=greeting) as (sock, _), await Monitor.connect(sock, name="demo") as monitor:
        assert await monitor.execute("query-status") == {}
        assert monitor.connected


async def test_what_qemu_says_before_it_greets_is_heard() -> None:
    """One of its threads has still to tell the client before us something when another one accepts our connection."""
    event = b'{"event": "%s", "timestamp": {"seconds": 1, "microseconds": 2}}\r\n'
    told: list[str] = []
    greeting = event % b"STOP" + b'{"return": {}}\r\n' + GREETING + event % b"RESUME"
    async with (
        pair(greeting=greeting) as (sock, _),
        await Monitor.connect(sock, name="demo", on_event=lambda event: told.append(event.name)) as monitor,
    ):
        assert await monitor.execute("query-status") == {}
    assert told == ["STOP", "RESUME"]


async def test_no_answer_in_time_is_a_timeout_and_the_connection_stays() -> None:
    silent = True

    def answer(command: dict[str, object]) -> bytes | None:
        return None if silent else empty(command)

    async with pair(answer) as (sock, _), await Monitor.connect(sock, name="vm") as monitor:
        with pytest.raises(OperationTimeout, match=r"vm did not answer QEMU command 'stop' within 0\.01 s"):
            await monitor.execute("stop", timeout=0.01)
        silent = False
        assert await monitor.execute("cont") == {}


async def test_an_answer_that_comes_too_late_is_dropped() -> None:
    late: list[bytes] = []

    def answer(command: dict[str, object]) -> bytes | None:
        if command["execute"] == "slow":
            late.append(empty(command))
            return None
        return late.pop() + empty(command)

    async with pair(answer) as (sock, _), await Monitor.connect(sock, name="vm") as monitor:
        with pytest.raises(OperationTimeout):
            await monitor.execute("slow", timeout=0.01)
        assert await monitor.execute("quick") == {}


async def test_events_come_in_order_and_none_is_kept() -> None:
    seen: list[Event] = []
    async with pair() as (sock, peer), await Monitor.connect(sock, name="vm", on_event=seen.append) as monitor:
        for number in range(100):
            stamp = {"seconds": number, "microseconds": 500_000}
            peer.send(json.dumps({"event": "E", "data": {"n": number}, "timestamp": stamp}).encode() + b"\n")
        await settle(lambda: len(seen) == 100)
        assert [event.data["n"] for event in seen] == list(range(100))
        assert seen[7].time == 7.5
        assert not monitor._client.events.history


async def test_an_event_of_another_shape_is_passed_over(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[Event] = []
    async with pair() as (sock, peer), await Monitor.connect(sock, name="vm") as monitor:
        monitor.on_event(seen.append)
        peer.send(b'{"event": 7}\n{"event": "A", "data": 1}\n{"event": "B", "timestamp": {"seconds": "x"}}\n')
        await settle(lambda: bool(seen))
        assert [event.name for event in seen] == ["B"]
        assert await monitor.execute("x") == {}
    assert "an event that is none" in caplog.text


async def test_a_callback_that_raises_is_reported_and_harms_nobody() -> None:
    reported: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reported.append(context))

    def bad(event: Event) -> None:
        raise ZeroDivisionError

    async with pair() as (sock, peer), await Monitor.connect(sock, name="vm", on_event=bad) as monitor:
        peer.send(b'{"event": "E"}\n')
        await settle(lambda: bool(reported))
        assert await monitor.execute("x") == {}
    assert isinstance(reported[0]["exception"], ZeroDivisionError)


async def test_the_end_of_the_connection_is_told_and_ends_every_call() -> None:
    async with pair(lambda command: None) as (sock, peer), await Monitor.connect(sock, name="vm") as monitor:
        calls = [asyncio.ensure_future(monitor.execute("stop")) for _ in range(3)]
        await asyncio.sleep(0.01)
        peer.sock.shutdown(socket.SHUT_RDWR)
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(each) for each in results] == [MonitorClosed] * 3
        assert await monitor.closed == "end of file"
        assert not monitor.connected
        with pytest.raises(MonitorClosed):
            await monitor.execute("cont")


async def test_close_does_not_wait_for_a_qemu_that_reads_nothing() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(GREETING + b'{"return": {}}\n')
    monitor = await Monitor.connect(ours, name="vm")
    call = asyncio.ensure_future(monitor.execute("x", {"blob": "x" * 3_000_000}))
    await asyncio.sleep(0.01)
    async with asyncio.timeout(30):
        await monitor.close()
        with pytest.raises(MonitorClosed):
            await call
    theirs.close()


@pytest.mark.parametrize(
    "greeting",
    [
        b"",
        b"hello\n",
        b"[]\n",
        b"{}\n",
        b'{"QMP": 1}\n',
        b'{"QMP": {"version": {}}}\n',
        b"\xff\n",
        b"[" * 100_000 + b"\n",
    ],
)
async def test_a_greeting_that_is_none_is_refused(greeting: bytes) -> None:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    theirs.send(greeting + b"\n" if greeting else b"")
    theirs.shutdown(socket.SHUT_WR)
    with pytest.raises(MonitorClosed, match="vm closed the monitor"):
        await Monitor.connect(ours, name="vm")
    theirs.close()


async def test_a_greeting_without_a_version_is_no_reason_to_fail() -> None:
    greeting = b'{"QMP": {"version": {"qemu": {"major": "x"}}, "capabilities": []}}\n'
    async with pair(greeting=greeting) as (sock, _), await Monitor.connect(sock, name="vm") as monitor:
        assert monitor.version == (0, 0, 0)


async def test_no_greeting_is_a_timeout_and_the_socket_is_closed() -> None:
    ours, theirs = socket.socketpair()
    with pytest.raises(OperationTimeout, match="did not greet"):
        await Monitor.connect(ours, name="vm", timeout=0.01)
    assert ours.fileno() == -1
    theirs.close()


async def test_a_cancelled_connect_closes_the_socket() -> None:
    ours, theirs = socket.socketpair()
    task = asyncio.ensure_future(Monitor.connect(ours, name="vm"))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ours.fileno() == -1
    theirs.close()


async def test_a_path_where_nobody_listens_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match="No such file"):
        await Monitor.connect(tmp_path / "none", name="vm")


async def test_a_descriptor_is_sent_before_its_getfd() -> None:
    ours, theirs = socket.socketpair()
    theirs.send(GREETING + b'{"return": {}}\n')
    monitor = await Monitor.connect(ours, name="vm")
    read, write = os.pipe()
    call = asyncio.ensure_future(monitor.send_fd("net0", write))
    os.close(os.dup(write))  # Ours stays ours.
    received: list[int] = []
    data = b""
    theirs.setblocking(False)
    async with asyncio.timeout(30):
        while b"getfd" not in data:
            await asyncio.sleep(0)
            with suppress(BlockingIOError):
                chunk, fds, _, _ = socket.recv_fds(theirs, 65536, 4)
                assert not fds or b"getfd" not in data
                received += fds
                data += chunk
    command = json.loads(data[data.rindex(b'{"execute":"getfd"') :])
    assert command["arguments"] == {"fdname": "net0"}
    theirs.send(empty(command))
    await call
    assert len(received) == 1
    for fd in (read, write, *received):
        os.close(fd)
    await monitor.close()
    theirs.close()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
shapes = st.dictionaries(st.sampled_from(["return", "error", "event", "data", "id", "timestamp", "QMP"]), json_values)
lines = st.lists(st.binary(max_size=40) | shapes.map(lambda value: json.dumps(value).encode()), max_size=4)


@given(lines)
@settings(max_examples=60)
@example([b"[" * 100_000])
@example([b'{"return": 1, "id": []}'])
@example([b'{"error": {}, "id": "__qmp#00000"}'])
@example([b'{"id": "__qmp#00000"}'])
def test_whatever_qemu_says_a_call_ends_with_an_answer_or_our_error(garbage: list[bytes]) -> None:
    """Invariant: garbage in, our error or an answer out, and nothing left running."""

    async def scenario() -> None:
        async with pair(lambda command: b"".join(line + b"\n" for line in garbage)) as (sock, _):
            monitor = await Monitor.connect(sock, name="vm")
            with suppress(InternalError, OperationTimeout):
                await monitor.execute("x", timeout=0.05)
            await monitor.close()
            assert await monitor.closed

    asyncio.run(scenario())
