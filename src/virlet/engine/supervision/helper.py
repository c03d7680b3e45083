"""A process beside QEMU, kept alive: a dead passt costs the guest a blink, not its network.

What is common to all of them: when another one is started and when it is given up, what is told, and what the status
file says meanwhile.  How it comes together with QEMU is its way's (:mod:`virlet.engine.supervision.reach`).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from dataclasses import replace
from shlex import quote
from typing import Any

from virlet.engine.fds import FdTable
from virlet.engine.status import HelperRecord
from virlet.engine.supervision.budget import Budget, Losses
from virlet.engine.supervision.following import Following
from virlet.engine.supervision.host import HelperHost
from virlet.engine.supervision.reach import LEAVE, EndLost, NoWay, Reach, wait_ready
from virlet.engine.supervision.reach_dial import DialReach
from virlet.engine.supervision.reach_door import DoorReach
from virlet.engine.supervision.reach_forked import ForkedReach
from virlet.engine.supervision.reach_pair import PairReach
from virlet.engine.tasks import Tasks
from virlet.errors import SystemFailure, VirletError
from virlet.fault import point
from virlet.plan.base import OnLoss
from virlet.plan.follow import Uplinks
from virlet.proc.process import ExitStatus, Process
from virlet.proc.sockets import Listeners
from virlet.qmp.monitor import QmpError

__all__ = ["Helper"]

log = logging.getLogger(__name__)

_WAYS: dict[OnLoss, type[Reach]] = {
    OnLoss.RESTART: DialReach,
    OnLoss.REUSE: PairReach,
    OnLoss.ACCEPT: DoorReach,
    OnLoss.QEMU: ForkedReach,
}


class Helper:
    """One helper of a running guest, supervised."""

    def __init__(self, host: HelperHost, tasks: Tasks, record: HelperRecord, budget: Budget | None = None) -> None:
        self.record = record
        self.process: Process | None = None
        self.over = False
        """Its interface is no more."""
        self._host = host
        self._tasks = tasks
        self._losses = Losses(budget or Budget())
        self._begun = 0.0
        self._busy = False
        self._attempt: asyncio.Task[None] | None = None
        """The last one to start it again."""
        self._asleep = False
        """It is started when the guest runs again."""
        self._untold = ""
        """Its loss, as long as it may as well be QEMU's end that it has seen."""
        self._told = False
        """It ended under us before QEMU was heard."""
        self.following = Following(self, host, tasks)
        if record.waits:
            self.record = replace(record, unplugged=True)
        self.anew: Callable[[str], None] | None = None
        """Plugs its interface in anew, where a helper cannot be brought to this one; is told why."""
        self._reach = _WAYS[record.plan.on_loss](self, host, tasks)

    @property
    def alias(self) -> str:
        """The interface's alias."""
        return self.record.alias

    @property
    def condition(self) -> str:
        """One word or sentence for people."""
        if self.given_up:
            return "gave up"
        if self.record.waits:
            return f"waits for {self.record.waits}"
        if self._asleep:
            return "waiting for the guest"
        if self.process is None:
            return "restarting" if self._busy or self._reach.open else "waiting for the guest"
        return "running"

    @property
    def given_up(self) -> bool:
        """Nobody starts it until somebody asks for that."""
        return self.record.gave_up and not self.record.reviving

    @property
    def why(self) -> str:
        """Why it was given up, and what to do about it; empty while it is not."""
        if not self.given_up:
            return ""
        return self.record.why or self._given_up("an older virletd has told its log why")

    @property
    def unlinked(self) -> bool:
        """The guest's cable is out on its account."""
        return self.record.gave_up or self.record.unplugged

    def keep(self, kept: FdTable | None) -> None:
        """Descriptors that its successors will need; closed with the helper."""
        self._reach.keep(kept)

    def regain(self, qemu: int) -> None:
        """Have again what the last daemon kept: from the process, or from QEMU, whose pid is *qemu*."""
        self._reach.regain(qemu)

    def own(self, process: Process) -> None:
        """Watch *process* from now on: it was started (or adopted) for this helper."""
        self.process = process
        self._begun = asyncio.get_running_loop().time()
        self.record = replace(self.record, identity=process.identity)
        self.following.note()
        self._reach.owned(process)
        process.on_exit(lambda status: self._on_exit(process, status))

    # The three things that can happen, each a plain function: what must wait is a task of the guest's.

    def _on_exit(self, process: Process, status: ExitStatus | None) -> None:
        if self.process is not process:
            return
        self.process = None
        self.record = replace(self.record, identity=None)
        if self._host.stopping or self.over:
            return
        if self.following.left(process):
            if self._reach.open:
                self._begin()
            return
        now = asyncio.get_running_loop().time()
        self._losses.ended(now, now - self._begun, status)
        sentence = f"{self.record.plan.name} of {self.alias} ended with {status or 'an unknown status'}"
        if self._reach.foreseen(status):
            self._untold = sentence
            return
        self._tell("lost", sentence if self._reach.open else f"{sentence}; waiting for the guest to notice")
        if self._reach.open:
            self._begin()

    def on_disconnected(self) -> None:
        """QEMU has closed its end of the stream."""
        if not self._reach.disconnected():
            return
        if self._host.stopping or self.over or self.given_up:
            return
        if self.process is None:
            if self._untold:
                self._tell("lost", self._untold)
                self._untold = ""
            self._begin()
        else:
            self._tasks.start(self._reap(self.process), f"end of {self.record.plan.name} of {self.alias}")

    def on_connected(self) -> None:
        """QEMU has accepted a connection, or its own was answered."""
        self._reach.connected()

    def on_resumed(self) -> None:
        """The guest runs again."""
        if self._asleep:
            self._asleep = False
            self._begin()

    async def _reap(self, process: Process) -> None:
        """The stream has ended first: the process has nothing left to do and ends by itself, or is ended.

        Unless QEMU has said that of a stream before its own, which a daemon before us had dialled and left.
        """
        if not await process.ended_within(LEAVE) and self._reach.open:
            await process.terminate(LEAVE)

    # Restarting

    def _begin(self, least: float = 0.0) -> None:
        """Try again, in *least* seconds or whatever more the budget says; or give up."""
        if self._busy:
            return
        if self._host.unheard:
            self._told = True
            return
        if self.following.lacks_route:
            self.following.wait()
            return
        if self._losses.exhausted:
            losses = f"it ended {len(self._losses)} times within {self._losses.budget.window:g} s"
            why = f"{losses}, last saying: {self._reach.last_words() or 'nothing'}"
            self._tasks.start(self.give_up(why), f"giving up {self.record.plan.name} of {self.alias}")
            return
        self._busy = True
        self._try(self._later(max(least, self._losses.pause)))

    def _try(self, attempt: Coroutine[Any, Any, None]) -> None:
        self._attempt = self._tasks.start(attempt, f"restart of {self.record.plan.name} of {self.alias}")

    async def _later(self, pause: float) -> None:
        """Try again after *pause* seconds: no event tells that what is wrong with the host, or the program, is over."""
        if pause:
            await asyncio.sleep(pause)
            if not self._reach.open:
                self._busy = False
                return  # QEMU has not seen the end of our last dial yet, and will tell when it has.
        if not self.over:
            await self._restart()

    def on_heard(self) -> None:
        """QEMU, which was taken over, is heard from now on: what has ended comes again."""
        if self.process is not None:
            self._reach.heard()
        elif self.idle and not self.given_up:
            if not (self._told or self.record.waits or self.record.reviving):
                self._tell("lost", f"{self.record.plan.name} of {self.alias} ended while no daemon watched")
            self.revive()

    def revive(self) -> None:
        """Start a helper that is down and that nobody is about to start: one that died unseen, or was given up."""
        if self._busy or self.over:
            return
        if self.process is not None:
            if self._attempt is None or self._attempt.done():
                self._tasks.start(self.came_back(), f"link of {self.alias}")
            return
        if self.following.lacks_route:
            self.following.wait()
            return
        self.record = replace(self.record, waits="")
        self._losses.clear()
        if self.given_up:
            # Its link stays down until it serves, and the next daemon goes on with it if we die before.
            self.record = replace(self.record, reviving=True)
            self._host.save()
        self._busy = True
        self._try(self._restart())

    # Following the host's network

    @property
    def idle(self) -> bool:
        """Nothing is being done with it, and something may be."""
        return not self._busy and not self.over

    def tell_waits(self) -> None:
        """Say so, if it waits for something."""
        self.following.tell_waits()

    def follow(self, uplinks: Uplinks) -> None:
        """The host's network has changed to *uplinks*."""
        self.following.follow(uplinks)

    async def _restart(self) -> None:
        if self._reach.sleeps:
            self._asleep, self._busy = True, False
            return
        try:
            before = self._reach.listeners()
            process = await self._reach.successor()
            if process is None:
                return
            self.own(process)
            point("helper.running")
        except (SystemFailure, OSError) as error:
            self._busy = False
            if not self.over:
                self._failed(error if isinstance(error, SystemFailure) else SystemFailure.of(error, "it was prepared"))
            return
        finally:
            self._busy = False
        self.record = replace(self.record, restarts=self.record.restarts + 1)
        self._host.save()
        if self.process is not None:
            self._host.joined(self.process)
        point("helper.written")
        process.proceed()
        point("helper.proceeding")
        await self._confirm(before)

    async def came_back(self) -> None:
        """A process of it runs, whether or not whoever started it came to say so: its cable goes in."""
        self.record = replace(self.record, reviving=self.record.gave_up)
        await self.raise_link()

    async def raise_link(self) -> None:
        """Put the cable in again that we took out, unless the user has pulled it meanwhile.

        It is on record that it is out before it goes out, and until it has come in.  In memory, both happen at once:
        who takes it out while QEMU is still about to answer has the last word.
        """
        if not self.record.reviving and not self.record.unplugged:
            return
        before = self.record
        self.record = replace(before, gave_up=False, why="", reviving=False, unplugged=False)
        try:
            if self._host.link_wanted(self.alias):
                await self._host.execute("set_link", {"name": self.alias, "up": True})
        except BaseException:
            unplugged = before.unplugged or self.record.unplugged
            self.record = replace(self.record, gave_up=before.gave_up, why=before.why, unplugged=unplugged)
            raise
        finally:
            self._host.save()

    def _failed(self, error: SystemFailure) -> None:
        """It could not even be started: try again in a while, without end where the host is merely out of something."""
        plan = self.record.plan
        again = self._losses.not_started(asyncio.get_running_loop().time(), error.errno)
        sentence = f"{plan.name} of {self.alias} cannot be started: {error}"
        if again:
            log.warning("%s", sentence)
        else:
            self._tell("lost", sentence)
        if isinstance(error, EndLost) and self.anew is not None:
            self.anew(str(error))
        elif isinstance(error, NoWay):
            self._tasks.start(self.give_up(str(error)), f"giving up {plan.name} of {self.alias}")
        else:
            self._begin(self._losses.budget.pause)  # Where we had dialled, QEMU has that to see the end of first.

    async def _confirm(self, before: Listeners) -> None:
        """Say that the network is back, or which port is not."""
        process, plan = self.process, self.record.plan
        if process is None:
            return
        await self._reach.greet()
        try:
            await wait_ready(plan, process, before)
        except VirletError as error:
            if process.running:
                await self.raise_link()
                self.following.give_up()
                self._tell("port-failed", f"{plan.name} of {self.alias} runs again, but {error}")
            return
        if not process.running:
            return  # Its end tells more.
        await self.raise_link()
        await self._reach.serving(process)
        if not self.following.arrived(process):
            self._tell("restarted", f"{plan.name} of {self.alias} runs again (pid {process.pid})")

    async def give_up(self, why: str) -> None:
        """Restart it no more until somebody asks for it; its guest's cable is out meanwhile."""
        sentence = self._given_up(why)
        self.following.give_up()
        self.record = replace(self.record, gave_up=True, why=sentence, reviving=False)
        self._host.save()
        self._tell("gave-up", sentence)
        try:
            await self._host.execute("set_link", {"name": self.alias, "up": False})
        except QmpError as error:
            log.debug("%s: %s", self.alias, error)  # The guest has just given the card back.

    def _given_up(self, why: str) -> str:
        return (
            f"{self.record.plan.name} of {self.alias} is not restarted: {why}."
            f" The guest's link is down; when the cause is gone: virlet link {quote(self._host.name)} {self.alias} up"
        )

    def _tell(self, kind: str, message: str) -> None:
        self._host.tell(self.alias, kind, message)

    async def end(self) -> None:
        """QEMU, or its interface, is gone: so is the helper, by itself or by SIGTERM; what it leaves is removed."""
        self.over = True
        self._reach.cancel()
        try:
            await self._abort()
            process, self.process = self.process, None
            await self._reach.end(process)
        finally:
            self._reach.close()
        self._remove_leaves()

    async def _abort(self) -> None:
        """Whoever is starting it again is not left to come later, with a process that nobody expects any more."""
        attempt = self._attempt
        if attempt is not None and attempt is not asyncio.current_task() and not attempt.done():
            attempt.cancel()
            await asyncio.wait({attempt})

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
        self._reach.close()
