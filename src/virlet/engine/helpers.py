"""A process beside QEMU, kept alive: a dead passt costs the guest a blink, not its network.

QEMU has the listening end of the stream, so after a loss there is only one thing to do: dial QEMU, hand the connection
to a new process of the same plan, and have QEMU say the guest's address aloud, because an old passt does not learn it
from a quiet guest.  Two witnesses tell of a loss, the process's pidfd and QEMU's NETDEV_STREAM_DISCONNECTED, and both
are waited for: while a frame waits for a NIC that cannot receive, QEMU does not read the end of the stream, its
backlog holds one connection, and a second dial would be lost in it (QEMU 7.2 to 11.1).
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Protocol

from virlet.engine.fds import FdTable, anchor, dial
from virlet.engine.keep import inodes_of, regain
from virlet.engine.status import HelperRecord
from virlet.engine.tasks import Tasks
from virlet.errors import SystemFailure, VirletError
from virlet.fault import point
from virlet.plan.base import Dial, HelperPlan, OnLoss, Ready, render
from virlet.proc.logfile import cap, tail
from virlet.proc.ports import wait_listening
from virlet.proc.process import ExitStatus, Process
from virlet.proc.sockets import Listeners, listeners
from virlet.proc.spawn import Command, spawn

__all__ = ["ANNOUNCE", "Budget", "Helper", "HelperHost", "run_helper"]

log = logging.getLogger(__name__)

ANNOUNCE: Mapping[str, object] = {"initial": 5, "max": 50, "rounds": 3, "step": 10}
"""Arguments of ``announce-self``, in milliseconds: with them traffic was back after 32 to 55 ms."""
LEAVE = 1.0
"""Seconds that a helper has to end by itself when QEMU has closed the stream."""


class HelperHost(Protocol):
    """What a helper needs of its guest."""

    @property
    def stopping(self) -> bool:
        """QEMU is ending or has ended: nothing is restarted."""
        ...

    async def execute(self, command: str, arguments: Mapping[str, object]) -> object: ...

    def save(self) -> None:
        """Write the status file."""
        ...

    def tell(self, alias: str, kind: str, message: str) -> None:
        """Emit a :class:`virlet.engine.api.HelperEvent`."""
        ...


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a crash loop may cost before the link is taken down."""

    restarts: int = 5
    window: float = 60.0
    """Seconds in which the restarts are counted."""
    stable: float = 1.0
    """Seconds after which a helper counts as having worked: its later loss is not part of a crash loop."""


class Stream(Enum):
    """The connection between QEMU and the helper, as far as QEMU has said."""

    UP = "connected"
    DOWN = "down"
    DIALLED = "dialled, not accepted yet"


async def run_helper(plan: HelperPlan, fds: FdTable) -> Process:
    """Start the process of *plan* on descriptors that *fds* has opened; raises :class:`SystemFailure`."""
    if plan.stderr is not None:
        cap(plan.stderr.path)
        fds.open((plan.stderr,))
    argv = tuple(render(plan.argv, fds.__getitem__))
    stderr = fds[plan.stderr] if plan.stderr is not None else -3
    inherited = tuple(fds[source] for source in plan.fds)
    return await spawn(Command(argv, inherited, stdout=stderr, stderr=stderr), plan.name)


def _again(plan: HelperPlan) -> HelperPlan:
    """*plan* for another process of it: what the last one said before its end stays in the log."""
    return plan if plan.stderr is None else replace(plan, stderr=replace(plan.stderr, truncate=False))


class Helper:
    """One helper of a running guest, supervised."""

    def __init__(self, host: HelperHost, tasks: Tasks, record: HelperRecord, budget: Budget | None = None) -> None:
        self.record = record
        self.process: Process | None = None
        self.stream = Stream.UP
        self._host = host
        self._tasks = tasks
        self._budget = budget or Budget()
        self._losses: deque[float] = deque()
        self._begun = 0.0
        self._announce = False
        self._busy = False
        self._kept: FdTable | None = None
        self._anchors: dict[Dial, int] = {}
        """QEMU's sockets, by which they are found when their names have vanished."""
        self._over = False
        """Its interface is no more."""

    @property
    def alias(self) -> str:
        """The interface's alias."""
        return self.record.alias

    @property
    def condition(self) -> str:
        """One word or sentence for people."""
        if self.record.gave_up:
            return "gave up"
        if self.process is None:
            return "restarting" if self._busy or self.stream is Stream.DOWN else "waiting for the guest"
        return "running"

    def keep(self, kept: FdTable | None) -> None:
        """Descriptors that its successors will need; closed with the helper."""
        if self._kept is not None:
            self._kept.close()
        self._kept = kept
        self.record = replace(self.record, inodes=inodes_of(self.record.plan, kept))

    def regain(self, qemu: int) -> None:
        """Have again what the last daemon kept: from the process, or from QEMU, whose pid is *qemu*."""
        plan = self.record.plan
        if plan.on_loss is OnLoss.REUSE:
            holders = (*((self.process.pid,) if self.process is not None else ()), qemu)
            self._kept = regain(plan.fds, self.record.inodes, holders)

    def own(self, process: Process) -> None:
        """Watch *process* from now on: it was started (or adopted) for this helper."""
        self.process = process
        self._begun = asyncio.get_running_loop().time()
        self.record = replace(self.record, identity=process.identity)
        for source in self.record.plan.fds:
            if isinstance(source, Dial) and source not in self._anchors and (fd := anchor(source.path)) is not None:
                self._anchors[source] = fd
        process.on_exit(lambda status: self._on_exit(process, status))

    # The three things that can happen, each a plain function: what must wait is a task of the guest's.

    def _on_exit(self, process: Process, status: ExitStatus | None) -> None:
        if self.process is not process:
            return
        self.process = None
        self.record = replace(self.record, identity=None)
        if self._host.stopping or self._over:
            return
        if self.record.plan.on_loss is OnLoss.REUSE:
            if status is not None and status.code == 0:
                return  # It has seen QEMU end, which we are about to hear of.
            self.stream = Stream.DOWN  # Nobody else will say so: the socket has no end of file.
        self._count_loss()
        waits = "" if self.stream is Stream.DOWN else "; waiting for the guest to notice"
        self._tell("lost", f"{self.record.plan.name} of {self.alias} ended with {status or 'an unknown status'}{waits}")
        if self.stream is Stream.DOWN:
            self._begin()

    def on_disconnected(self) -> None:
        """QEMU has closed its end of the stream."""
        if self.stream is Stream.DIALLED:
            return  # The former stream's end, seen late: our dial is next in QEMU's backlog.
        self.stream = Stream.DOWN
        if self._host.stopping or self.record.gave_up:
            return
        if self.process is None:
            self._begin()
        else:
            self._tasks.start(self._reap(self.process), f"end of {self.record.plan.name} of {self.alias}")

    def on_connected(self) -> None:
        """QEMU has accepted a connection."""
        self.stream = Stream.UP
        if self._announce and not self._host.stopping:
            self._announce = False
            self._tasks.start(self._say_address(), f"announcement of {self.alias}")

    async def _say_address(self) -> None:
        await self._host.execute("announce-self", ANNOUNCE)

    async def _reap(self, process: Process) -> None:
        """The stream has ended first: the process has nothing left to do and ends by itself, or is ended."""
        await process.terminate(LEAVE)

    # Restarting

    def _count_loss(self) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._begun >= self._budget.stable:
            self._losses.clear()
        self._losses.append(now)
        while self._losses and now - self._losses[0] > self._budget.window:
            self._losses.popleft()

    def _begin(self) -> None:
        if self._busy:
            return
        if self.record.plan.on_loss not in (OnLoss.RESTART, OnLoss.REUSE) or len(self._losses) > self._budget.restarts:
            self._tasks.start(self._give_up(), f"giving up {self.record.plan.name} of {self.alias}")
            return
        self._busy = True
        self._tasks.start(self._restart(), f"restart of {self.record.plan.name} of {self.alias}")

    def tell_lost(self) -> None:
        """It had ended before this daemon began."""
        self._tell("lost", f"{self.record.plan.name} of {self.alias} ended while no daemon watched")

    def revive(self) -> None:
        """Start a helper that is down and that nobody is about to start: one that died unseen, or was given up."""
        if self.process is not None or self._busy:
            return
        gave_up = self.record.gave_up
        self.record = replace(self.record, gave_up=False)
        self._losses.clear()
        self._busy = True
        self._tasks.start(self._restart(link_up=gave_up), f"restart of {self.record.plan.name} of {self.alias}")

    async def _restart(self, *, link_up: bool = False) -> None:
        before = listeners()
        try:
            with FdTable() as fds:
                self._connect(fds)
                point("helper.dialled")
                self.own(await run_helper(_again(self.record.plan), fds))
                point("helper.running")
        except SystemFailure as error:
            if not self._over:
                self._failed(error)
            return
        finally:
            self._busy = False
        if self._over:
            await self.end()
            return
        self.record = replace(self.record, restarts=self.record.restarts + 1)
        self._host.save()
        point("helper.written")
        if link_up:
            await self._host.execute("set_link", {"name": self.alias, "up": True})
        await self._confirm(before)

    def _connect(self, fds: FdTable) -> None:
        """Open in *fds* what the next process needs; raises :class:`SystemFailure`."""
        plan = self.record.plan
        if plan.on_loss is OnLoss.RESTART:
            self._announce, self.stream = True, Stream.DIALLED
            for dialled, fd in self._anchors.items():
                fds.put(dialled, dial(Path(f"/proc/self/fd/{fd}")).detach())
            fds.open(plan.fds)
            return
        if self._kept is None:
            raise SystemFailure(
                f"{self.alias}'s socket to QEMU went with the daemon that had it",
                hint="stop and start the guest; a kernel.yama.ptrace_scope of 0 lets the next daemon fetch it",
                errno=errno.ENOENT,
            )
        for source in plan.fds:
            fds.put(source, os.dup(self._kept[source]))
        self.stream = Stream.UP  # QEMU has never lost it.

    def _failed(self, error: SystemFailure) -> None:
        """It could not even be started; QEMU sees our dial end, and that is what triggers the next attempt."""
        self._begun = asyncio.get_running_loop().time()
        self._count_loss()
        self._tell("lost", f"{self.record.plan.name} of {self.alias} cannot be started: {error}")
        if self.record.plan.on_loss is OnLoss.REUSE:
            self._tasks.start(self._give_up(), f"giving up {self.record.plan.name} of {self.alias}")
        elif error.errno == errno.EAGAIN:
            log.info("%s: QEMU's backlog is full; its next event is awaited", self.alias)
        elif error.errno in (errno.ENOENT, errno.ECONNREFUSED):
            # The socket's file is gone, perhaps with the whole runtime directory: there is nothing to dial.
            self._tasks.start(self._give_up(), f"giving up {self.record.plan.name} of {self.alias}")

    async def _confirm(self, before: Listeners) -> None:
        """Say that the network is back, or which port is not."""
        process, plan = self.process, self.record.plan
        if process is None:
            return
        try:
            if plan.ready is Ready.PORTS_LISTEN:
                await wait_listening(process, plan.forwards, before)
        except VirletError as error:
            if process.running:
                self._tell("port-failed", f"{plan.name} of {self.alias} runs again, but {error}")
            return
        self._tell("restarted", f"{plan.name} of {self.alias} runs again (pid {process.pid})")

    async def _give_up(self) -> None:
        plan, budget = self.record.plan, self._budget
        self.record = replace(self.record, gave_up=True)
        self._host.save()
        why = f"it ended {len(self._losses)} times within {budget.window:g} s" if self._losses else "it ended"
        said = tail(plan.stderr.path, 400) if plan.stderr is not None else ""
        self._tell(
            "gave-up",
            f"{plan.name} of {self.alias} is not restarted: {why}, last saying: {said or 'nothing'}."
            " The guest's link is down. When the cause is gone, suspend and resume the guest: that tries again",
        )
        await self._host.execute("set_link", {"name": self.alias, "up": False})

    def _tell(self, kind: str, message: str) -> None:
        self._host.tell(self.alias, kind, message)

    async def end(self) -> None:
        """QEMU, or its interface, is gone: so is the helper, by itself or by SIGTERM; what it leaves is removed."""
        self._over = True
        process, self.process = self.process, None
        try:
            if process is not None:
                await process.terminate(LEAVE)
        finally:
            # Also when the daemon ends meanwhile: the next one ends the process.
            if process is not None:
                process.close()
            self._let_go()
        self._remove_leaves()

    def _remove_leaves(self) -> None:
        for path in self.record.plan.leaves:
            try:
                path.unlink(missing_ok=True)
            except OSError as error:
                log.warning("cannot remove %s: %s", path, error.strerror)

    def forget(self) -> None:
        """Stop watching; the process goes on for the next daemon."""
        if self.process is not None:
            self.process.close()
            self.process = None
        self._let_go()

    def _let_go(self) -> None:
        self.keep(None)
        while self._anchors:
            os.close(self._anchors.popitem()[1])
