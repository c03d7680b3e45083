"""A socket that is there for one connection."""

from __future__ import annotations

import asyncio
import errno
import socket
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from virlet.engine.supervision import door
from virlet.engine.supervision.door import Door
from virlet.errors import OperationTimeout, SystemFailure
from virlet.proc.spawn import Command, spawn


@pytest.fixture
def path() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vl") as name:
        yield Path(name) / "guest" / "net0.vhost"


def dialled(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    return sock


async def test_one_is_let_in_and_the_door_is_gone(path: Path) -> None:
    with Door(path) as made:
        assert stat.S_IMODE(path.lstat().st_mode) == 0o600
        with dialled(path) as caller:
            peer = await made.accept()
            assert peer is not None
            with peer:
                assert not path.exists()
                peer.sendall(b"x")
                assert caller.recv(1) == b"x"


async def test_whoever_came_and_was_not_fetched_is_hung_up_on(path: Path) -> None:
    with Door(path):
        caller = dialled(path)
        while path.exists():  # noqa: ASYNC110
            await asyncio.sleep(0)
    with caller:
        assert caller.recv(1) == b""


async def test_a_door_that_is_closed_lets_the_waiting_one_go(path: Path) -> None:
    with Door(path) as made:
        waiting = asyncio.ensure_future(made.accept())
        await asyncio.sleep(0)
        made.close()
        assert await waiting is None
        made.close()


async def test_who_waits_may_give_up(path: Path) -> None:
    with Door(path) as made:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await made.accept()
        assert path.exists()
    assert not path.exists()


async def test_a_process_that_ends_does_not_come(path: Path) -> None:
    process = await spawn(Command(("true",)), "true")
    with Door(path) as made:
        assert await made.accept_from(process) is None


async def test_a_process_that_never_comes_is_named(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "DIAL_WAIT", 0.01)
    process = await spawn(Command(("sleep", "60")), "QEMU of 'one'")
    with Door(path) as made, pytest.raises(OperationTimeout, match="QEMU of 'one' has not connected to"):
        await made.accept_from(process)
    await process.terminate(1)


async def test_a_path_that_cannot_be_is_said(path: Path) -> None:
    with pytest.raises(SystemFailure, match="cannot listen on"):
        Door(path.parent / ("x" * 108))


@pytest.mark.parametrize("waits", [True, False])
async def test_who_cannot_be_let_in_is_hung_up_on_and_the_door_is_closed(
    path: Path, waits: bool, no_descriptor: Callable[[], AbstractContextManager[None]]
) -> None:
    with Door(path) as made:
        waiting = asyncio.ensure_future(made.accept()) if waits else None
        caller = dialled(path)
        await asyncio.sleep(0)
        with no_descriptor():
            while path.exists():  # noqa: ASYNC110
                await asyncio.sleep(0)
        with caller, pytest.raises(ConnectionResetError):
            caller.recv(1)
        with pytest.raises(SystemFailure, match="cannot accept a connection at") as caught:
            await (waiting or made.accept())
        assert caught.value.errno == errno.EMFILE
