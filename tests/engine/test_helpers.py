"""A helper's supervision alone: the test is QEMU, the helper is the fake passt."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from virlet.engine.fds import FdTable
from virlet.engine.status import HelperRecord
from virlet.engine.supervision import helper as supervision
from virlet.engine.supervision.budget import Budget
from virlet.engine.supervision.helper import Helper
from virlet.engine.supervision.reach import run_helper
from virlet.engine.tasks import Tasks
from virlet.errors import OperationTimeout
from virlet.fake.programs import install
from virlet.plan.base import Dial, HelperPlan, OnLoss, Ready
from virlet.plan.follow import ROUTE, Follow, Uplinks
from virlet.proc import spawn
from virlet.proc.process import Process


class Qemu:
    """The listening end of a stream: tells the helper what QEMU tells, and remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        self.name, self.stopping, self.plugged, self.unheard = "a guest", False, True, False
        self.asked: list[tuple[str, Mapping[str, object]]] = []
        self.told: list[tuple[str, str]] = []
        self.network: Uplinks | None = Uplinks()
        self.silent = False
        """It answers nothing."""
        self.helper: Helper | None = None
        self._loop = asyncio.get_running_loop()
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen(0)
        self._peer: socket.socket | None = None
        self.look(True)

    def look(self, on: bool) -> None:
        """A guest that is paused looks neither at its listener nor at the end of its stream."""
        for sock, react in ((self._listener, self._accept), (self._peer, self._read)):
            if sock is not None:
                self._loop.remove_reader(sock)
                if on and (self._peer is None or sock is self._peer):
                    self._loop.add_reader(sock, react)

    def _accept(self) -> None:
        self._peer, _ = self._listener.accept()
        self.look(True)
        if self.helper is not None:
            self.helper.on_connected()

    def _read(self) -> None:
        assert self._peer is not None
        if not self._peer.recv(1 << 16):
            self._loop.remove_reader(self._peer)
            self._peer.close()
            self._peer = None
            self.look(True)
            if self.helper is not None:
                self.helper.on_disconnected()

    def hang_up(self) -> None:
        """The stream ends, and nobody is told."""
        peer, self._peer = self._peer, None
        assert peer is not None
        self._loop.remove_reader(peer)
        peer.close()
        self.look(True)

    def close(self) -> None:
        for sock in (self._listener, self._peer):
            if sock is not None:
                self._loop.remove_reader(sock)
                sock.close()

    # HelperHost

    def link_wanted(self, alias: str) -> bool:
        return self.plugged

    async def execute(self, command: str, arguments: Mapping[str, object]) -> object:
        if self.silent:
            raise OperationTimeout(f"no answer to {command}")
        self.asked.append((command, arguments))
        return {}

    def save(self) -> None:
        pass

    def tell(self, alias: str, kind: str, message: str) -> None:
        self.told.append((kind, message))

    def uplinks(self) -> Uplinks | None:
        return self.network

    def joined(self, process: Process) -> None:
        pass

    @property
    def alone(self) -> bool:
        return self._peer is None

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _ in self.told]

    @property
    def links(self) -> list[object]:
        return [arguments["up"] for command, arguments in self.asked if command == "set_link"]


STABLE = 3600.0
"""A machine that stands still for a second makes no helper of the tests one that has worked."""


@pytest.fixture
def short() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="vh") as name:
        yield Path(name)


@pytest.fixture
async def qemu(short: Path) -> AsyncIterator[Qemu]:
    one = Qemu(short / "net0")
    tasks = Tasks()
    program = install(short / "passt", "passt")
    dialled = Dial(short / "net0")
    words = (str(program), "--foreground", "--quiet", "--fd", dialled)
    plan = HelperPlan("passt", words, (dialled,), Ready.SPAWNED, OnLoss.RESTART)
    one.helper = Helper(one, tasks, HelperRecord("net0", "hostnet0", plan), Budget(pause=0.01, stable=STABLE))
    with FdTable() as fds:
        fds.open(plan.fds)
        process = await run_helper(plan, fds)
    one.helper.own(process)
    process.proceed()
    yield one
    one.stopping = True
    await tasks.cancel()
    await one.helper.end()
    one.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def kill(helper: Helper) -> None:
    assert helper.process is not None
    os.kill(helper.process.pid, signal.SIGKILL)


def put(program: Path, text: str) -> None:
    """Another one in its place, as a package manager does it: nobody may write to what is just being executed."""
    new = program.with_suffix(".new")
    new.write_text(text)
    new.chmod(0o755)
    new.replace(program)


async def test_fifty_kills_in_a_row_are_fifty_restarts(qemu: Qemu) -> None:
    assert qemu.helper is not None
    for number in range(1, 51):
        kill(qemu.helper)
        await until(lambda: qemu.kinds.count("restarted") == number)  # noqa: B023
    assert qemu.helper.record.restarts == 50
    assert qemu.links == []


async def test_a_program_that_fails_is_given_up_and_revived_by_its_user(qemu: Qemu, short: Path) -> None:
    assert qemu.helper is not None
    whole = (short / "passt").read_text()
    put(short / "passt", "#!/bin/sh\nexit 3\n")
    kill(qemu.helper)
    await until(lambda: qemu.links)
    assert (qemu.kinds[-1], qemu.helper.condition, qemu.links) == ("gave-up", "gave up", [False])
    assert "virlet link 'a guest' net0 up" in qemu.told[-1][1]
    assert qemu.kinds.count("restarted") <= 6
    # It is tried again, fails again, and the link stays down.
    qemu.helper.revive()
    await until(lambda: qemu.kinds.count("gave-up") == 2)
    put(short / "passt", whole)
    qemu.helper.revive()
    await until(lambda: qemu.kinds[-1] == "restarted")
    assert qemu.links[-1] is True
    assert not qemu.helper.record.gave_up


async def test_one_that_is_being_started_again_ends_with_its_interface(
    qemu: Qemu, short: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert qemu.helper is not None
    begun, may, there = threading.Event(), threading.Event(), threading.Event()
    popen = spawn._popen

    def slow(command: spawn.Command) -> object:
        begun.set()
        may.wait(30)
        found = popen(command)
        there.set()
        return found

    monkeypatch.setattr(spawn, "_popen", slow)
    kill(qemu.helper)
    await until(begun.is_set)
    ending = asyncio.ensure_future(qemu.helper.end())
    await asyncio.sleep(0)  # It waits for the one that is being started.
    may.set()
    await ending
    await until(there.is_set)
    assert (qemu.helper.process, qemu.helper.record.identity) == (None, None)
    assert not [line for line in command_lines() if str(short) in line]
    assert "restarted" not in qemu.kinds


def command_lines() -> list[str]:
    """Of everything that runs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.append(path.read_text("utf-8", "replace"))
    return found


async def test_a_cable_that_its_user_has_pulled_stays_out(qemu: Qemu, short: Path) -> None:
    assert qemu.helper is not None
    whole = (short / "passt").read_text()
    (short / "passt").unlink()
    kill(qemu.helper)
    await until(lambda: qemu.links)
    put(short / "passt", whole)
    qemu.plugged = False
    qemu.helper.revive()
    await until(lambda: qemu.kinds[-1] == "restarted")
    assert qemu.links == [False]


async def test_a_daemon_out_of_descriptors_tries_until_it_has_some(
    qemu: Qemu, no_descriptor: Callable[[], AbstractContextManager[None]]
) -> None:
    assert qemu.helper is not None
    with no_descriptor():
        kill(qemu.helper)
        await until(lambda: qemu.kinds == ["lost", "lost"])
        await asyncio.sleep(0.5)  # Longer than five attempts take, which would have been the end of it.
    await until(lambda: "restarted" in qemu.kinds)
    assert "gave-up" not in qemu.kinds
    assert qemu.kinds.count("lost") == 2


async def test_while_qemu_looks_away_there_is_one_dial_and_then_the_network(qemu: Qemu) -> None:
    assert qemu.helper is not None
    kill(qemu.helper)
    await until(lambda: qemu.kinds == ["lost", "restarted"])
    qemu.look(False)
    kill(qemu.helper)
    await until(lambda: qemu.kinds.count("lost") == 2)
    assert qemu.helper.condition == "waiting for the guest"
    await asyncio.sleep(0.2)  # Twenty of the pauses between two attempts, on the same loop.
    assert qemu.kinds == ["lost", "restarted", "lost"]
    qemu.look(True)
    await until(lambda: qemu.kinds.count("restarted") == 2)
    # A second dial would have found the listener's backlog full, or be a connection that QEMU accepts now.
    assert qemu.kinds == ["lost", "restarted", "lost", "restarted"]
    assert ("announce-self") in [command for command, _ in qemu.asked]


async def test_one_that_was_taken_over_is_replaced_although_qemu_told_only_the_last_daemon_of_its_end(
    qemu: Qemu,
) -> None:
    last = qemu.helper
    assert last is not None
    assert last.process is not None
    identity, record = last.process.identity, last.record
    last.forget()
    qemu.helper = None
    mine = Process.adopt(identity, "passt")
    assert mine is not None
    os.kill(identity.pid, signal.SIGKILL)
    await until(lambda: qemu.alone)  # It has told nobody, and our pidfd has not been looked at.
    qemu.helper = Helper(qemu, Tasks(), record, Budget(pause=0.01))
    qemu.helper.own(mine)
    qemu.helper.regain(0)
    await until(lambda: "restarted" in qemu.kinds)
    assert qemu.kinds == ["lost", "restarted"]


async def test_one_that_ends_before_qemu_is_heard_comes_again_when_it_is(qemu: Qemu) -> None:
    helper = qemu.helper
    assert helper is not None
    qemu.unheard = True
    helper.regain(0)
    kill(helper)
    await until(lambda: qemu.alone)
    await until(lambda: helper.process is None)
    await asyncio.sleep(0.05)  # In which a pause of 0.01 s would be over: nothing is begun.
    assert (qemu.alone, helper.process, qemu.kinds) == (True, None, ["lost"])
    qemu.unheard = False
    helper.on_heard()
    await until(lambda: qemu.kinds == ["lost", "restarted"])
    kill(helper)
    await until(lambda: qemu.kinds == ["lost", "restarted"] * 2)


async def test_the_end_of_a_stream_that_a_daemon_before_us_had_dialled_ends_no_helper(
    qemu: Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LEAVE", 0.05)
    helper = qemu.helper
    assert helper is not None
    process = helper.process
    assert process is not None
    for _ in range(2):
        helper.on_connected()
        helper.on_disconnected()
    helper.on_connected()
    await asyncio.sleep(0.2)  # Four times what a process has to end by itself: it is not ended.
    assert (process.running, qemu.kinds) == (True, [])
    helper.on_disconnected()  # It does not end, so it is ended: by SIGTERM.
    await until(lambda: qemu.kinds == ["lost", "restarted"])


@pytest.mark.parametrize("told", [False, True])
async def test_one_that_needs_a_route_waits_where_there_is_none_and_tries_where_nobody_can_tell(
    qemu: Qemu, told: bool
) -> None:
    helper = qemu.helper
    assert helper is not None
    helper.record = replace(helper.record, plan=replace(helper.record.plan, follow=Follow(needs_route=True)))
    qemu.network = Uplinks() if told else None
    kill(helper)
    await until(lambda: qemu.kinds in (["lost", "waiting"], ["lost", "restarted"]))
    assert (helper.record.waits, helper.process is None) == ((ROUTE, True) if told else ("", False))
    if not told:
        assert helper.record.seen is None
        qemu.network = Uplinks(frozenset({(4, "eth0")}))
        helper.follow(qemu.network)
        assert helper.record.seen is not None


async def test_a_cable_is_out_on_record_until_qemu_has_put_it_in(qemu: Qemu) -> None:
    helper = qemu.helper
    assert helper is not None
    await helper.give_up("its user wants to see that")
    qemu.silent = True
    with pytest.raises(OperationTimeout):
        await helper.came_back()
    assert helper.unlinked
    assert "wants to see that" in helper.why
    qemu.silent = False
    helper.revive()
    await until(lambda: qemu.links == [False, True])
    assert not helper.unlinked
    assert (helper.condition, helper.why) == ("running", "")


async def test_who_takes_the_cable_out_while_it_comes_in_has_the_last_word(qemu: Qemu) -> None:
    helper = qemu.helper
    assert helper is not None
    helper.record = replace(helper.record, unplugged=True)
    await asyncio.gather(helper.came_back(), helper.give_up("it is taken out"))
    assert qemu.links == [True, False]
    assert helper.record.gave_up


@pytest.mark.parametrize("lives", [False, True])
async def test_one_that_has_seen_its_stream_end_is_lost_when_qemu_says_so_and_not_when_qemu_has_ended(
    qemu: Qemu, lives: bool
) -> None:
    helper = qemu.helper
    assert helper is not None
    kill(helper)
    await until(lambda: qemu.kinds == ["lost", "restarted"])
    qemu.told.clear()
    qemu.hang_up()
    await until(lambda: helper.process is None)
    assert (qemu.kinds, helper.condition) == ([], "waiting for the guest")
    if lives:
        helper.on_disconnected()
        await until(lambda: qemu.kinds == ["lost", "restarted"])
    else:
        qemu.stopping = True
        await helper.end()
        assert qemu.kinds == []
