"""Scopes asked of a systemd that speaks the real interface."""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.errors import OperationFailed, OperationTimeout, OperationUnsupported, SystemFailure, VirletError
from virlet.fake.systemd import Manager, junk
from virlet.proc import scope
from virlet.proc.scope import Scope, attach, create, in_group, manager_socket

ONE = Scope("virlet-7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a01-77.scope", "Virtual machine one")


@pytest.fixture
def runtime() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vl") as name:
        yield Path(name)


@pytest.fixture(params=["bus", "private"])
async def manager(request: pytest.FixtureRequest, runtime: Path) -> AsyncIterator[Manager]:
    made = Manager()
    if request.param == "bus":
        if shutil.which("dbus-daemon") is None:
            pytest.skip("elsewhere: no dbus-daemon")
        await made.on_bus(runtime)
    else:
        await made.on_socket(runtime)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("text", "there"),
    [
        (f"0::/user.slice/user@1001.service/virlet.slice/{ONE.unit}\n", True),
        (f"12:pids:/\n1:name=systemd:/user.slice/virlet.slice/{ONE.unit}\n0::/\n", True),
        (f"0::/{ONE.unit}/below\n", True),
        ("0::/user.slice/user@1001.service/app.slice/virletd.service\n", False),
        (f"0::/other-{ONE.unit}\n", False),
        ("0::/\n", False),
        ("", False),
    ],
)
def test_the_kernel_tells_whether_a_process_is_in_it(tmp_path: Path, text: str, there: bool) -> None:
    (tmp_path / "77").mkdir()
    (tmp_path / "77" / "cgroup").write_text(text)
    assert in_group(77, ONE.unit, tmp_path) is there
    assert not in_group(78, ONE.unit, tmp_path)


def where(runtime: Path) -> Path:
    found = manager_socket({"XDG_RUNTIME_DIR": str(runtime)})
    assert found is not None
    return found


async def test_a_scope_has_the_processes_and_more_can_join(manager: Manager, runtime: Path) -> None:
    await create(where(runtime), ONE, [os.getpid()])
    assert manager.units == {
        ONE.unit: {
            "Description": "Virtual machine one",
            "Slice": "virlet.slice",
            "PIDs": [os.getpid()],
            "CollectMode": "inactive-or-failed",
            "TasksMax": 2**64 - 1,
        }
    }
    await attach(where(runtime), ONE, [os.getppid()])
    assert manager.units[ONE.unit]["PIDs"] == [os.getpid(), os.getppid()]
    assert manager.wrong == []


async def test_a_no_is_told_in_systemds_words(manager: Manager, runtime: Path) -> None:
    await create(where(runtime), ONE, [os.getpid()])
    with pytest.raises(OperationFailed, match=r"systemd says no: Unit virlet-.* was already loaded"):
        await create(where(runtime), ONE, [os.getpid()])
    with pytest.raises(OperationFailed, match=r"systemd says no: Unit other.scope not loaded"):
        await attach(where(runtime), Scope("other.scope", ""), [1])


async def test_a_bus_without_a_systemd_is_a_no(runtime: Path) -> None:
    if shutil.which("dbus-daemon") is None:
        pytest.skip("elsewhere: no dbus-daemon")
    made = Manager()
    await made.on_bus(runtime)
    await made.leave()
    with pytest.raises(OperationFailed, match=r"systemd says no: The name org.freedesktop.systemd1 was not provided"):
        await create(where(runtime), ONE, [1])
    await made.close()


def test_where_there_is_no_manager_nobody_is_asked(runtime: Path) -> None:
    env = {"XDG_RUNTIME_DIR": str(runtime)}
    assert manager_socket({}) is None
    assert manager_socket(env) is None
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(runtime / "bus"))
        assert manager_socket(env) is None, "a bus alone has no systemd"
        (runtime / "systemd").mkdir()
        assert manager_socket(env) == runtime / "bus"
        (runtime / "bus").unlink()
        (runtime / "systemd" / "private").write_text("no socket")
        assert manager_socket(env) is None


async def test_a_socket_nobody_listens_on_and_one_that_is_silent(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX) as bus:
        bus.bind(str(runtime / "bus"))
        with pytest.raises(SystemFailure, match="Connection refused"):
            await create(runtime / "bus", ONE, [1])
        bus.listen()
        monkeypatch.setattr(scope, "TIMEOUT", 0.05)
        with pytest.raises(OperationTimeout, match=r"did not answer within 0.05 s"):
            await create(runtime / "bus", ONE, [1])


async def test_a_python_without_jeepney_says_what_to_install(runtime: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jeepney", None)
    with pytest.raises(OperationUnsupported, match="no jeepney") as caught:
        await create(runtime / "bus", ONE, [1])
    assert caught.value.hint == "install python3-jeepney, or virlet[systemd]"


async def answered(data: bytes) -> None:
    """One request to who lets us in, says *data* and hangs up; raises what that raises."""
    with tempfile.TemporaryDirectory(prefix="vl") as name:
        path = Path(name) / "private"
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))
            listener.listen()
            listener.setblocking(False)
            loop = asyncio.get_running_loop()

            async def peer() -> None:
                sock, _ = await loop.sock_accept(listener)
                with sock:
                    sock.setblocking(False)
                    await loop.sock_recv(sock, 4096)
                    await loop.sock_sendall(sock, b"OK 00\r\n" if data else b"REJECTED\r\n")
                    await loop.sock_recv(sock, 4096)
                    await loop.sock_sendall(sock, data)

            both = asyncio.gather(peer(), create(path, ONE, [1]), return_exceptions=True)
            for error in await both:
                if isinstance(error, BaseException) and not isinstance(error, OSError):
                    raise error


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 16,
        junk(b"?"),
        junk(body=1 << 30),
        junk(fields=1 << 30),
        junk(fields=8) + b"\xff" * 8,
        junk(),
    ],
)
async def test_what_is_no_d_bus_is_an_error_of_ours(data: bytes) -> None:
    with pytest.raises(VirletError):
        await answered(data)


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=80), st.booleans())
def test_whatever_answers_the_end_is_one_of_our_errors(data: bytes, framed: bool) -> None:
    said = junk(body=max(0, len(data) - 8), fields=min(8, len(data))) + data if framed else data
    with suppress(VirletError):
        asyncio.run(answered(said))
