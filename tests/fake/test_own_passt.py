"""The fake QEMU's own passt, told and kept as QEMU 11.1 does it."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from virlet.engine.probe.qemu import probe_qemu
from virlet.engine.supervision.forked import forked_of, found, has_tried, pid_file, plug_in, pull_out
from virlet.fake.own_passt import words_of
from virlet.fake.programs import install
from virlet.plan.base import Forked, HelperPlan, OnLoss, QmpCommand, Ready
from virlet.proc.identity import identify
from virlet.proc.process import ExitStatus, Process
from virlet.proc.spawn import Command, spawn
from virlet.qmp.monitor import Monitor, QmpError

FACTS = Path(__file__).parents[1] / "plan" / "facts" / "qemu-11.1.json"


def plan_of(directory: Path) -> HelperPlan:
    link = directory / "net0.passt"
    adds = (
        QmpCommand("netdev_add", {"type": "passt", "id": "passt-net0", "path": str(link), "address": "10.0.2.15"}),
        QmpCommand("netdev_add", {"type": "hubport", "id": "hub-net0", "hubid": 7, "netdev": "passt-net0"}),
    )
    forked = Forked(link, "passt-net0", adds, directory / "qemu.log")
    return HelperPlan("passt", (str(directory / "passt"),), (), Ready.SPAWNED, OnLoss.QEMU, forked=forked)


class Running:
    """A fake QEMU whose guest's card is on a hub."""

    def __init__(self, process: Process, monitor: Monitor, directory: Path) -> None:
        self.process, self.monitor, self.directory = process, monitor, directory
        self.plan = plan_of(directory)

    def pid_files(self) -> list[Path]:
        return list(self.directory.glob("passt-*.pid"))


@pytest_asyncio.fixture
async def qemu(tmp_path: Path) -> AsyncIterator[Running]:
    install(tmp_path / "passt", "passt")
    program = install(tmp_path / "qemu", "qemu")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "m"))
        sock.listen(1)
        fd = sock.fileno()
        card = json.dumps({"type": "hubport", "hubid": 7, "id": "hostnet0"})
        words = ("-S", "-chardev", f"socket,id=c,fd={fd},server=on", "-mon", "chardev=c,mode=control", "-netdev", card)
        process = await spawn(Command((str(program), *words), fds=(fd,), env={"TMPDIR": str(tmp_path)}), "qemu")
    async with await Monitor.connect(tmp_path / "m", name="qemu") as monitor:
        yield Running(process, monitor, tmp_path)
    if process.running:
        process.signal(signal.SIGKILL)
        await process.exited()


async def test_it_is_found_and_another_one_follows_it_until_it_is_pulled_out(qemu: Running) -> None:
    execute = qemu.monitor.execute
    process = await plug_in(execute, qemu.plan)
    left = pid_file(process.pid)
    assert [left] == qemu.pid_files()
    assert left is not None
    assert int(left.read_text()) == process.pid
    process.signal(signal.SIGKILL)
    await process.exited()
    await has_tried(execute, qemu.plan)
    second = await found(execute, qemu.plan)
    assert second is not None
    assert second.pid != process.pid
    assert [pid_file(second.pid)] == qemu.pid_files() == [left]
    await pull_out(execute, qemu.plan, second)
    assert identify(second.pid) is None
    assert qemu.pid_files() == []
    assert await execute("human-monitor-command", {"command-line": "info network"}) == "hub 7\r\n \\ hostnet0\r\n"


async def test_taking_it_away_while_it_runs_crashes_qemu(qemu: Running) -> None:
    process = await plug_in(qemu.monitor.execute, qemu.plan)
    with pytest.raises(Exception, match="closed"):
        await qemu.monitor.execute("netdev_del", {"id": "passt-net0"})
    assert await qemu.process.exited() == ExitStatus(signal=signal.SIGABRT)
    await process.exited()


@pytest.mark.parametrize("settled", [True, False])
async def test_taking_it_away_before_a_start_that_failed_is_over_crashes_qemu(qemu: Running, settled: bool) -> None:
    execute = qemu.monitor.execute
    process = await plug_in(execute, qemu.plan)
    forked_of(qemu.plan).link.unlink()
    process.signal(signal.SIGKILL)
    await process.exited()
    if settled:
        await has_tried(execute, qemu.plan)
        await execute("netdev_del", {"id": "passt-net0"})
        return
    await execute("query-status")
    with pytest.raises(Exception, match="closed"):
        await execute("netdev_del", {"id": "passt-net0"})
    assert await qemu.process.exited() == ExitStatus(signal=signal.SIGABRT)


async def test_it_ends_with_qemu(qemu: Running) -> None:
    process = await plug_in(qemu.monitor.execute, qemu.plan)
    qemu.process.signal(signal.SIGTERM)
    await asyncio.gather(process.exited(), qemu.process.exited())
    assert qemu.pid_files() == []


async def test_what_passt_refuses_is_refused(qemu: Running) -> None:
    add = {"type": "passt", "id": "x", "path": str(qemu.directory / "passt")}
    with pytest.raises(QmpError, match="Passt exited with code 1"):
        await qemu.monitor.execute("netdev_add", {**add, "param": ({"str": "--unknown"},)})
    with pytest.raises(QmpError, match="No such file"):
        await qemu.monitor.execute("netdev_add", {**add, "path": "/nowhere"})
    with pytest.raises(QmpError, match="netdev 'x' not found"):
        await qemu.monitor.execute("netdev_add", {"type": "hubport", "id": "y", "hubid": 1, "netdev": "x"})
    assert qemu.pid_files() == []


async def test_it_has_no_member_that_qemu_11_1_lacks(tmp_path: Path) -> None:
    real = json.loads(FACTS.read_text())["netdevs"]
    fake = (await probe_qemu(install(tmp_path / "qemu", "qemu"))).netdevs
    for name in ("passt", "hubport"):
        assert fake[name] | {"id", "type", "vhost-user"} >= set(real[name]) >= fake[name]


def test_its_members_are_passts_words() -> None:
    members = {
        "mtu": 1500, "mac": "52:54:00:00:00:01", "tcp-ports": [{"str": "127.0.0.1/1:2"}, {"str": "3"}], "ra": False,
        "ipv4": False, "tcp": True, "freebind": True, "search": [{"str": "a"}, {"str": "b"}], "param": [{"str": "-x"}],
    }  # fmt: skip
    assert list(words_of(members)) == [
        "--quiet", "--freebind", "--mtu", "1500", "--mac-addr", "52:54:00:00:00:01", "--tcp-ports", "127.0.0.1/1:2,3",
        "--no-ra", "--ipv6-only", "--search", "a b", "-x",
    ]  # fmt: skip
    assert list(words_of({"quiet": False})) == []
