"""A process beside QEMU, kept alive: a dead passt costs the guest a blink, not its network.

QEMU has the listening end of the stream, so after a loss there is only one thing to do: dial QEMU, hand the connection
to a new process of the same plan, and have QEMU say the guest's address aloud, because an old passt does not learn it
from a quiet guest.  Two witnesses tell of a loss, the process's pidfd and QEMU's NETDEV_STREAM_DISCONNECTED, and both
are waited for: while a frame waits for a NIC that cannot receive, QEMU does not read the end of the stream, its
backlog holds one connection, and a second dial would be lost in it (QEMU 7.2 to 11.1).

Over vhost-user it is QEMU that dials (:data:`OnLoss.ACCEPT`).  passt does not learn the guest's address from QEMU then;
the guest itself speaks when it sees its link come back, so a paused one, which would not see that it was gone, is given
its passt when it runs again.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from pathlib import Path
from shlex import quote

from virlet.engine.budget import Budget, Losses
from virlet.engine.coax import coax
from virlet.engine.door import Door
from virlet.engine.fds import FdTable, anchor, dial
from virlet.engine.following import Following
from virlet.engine.helper_host import HelperHost
from virlet.engine.keep import inodes_of, regain
from virlet.engine.status import HelperRecord
from virlet.engine.tasks import Tasks
from virlet.errors import SystemFailure, VirletError
from virlet.fault import point
from virlet.plan.base import Accept, Dial, HelperPlan, OnLoss, Ready, render
from virlet.plan.follow import Uplinks
from virlet.proc.logfile import tail
from virlet.proc.ports import wait_listening
from virlet.proc.process import ExitStatus, Process
from virlet.proc.sockets import Listeners, listeners
from virlet.proc.spawn import Command, spawn

__all__ = ["ANNOUNCE", "Helper", "run_helper"]

log = logging.getLogger(__name__)

ANNOUNCE: Mapping[str, object] = {"initial": 5, "max": 50, "rounds": 3, "step": 10}
"""Arguments of ``announce-self``, in milliseconds: with them traffic was back after 32 to 55 ms."""
LEAVE = 1.0
"""Seconds that a helper has to end by itself when QEMU has closed the stream."""


class _NoWay(SystemFailure):
    """QEMU cannot be reached, and no later attempt will change that."""


class Stream(Enum):
    """The connection between QEMU and the helper, as far as QEMU has said."""

    UP = "connected"
    UNSEEN = "as the last daemon left it"
    DOWN = "down"
    DIALLED = "dialled, not accepted yet"


async def run_helper(plan: HelperPlan, fds: FdTable) -> Process:
    """Start the process of *plan* on descriptors that *fds* has opened; raises :class:`SystemFailure`.

    It is held: write its identity down, then let it :meth:`~virlet.proc.process.Process.proceed`.
    """
    if plan.stderr is not None:
        fds.open_log(plan.stderr)
    argv = tuple(render(plan.argv, fds.__getitem__))
    stderr = fds[plan.stderr] if plan.stderr is not None else -3
    inherited = tuple(fds[source] for source in plan.fds)
    return await spawn(Command(argv, inherited, stdout=stderr, stderr=stderr, held=True), plan.name)


def _size(plan: HelperPlan) -> int:
    """Bytes of its log; 0 for none."""
    try:
        return plan.stderr.path.stat().st_size if plan.stderr is not None else 0
    except OSError:
        return 0


def _again(record: HelperRecord) -> HelperPlan:
    """The plan for another process of it: what the last one said before its end stays in the log."""
    plan = replace(record.plan, argv=(*record.plan.argv, *record.pins))
    return plan if plan.stderr is None else replace(plan, stderr=replace(plan.stderr, truncate=False))


class Helper:
    """One helper of a running guest, supervised."""

    def __init__(self, host: HelperHost, tasks: Tasks, record: HelperRecord, budget: Budget | None = None) -> None:
        self.record = record
        self.process: Process | None = None
        self.stream = Stream.DOWN if record.waits else Stream.UP
        self._host = host
        self._tasks = tasks
        self._losses = Losses(budget or Budget())
        self._begun = 0.0
        self._reviving = False
        """It was given up, and is tried once more."""
        self._announce = False
        self._busy = False
        self._kept: FdTable | None = None
        self._anchors: dict[Dial, int] = {}
        """QEMU's sockets, by which they are found when their names have vanished."""
        self._door: Door | None = None
        """Where QEMU is awaited, while it is."""
        self._spoken = 0
        """Size of its log when the present process began to write there."""
        self._asleep = False
        """It is started when the guest runs again."""
        self._over = False
        """Its interface is no more."""
        self._following = Following(self, host, tasks)
        if record.waits:
            self.record = replace(record, unplugged=True)
            self._anchor()

    @property
    def alias(self) -> str:
        """The interface's alias."""
        return self.record.alias

    @property
    def condition(self) -> str:
        """One word or sentence for people."""
        if self.record.gave_up and not self._reviving:
            return "gave up"
        if self.record.waits:
            return f"waits for {self.record.waits}"
        if self._asleep:
            return "waiting for the guest"
        if self.process is None:
            return "restarting" if self._busy or self._may_dial else "waiting for the guest"
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
        if plan.on_loss is OnLoss.RESTART and self.process is not None:
            self.stream = Stream.UNSEEN  # It may have ended while nobody listened to QEMU, its pidfd not saying so yet.
        elif plan.on_loss is OnLoss.REUSE:
            holders = (*((self.process.pid,) if self.process is not None else ()), qemu)
            self._kept = regain(plan.fds, self.record.inodes, holders)
        elif plan.on_loss is OnLoss.ACCEPT and self.record.unplugged and self.process is not None:
            self._tasks.start(self.raise_link(), f"link of {self.alias}")  # The last daemon ended in between.

    def own(self, process: Process) -> None:
        """Watch *process* from now on: it was started (or adopted) for this helper."""
        self.process = process
        self._begun = asyncio.get_running_loop().time()
        self.record = replace(self.record, identity=process.identity)
        self._following.note()
        self._anchor()
        process.on_exit(lambda status: self._on_exit(process, status))

    def _anchor(self) -> None:
        for source in self.record.plan.fds:
            if isinstance(source, Dial) and source not in self._anchors and (fd := anchor(source.path)) is not None:
                self._anchors[source] = fd

    # The three things that can happen, each a plain function: what must wait is a task of the guest's.

    def _on_exit(self, process: Process, status: ExitStatus | None) -> None:
        if self.process is not process:
            return
        self.process = None
        self.record = replace(self.record, identity=None)
        if self._host.stopping or self._over:
            return
        if self.record.plan.on_loss is OnLoss.REUSE and status is not None and status.code == 0:
            return  # It has seen QEMU end, which we are about to hear of.
        if self.record.plan.on_loss is not OnLoss.RESTART:
            self.stream = Stream.DOWN  # Nobody else will say so: the pair has no end of file, and QEMU dials by itself.
        if self._following.left(process):
            if self._may_dial:
                self._begin()
            return
        now = asyncio.get_running_loop().time()
        self._losses.ended(now, now - self._begun, status)
        waits = "" if self._may_dial else "; waiting for the guest to notice"
        self._tell("lost", f"{self.record.plan.name} of {self.alias} ended with {status or 'an unknown status'}{waits}")
        if self._may_dial:
            self._begin()

    @property
    def _may_dial(self) -> bool:
        return self.stream in (Stream.DOWN, Stream.UNSEEN)

    def on_disconnected(self) -> None:
        """QEMU has closed its end of the stream."""
        if self.stream is Stream.DIALLED:
            return  # The former stream's end, seen late: our dial is next in QEMU's backlog.
        self.stream = Stream.DOWN
        if self._host.stopping or (self.record.gave_up and not self._reviving):
            return
        if self.process is None:
            self._begin()
        else:
            self._tasks.start(self._reap(self.process), f"end of {self.record.plan.name} of {self.alias}")

    def on_connected(self) -> None:
        """QEMU has accepted a connection, or its own was answered."""
        self.stream = Stream.UP
        if self.record.plan.on_loss is OnLoss.ACCEPT and not self._host.link_wanted(self.alias):
            # QEMU has taken the link of a back end that is there again up.
            self._tasks.start(self._link_down(), f"link of {self.alias}")
        if self._announce and not self._host.stopping:
            self._announce = False
            self._tasks.start(self._say_address(), f"announcement of {self.alias}")

    def on_resumed(self) -> None:
        """The guest runs again."""
        if self._asleep:
            self._asleep = False
            self._begin()

    async def _link_down(self) -> None:
        await self._host.execute("set_link", {"name": self.alias, "up": False})

    async def _say_address(self) -> None:
        await self._host.execute("announce-self", ANNOUNCE)

    async def _reap(self, process: Process) -> None:
        """The stream has ended first: the process has nothing left to do and ends by itself, or is ended."""
        await process.terminate(LEAVE)

    # Restarting

    def _begin(self, least: float = 0.0) -> None:
        """Try again, in *least* seconds or whatever more the budget says; or give up."""
        if self._busy:
            return
        if self._following.lacks_route:
            self._following.wait()
            return
        if self._losses.exhausted:
            self._tasks.start(self._give_up(), f"giving up {self.record.plan.name} of {self.alias}")
            return
        self._busy = True
        pause = max(least, self._losses.pause)
        self._tasks.start(self._later(pause), f"restart of {self.record.plan.name} of {self.alias}")

    async def _later(self, pause: float) -> None:
        """Try again after *pause* seconds: no event tells that what is wrong with the host, or the program, is over."""
        if pause:
            await asyncio.sleep(pause)
            if self.record.plan.on_loss is OnLoss.RESTART and not self._may_dial:
                self._busy = False
                return  # QEMU has not seen the end of our last dial yet, and will tell when it has.
        if not self._over:
            await self._restart()

    def tell_lost(self) -> None:
        """It had ended before this daemon began."""
        if self.record.waits:
            return
        self._tell("lost", f"{self.record.plan.name} of {self.alias} ended while no daemon watched")

    def revive(self) -> None:
        """Start a helper that is down and that nobody is about to start: one that died unseen, or was given up."""
        if self.process is not None or self._busy:
            return
        if self._following.lacks_route:
            self._following.wait()
            return
        self.record = replace(self.record, waits="")
        self._losses.clear()
        # Of the record only when it has come true: a daemon that dies meanwhile leaves a link that is down.
        self._reviving = self.record.gave_up
        self._busy = True
        self._tasks.start(self._restart(), f"restart of {self.record.plan.name} of {self.alias}")

    # Following the host's network

    @property
    def idle(self) -> bool:
        """Nothing is being done with it, and something may be."""
        return not self._busy and not self._over

    def tell_waits(self) -> None:
        """Say so, if it waits for something."""
        self._following.tell_waits()

    def follow(self, uplinks: Uplinks) -> None:
        """The host's network has changed to *uplinks*."""
        self._following.follow(uplinks)

    async def _restart(self) -> None:
        if self.record.plan.on_loss is OnLoss.ACCEPT and self._host.paused:
            self._asleep, self._busy = True, False
            return
        try:
            before = listeners()
            process = await self._successor()
            if process is None:
                return
            self.own(process)
            point("helper.running")
        except (SystemFailure, OSError) as error:
            self._busy = False
            if not self._over:
                self._failed(error if isinstance(error, SystemFailure) else SystemFailure.of(error, "it was prepared"))
            return
        finally:
            self._busy = False
        if self._over:
            await self.end()
            return
        self.record = replace(self.record, restarts=self.record.restarts + 1)
        self._host.save()
        if self.process is not None:
            self._host.joined(self.process)
        point("helper.written")
        process.proceed()
        await self._confirm(before)

    async def _successor(self) -> Process | None:
        """Another process of the same plan; None when something else will say that it is time.

        Raises :class:`SystemFailure`.
        """
        self._following.pin()
        with FdTable() as fds:
            if not await self._connect(fds):
                return None
            point("helper.dialled")
            self._spoken = _size(self.record.plan)
            return await run_helper(_again(self.record), fds)

    async def raise_link(self) -> None:
        """Put the cable in again that we took out, unless the user has pulled it meanwhile."""
        if not self._reviving and not self.record.unplugged:
            return
        if self._host.link_wanted(self.alias):
            await self._host.execute("set_link", {"name": self.alias, "up": True})
        self._reviving = False
        self.record = replace(self.record, gave_up=False, unplugged=False)
        self._host.save()

    async def _connect(self, fds: FdTable) -> bool:
        """Open in *fds* what the next process needs; False when QEMU's backlog still holds our last dial.

        Raises :class:`SystemFailure`.
        """
        plan = self.record.plan
        if plan.on_loss is OnLoss.RESTART:
            return self._dial(plan, fds)
        if plan.on_loss is OnLoss.ACCEPT:
            return await self._let_in(plan, fds)
        if self._kept is None:
            raise _NoWay(
                f"{self.alias}'s socket to QEMU went with the daemon that had it",
                hint="stop and start the guest; a kernel.yama.ptrace_scope of 0 lets the next daemon fetch it",
                errno=errno.ENOENT,
            )
        for source in plan.fds:
            fds.put(source, os.dup(self._kept[source]))
        self.stream = Stream.UP  # QEMU has never lost it.
        return True

    def _dial(self, plan: HelperPlan, fds: FdTable) -> bool:
        try:
            for dialled, fd in self._anchors.items():
                fds.put(dialled, dial(Path(f"/proc/self/fd/{fd}")).detach())
            fds.open(plan.fds)
        except SystemFailure as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                # The socket's file is gone, perhaps with the whole runtime directory: there is nothing to dial.
                raise _NoWay(error.detail, hint=error.hint, errno=error.errno) from error
            if error.errno != errno.EAGAIN:
                raise
            log.info("%s: QEMU's backlog is full; its next event is awaited", self.alias)
            self.stream = Stream.DIALLED
            return False
        self._announce, self.stream = True, Stream.DIALLED
        return True

    async def _let_in(self, plan: HelperPlan, fds: FdTable) -> bool:
        """Wait for QEMU, which dials every few milliseconds; False when its interface went away meanwhile."""
        for source in (each for each in plan.fds if isinstance(each, Accept)):
            with Door(source.path) as self._door:
                peer = await self._door.accept()
            if peer is None:
                return False
            fds.put(source, peer.detach())
        return True

    def _failed(self, error: SystemFailure) -> None:
        """It could not even be started: try again in a while, without end where the host is merely out of something."""
        plan = self.record.plan
        again = self._losses.not_started(asyncio.get_running_loop().time(), error.errno)
        sentence = f"{plan.name} of {self.alias} cannot be started: {error}"
        if again:
            log.warning("%s", sentence)
        else:
            self._tell("lost", sentence)
        if isinstance(error, _NoWay):
            self._tasks.start(self._give_up(), f"giving up {plan.name} of {self.alias}")
        else:
            self._begin(self._losses.budget.pause)  # Where we had dialled, QEMU has that to see the end of first.

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
                await self.raise_link()
                self._following.give_up()
                self._tell("port-failed", f"{plan.name} of {self.alias} runs again, but {error}")
            return
        await self.raise_link()
        if plan.on_loss is OnLoss.ACCEPT and plan.stderr is not None:
            self._tasks.start(self._coax(process, plan.stderr.path), f"first word of the guest on {self.alias}")
        if not self._following.arrived(process):
            self._tell("restarted", f"{plan.name} of {self.alias} runs again (pid {process.pid})")

    async def _coax(self, process: Process, log_path: Path) -> None:
        def going() -> bool:
            there = self.process is process and not self._over and not self._host.stopping
            return there and not self._host.paused and self._host.link_wanted(self.alias)

        if not await coax(log_path, self._spoken, self._bounce, going) and going():
            log.info("%s: the guest has not spoken yet; until it does, nobody can connect to it", self.alias)

    async def _bounce(self, seconds: float) -> None:
        """Take the cable out for so long."""
        self.record = replace(self.record, unplugged=True)
        self._host.save()
        await self._link_down()
        await asyncio.sleep(seconds)
        if not self._over and not self._host.stopping:
            await self.raise_link()

    async def _give_up(self) -> None:
        plan, losses = self.record.plan, self._losses
        self._following.give_up()
        self.record, self._reviving = replace(self.record, gave_up=True), False
        self._host.save()
        why = f"it ended {len(losses)} times within {losses.budget.window:g} s" if losses else "it ended"
        said = self._last_words()
        self._tell(
            "gave-up",
            f"{plan.name} of {self.alias} is not restarted: {why}, last saying: {said or 'nothing'}."
            f" The guest's link is down; when the cause is gone: virlet link {quote(self._host.name)} {self.alias} up",
        )
        await self._host.execute("set_link", {"name": self.alias, "up": False})

    def _last_words(self) -> str:
        """The end of what it has written."""
        plan = self.record.plan
        return tail(plan.stderr.path, 400) if plan.stderr is not None else ""

    def _tell(self, kind: str, message: str) -> None:
        self._host.tell(self.alias, kind, message)

    async def end(self) -> None:
        """QEMU, or its interface, is gone: so is the helper, by itself or by SIGTERM; what it leaves is removed."""
        self._over = True
        if self._door is not None:
            self._door.close()
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
