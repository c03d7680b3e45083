"""A helper that QEMU starts itself: found, believed only if it is the one, taken away in order, replaced when lost."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from virlet.engine.status import HelperRecord
from virlet.engine.supervision.forked import plug_in, pull_out, remove_dead
from virlet.engine.supervision.helper import Helper
from virlet.engine.tasks import Tasks
from virlet.errors import OperationTimeout
from virlet.plan.base import Forked, Forward, HelperPlan, OnLoss, QmpCommand, Ready
from virlet.plan.follow import Uplinks
from virlet.proc.identity import identify
from virlet.proc.process import Process
from virlet.qmp.monitor import QmpError


def daemon(program: str) -> int:
    """The pid of *program*, which is nobody's child, as passt is not QEMU's; it is that program when this returns."""
    argv = ["/bin/sh", "-c", '"$0" 60 >/dev/null 2>&1 & echo $!', program]
    pid = int(subprocess.run(argv, capture_output=True, text=True, check=True).stdout)
    words = Path(f"/proc/{pid}/cmdline")
    while identify(pid) is not None and not words.read_bytes().startswith(os.fsencode(program) + b"\0"):
        time.sleep(0.001)  # A shell as yet; it ends where there is no such program.
    return pid


def passt(pid_file: Path) -> int:
    """The pid of nobody's child that is told where to write it, as passt is; it is running when this returns."""
    work = "import os, signal; print(os.getpid(), flush=True); signal.pause()"
    argv = ["/bin/sh", "-c", '"$0" -c "$1" --pid "$2" &', sys.executable, work, str(pid_file)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout is not None
        return int(shell.stdout.readline())


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        if pid:
            os.kill(pid, signal.SIGKILL)


class Monitor:
    """QEMU's part: it runs what the link leads to, names its process, and starts it again when told to."""

    def __init__(self, plan: HelperPlan) -> None:
        assert plan.forked is not None
        self.forked = plan.forked
        self.said: list[str] = []
        self.netdevs: list[object] = []
        self.pid = 0
        self.named: int | None = None
        """Another pid than the process's."""
        self.refuses = 0
        """How often the netdev is not made."""
        self.again = False
        """A lost process is started again before the next answer."""
        self.unsettled = 0
        """How often it says no more than that it is at a start."""

    async def __call__(self, command: str, arguments: Mapping[str, object]) -> object:
        self.said.append(f"{command} {arguments['id']}" if "id" in arguments else command)
        if self.again and identify(self.pid) is None:
            self._start()
        if command == "netdev_add":
            self._add(arguments)
        elif command == "netdev_del":
            if arguments["id"] not in self.netdevs:
                raise QmpError(command, "DeviceNotFound", "Device not found")
            self.netdevs.remove(arguments["id"])
        elif command == "human-monitor-command":
            return self._network()
        return {}

    def _add(self, arguments: Mapping[str, object]) -> None:
        if arguments["type"] == "passt":
            if self.refuses:
                self.refuses -= 1
                raise QmpError("netdev_add", "GenericError", "Passt exited with code 1")
            self._start()
        self.netdevs.append(arguments["id"])

    def _start(self) -> None:
        self.pid = daemon(str(self.forked.link))

    def _network(self) -> str:
        pid, name = self.named or self.pid, self.forked.netdev
        told = f"stream,connected to pid {pid}"
        if self.unsettled:
            self.unsettled -= 1
            told = "launching passt"
        return f"hub 7\r\n \\ hub-net0: {name}: index=0,type=passt,{told}\r\n"

    def close(self) -> None:
        kill(self.pid)


@pytest.fixture
def plan(tmp_path: Path) -> HelperPlan:
    adds = (
        QmpCommand("netdev_add", {"type": "passt", "id": "passt-net0", "path": str(tmp_path / "net0.passt")}),
        QmpCommand("netdev_add", {"type": "hubport", "id": "hub-net0", "hubid": 7, "netdev": "passt-net0"}),
    )
    link = tmp_path / "net0.passt"
    forked = Forked(link, "passt-net0", adds, tmp_path / "qemu.log")
    return HelperPlan("passt", ("/bin/sleep",), (), Ready.SPAWNED, OnLoss.QEMU, leaves=(link,), forked=forked)


@pytest_asyncio.fixture
async def monitor(plan: HelperPlan) -> AsyncIterator[Monitor]:
    made = Monitor(plan)
    yield made
    made.close()


class Host:
    """The guest's part."""

    name = "demo"
    stopping = False
    paused = False
    unheard = False

    def __init__(self, monitor: Monitor) -> None:
        self.execute: Callable[..., Any] = monitor
        self.told: asyncio.Queue[str] = asyncio.Queue()

    def link_wanted(self, alias: str) -> bool:
        return True

    def save(self) -> None:
        pass

    def tell(self, alias: str, kind: str, message: str) -> None:
        self.told.put_nowait(kind)

    def uplinks(self) -> Uplinks:
        return Uplinks()

    def joined(self, process: Process) -> None:
        pass


async def test_it_is_plugged_in_found_and_pulled_out_before_qemu_can_start_another(
    plan: HelperPlan, monitor: Monitor
) -> None:
    process = await plug_in(monitor, plan)
    assert process.pid == monitor.pid
    assert monitor.netdevs == ["passt-net0", "hub-net0"]
    monitor.said.clear()
    monitor.unsettled = 2
    await pull_out(monitor, plan, process)
    looks = ["human-monitor-command"] * 3
    assert monitor.said == ["netdev_del hub-net0", "query-status", "query-status", *looks, "netdev_del passt-net0"]
    assert identify(monitor.pid) is None
    assert not plan.leaves[0].is_symlink()


async def test_a_netdev_that_qemu_is_not_done_with_stays(
    plan: HelperPlan, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = await plug_in(monitor, plan)
    monkeypatch.setattr("virlet.engine.supervision.forked.CONNECT_WAIT", 0.05)
    monitor.unsettled = 1 << 62
    with pytest.raises(OperationTimeout, match=r"QEMU has been starting 'passt-net0' for 0.05 s \(.*launching passt\)"):
        await pull_out(monitor, plan, process)
    assert monitor.netdevs == ["passt-net0"]


async def test_a_process_that_is_not_of_the_plan_is_not_believed_and_not_ended(
    plan: HelperPlan, monitor: Monitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("virlet.engine.supervision.forked.CONNECT_WAIT", 0.2)
    monitor.named = daemon("/bin/sleep")
    try:
        with pytest.raises(OperationTimeout):
            await plug_in(monitor, plan)
        assert identify(monitor.named) is not None
        assert monitor.netdevs == []
    finally:
        kill(monitor.named)


async def test_where_it_has_written_its_pid_is_on_record(plan: HelperPlan, monitor: Monitor, tmp_path: Path) -> None:
    left = tmp_path / "passt-AB12cd.pid"
    identity = identify(passt(left))
    assert identity is not None
    process = Process.adopt(identity, "passt")
    assert process is not None
    helper = Helper(Host(monitor), Tasks(), HelperRecord("net0", "hostnet0", plan))
    helper.own(process)
    assert helper.record.pid_file == left
    left.write_text(f"{process.pid}\n")
    remove_dead(left)
    assert left.exists(), "it names one that lives"
    helper.over = True
    await process.terminate(5)
    remove_dead(left)
    assert not left.exists()


def test_no_other_file_is_taken_for_what_it_has_left(tmp_path: Path) -> None:
    other, text, link = tmp_path / "notes", tmp_path / "passt-abcdef.pid", tmp_path / "passt-ABCDEF.pid"
    other.touch()
    text.write_text("my notes\n")
    link.symlink_to(other)
    for path in (other, text, link, tmp_path / "passt-000000.pid"):
        remove_dead(path)
    assert sorted(tmp_path.iterdir()) == sorted((other, text, link))


async def test_what_qemu_refuses_leaves_nothing(plan: HelperPlan, monitor: Monitor) -> None:
    monitor.refuses = 1
    with pytest.raises(QmpError, match="Passt exited with code 1"):
        await plug_in(monitor, plan)
    assert monitor.netdevs == []
    assert not plan.leaves[0].is_symlink()


@pytest.mark.parametrize("again", [True, False], ids=["by QEMU", "by a new netdev"])
async def test_a_lost_one_is_replaced(plan: HelperPlan, monitor: Monitor, again: bool) -> None:
    tasks, host = Tasks(), Host(monitor)
    helper = Helper(host, tasks, HelperRecord("net0", "hostnet0", plan))
    helper.own(await plug_in(monitor, plan))
    monitor.again = again
    monitor.unsettled = 3  # A busy host's QEMU is not done with its own attempt yet.
    monitor.said.clear()
    first = monitor.pid
    kill(first)
    async with asyncio.timeout(30):
        assert await host.told.get() == "lost"
        assert await host.told.get() == "restarted"
    assert (helper.condition, helper.record.restarts) == ("running", 1)
    assert ("netdev_add passt-net0" in monitor.said) is not again
    assert monitor.pid != first
    await helper.end()
    assert monitor.netdevs == []
    await tasks.cancel()


async def test_one_that_qemu_has_started_at_once_is_no_stranger_on_its_ports(
    plan: HelperPlan, monitor: Monitor
) -> None:
    """It listens before we come to ask who does; the socket stands for its own."""
    tasks, host = Tasks(), Host(monitor)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        forward = Forward("tcp", "127.0.0.1", None, port, port, 22, "")
        wanted = replace(plan, ready=Ready.PORTS_LISTEN, forwards=(forward,))
        helper = Helper(host, tasks, HelperRecord("net0", "hostnet0", wanted))
        helper.own(await plug_in(monitor, wanted))
        monitor.again = True
        kill(monitor.pid)
        async with asyncio.timeout(30):
            assert [await host.told.get() for _ in range(2)] == ["lost", "restarted"]
        await helper.end()
    await tasks.cancel()


async def test_one_that_cannot_be_replaced_is_tried_a_few_times_and_given_up(
    plan: HelperPlan, monitor: Monitor
) -> None:
    tasks, host = Tasks(), Host(monitor)
    helper = Helper(host, tasks, HelperRecord("net0", "hostnet0", plan))
    helper.own(await plug_in(monitor, plan))
    monitor.refuses = 100
    kill(monitor.pid)
    kinds = set()
    async with asyncio.timeout(30):
        while "gave-up" not in kinds:
            kinds.add(await host.told.get())
    assert helper.condition == "gave up"
    await asyncio.sleep(0)
    assert "set_link" in monitor.said
    monitor.refuses = 0
    helper.revive()
    async with asyncio.timeout(30):
        while await host.told.get() != "restarted":
            pass
    assert helper.condition == "running"
    await helper.end()
    await tasks.cancel()
