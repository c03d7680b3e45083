"""A QEMU that lies, at the other end of a real monitor connection."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from functools import cache

from virlet.errors import VirletError
from virlet.qmp.monitor import Event, Monitor

__all__ = ["GREETING", "close", "talk"]

GREETING = (
    b'{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}}\r\n'
    b'{"return": {}}\r\n'
)


@cache
def _loop() -> asyncio.AbstractEventLoop:
    """One for all inputs: a new one costs more than the parsing."""
    return asyncio.new_event_loop()


def close() -> None:
    """Give that loop up."""
    if _loop.cache_info().currsize:
        _loop().close()
        _loop.cache_clear()


def talk(data: bytes) -> None:
    """QEMU says *data* and hangs up; what we get is an answer, events, or an error of ours."""
    _loop().run_until_complete(asyncio.wait_for(_talk(data), 20))


async def _talk(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    heard: list[Event] = []
    with theirs:
        theirs.setblocking(False)
        # After a good greeting the rest comes when we have agreed, else everything at once.
        agreed = data.startswith(GREETING)
        theirs.send(GREETING if agreed else data)
        if not agreed:
            theirs.shutdown(socket.SHUT_WR)
        before = asyncio.all_tasks()
        try:
            monitor = await Monitor.connect(ours, name="liar", on_event=heard.append, timeout=10)
        except VirletError:
            pass
        else:
            async with monitor:
                theirs.send(data[len(GREETING) :])
                theirs.shutdown(socket.SHUT_WR)
                assert all(type(number) is int for number in monitor.version)
                with contextlib.suppress(VirletError):
                    await monitor.execute("query-status", timeout=10)
                await asyncio.wait_for(asyncio.shield(monitor.closed), 10)
    left = asyncio.all_tasks() - before
    assert not left, f"tasks are left: {left}"
    for event in heard:
        assert isinstance(event.name, str)
        assert event.time >= 0
