"""The fake passt and the real one, held to the same: what an engine sees of either."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from virlet.engine.probe.passt import probe_passt
from virlet.errors import BadConfig, OperationFailed
from virlet.fake.passt import ports
from virlet.fake.programs import install
from virlet.plan.base import Forward
from virlet.proc.ports import conflicts, wait_listening
from virlet.proc.process import ExitStatus, Process
from virlet.proc.sockets import Listeners, PortRange, listeners
from virlet.proc.spawn import Command, spawn

REAL = shutil.which("passt")


@pytest.fixture(params=["fake", "real"])
async def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "fake":
        return install(tmp_path / "passt", "passt")
    if REAL is None or not (await probe_passt(Path(REAL))).may_run:
        pytest.skip("no passt that may run here")
    return Path(REAL)


@pytest.fixture
def free() -> int:
    """The first of ten free ports."""
    return next(_free_ranges())


def everybody() -> Listeners:
    return listeners([PortRange("tcp", 0, 65535), PortRange("udp", 0, 65535)])


def _free_ranges() -> Iterator[int]:
    table = everybody()
    for start in range(10_000 + os.getpid() % 500 * 20, 20_000, 10):
        if not any(table.on(proto, start + n) for proto in ("tcp", "udp") for n in range(10)):
            yield start


async def start(program: Path, *words: str) -> tuple[Process, socket.socket]:
    ours, theirs = socket.socketpair()
    with theirs:
        addresses = ("--address", "10.0.2.15", "--netmask", "24", "--gateway", "10.0.2.2")
        argv = (str(program), "--foreground", "--quiet", *addresses, *words, "--fd", str(theirs.fileno()))
        return await spawn(Command(argv, fds=(theirs.fileno(),)), "passt"), ours


def forward(proto: str, first: int, last: int) -> Forward:
    return Forward(proto, "127.0.0.1", None, first, last, first, "")


async def test_it_listens_where_told_and_ends_with_its_connection(program: Path, free: int) -> None:
    wanted = [forward("tcp", free, free + 3), forward("tcp", free + 6, free + 9), forward("udp", free, free)]
    before = everybody()
    assert conflicts(wanted, before) == []
    ranges = f"127.0.0.1/{free}-{free + 9}:100-109,~{free + 4}-{free + 5}"
    process, connection = await start(program, "--tcp-ports", ranges, "--udp-ports", f"127.0.0.1/{free}")
    await wait_listening(process, wanted, before)
    assert not everybody().on("tcp", free + 4)
    connection.close()
    assert await process.exited() == ExitStatus(code=0)
    assert not everybody().on("tcp", free)


async def test_a_port_that_was_taken_meanwhile_is_noticed(program: Path, free: int) -> None:
    with socket.create_server(("127.0.0.1", free + 1)):
        before = everybody()
        process, connection = await start(program, "--tcp-ports", f"127.0.0.1/{free}-{free + 2}")
        # An old one runs on without the port, a new one ends: either way it is an error.
        with pytest.raises((BadConfig, OperationFailed)):
            await wait_listening(process, [forward("tcp", free, free + 2)], before)
        connection.close()
        await process.exited()


async def test_a_connection_is_answered_by_the_fake(tmp_path: Path, free: int) -> None:
    before = everybody()
    process, connection = await start(install(tmp_path / "passt", "passt"), "-t", f"127.0.0.1/{free}")
    await wait_listening(process, [forward("tcp", free, free)], before)
    with socket.create_connection(("127.0.0.1", free), timeout=30) as caller:
        assert caller.recv(100) == b"fake guest, port %d\n" % free
    connection.close()
    await process.exited()


@pytest.mark.parametrize("generation", [2023, 2026])
async def test_the_fake_can_be_probed(tmp_path: Path, generation: int) -> None:
    passt = await probe_passt(install(tmp_path / "passt", "passt", {"generation": generation}))
    assert {"fd", "foreground", "tcp-ports"} <= passt.options
    assert passt.may_run


async def test_the_fake_can_be_told_to_refuse(tmp_path: Path) -> None:
    passt = await probe_passt(install(tmp_path / "passt", "passt", {"refuse": "Couldn't create user namespace"}))
    assert not passt.may_run
    assert "user namespace" in passt.may_run.reason


def test_port_ranges_are_read_as_passt_reads_them() -> None:
    found = list(ports("tcp", "127.0.0.1%lo/10-14:20-24,~12-13,30"))
    assert found == [("tcp", "127.0.0.1", "lo", port) for port in (10, 11, 14, 30)]
    assert list(ports("udp", "none")) == []
