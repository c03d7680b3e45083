"""How a helper and QEMU come together, and how each of them learns that the other has gone.

That differs by backend (:class:`virlet.plan.base.OnLoss`), and nothing else of a helper's supervision does: whoever
supervises (:mod:`virlet.engine.supervision.helper`) says what has happened and asks for a successor.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Protocol

from virlet.engine.fds import FdTable
from virlet.engine.status import HelperRecord
from virlet.engine.supervision.following import Following
from virlet.engine.supervision.host import HelperHost
from virlet.engine.tasks import Tasks
from virlet.errors import SystemFailure
from virlet.fault import point
from virlet.plan.base import HelperPlan, OnLoss, Ready, render
from virlet.proc.logfile import tail
from virlet.proc.ports import ranges, wait_listening
from virlet.proc.process import ExitStatus, Process
from virlet.proc.settled import settled
from virlet.proc.sockets import Listeners, listeners
from virlet.proc.spawn import Command, spawn

__all__ = ["ANNOUNCE", "LEAVE", "EndLost", "NoWay", "Reach", "Reached", "run_helper", "wait_ready"]

ANNOUNCE: Mapping[str, object] = {"initial": 5, "max": 50, "rounds": 3, "step": 10}
"""Arguments of ``announce-self``, in milliseconds: with them traffic was back after 32 to 55 ms."""
LEAVE = 1.0
"""Seconds that a helper has to end by itself when QEMU has closed the stream."""
_WORDS = 400
"""Bytes of its log that are told as its last words."""


class NoWay(SystemFailure):
    """QEMU cannot be reached, and no later attempt will change that."""


class EndLost(NoWay):
    """QEMU's backend cannot be reached by anybody any more; another one, behind another card, can."""


class Reached(Protocol):
    """The helper, as far as its way to QEMU has to do with it."""

    record: HelperRecord
    process: Process | None

    @property
    def over(self) -> bool:
        """Its interface is no more."""
        ...

    @property
    def following(self) -> Following: ...

    async def raise_link(self) -> None:
        """Put the guest's cable in again that we took out."""
        ...


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


async def wait_ready(plan: HelperPlan, process: Process, before: Listeners) -> None:
    """Wait until *process*, which was let proceed, does its work as *plan* says, or has ended.

    Raises :class:`OperationFailed` and :class:`BadConfig` for ports that it does not get.
    """
    # QEMU stands still with one that it has dialled and that has ended, guest and all.
    if plan.ready is Ready.CONFINED or plan.on_loss is OnLoss.ACCEPT:
        await settled(process)
    if plan.ready is Ready.PORTS_LISTEN:
        await wait_listening(process, plan.forwards, before)


def _again(record: HelperRecord) -> HelperPlan:
    """The plan for another process of it: what the last one said before its end stays in the log."""
    plan = replace(record.plan, argv=(*record.plan.argv, *record.pins))
    return plan if plan.stderr is None else replace(plan, stderr=replace(plan.stderr, truncate=False))


class Reach:
    """What holds for every way; the ways are its subclasses."""

    def __init__(self, helper: Reached, host: HelperHost, tasks: Tasks) -> None:
        self._helper = helper
        self._host = host
        self._tasks = tasks

    @property
    def _record(self) -> HelperRecord:
        return self._helper.record

    # What has happened

    def keep(self, kept: FdTable | None) -> None:
        """Descriptors that its successors will need, ours from now on."""

    def regain(self, qemu: int) -> None:
        """The last daemon has left it so: have again what that kept; *qemu* is QEMU's pid."""

    def owned(self, process: Process) -> None:
        """*process* does its work from now on."""

    def foreseen(self, status: ExitStatus | None) -> bool:
        """Whether a process that ended so may only have seen QEMU end, which we are about to hear of.

        Where QEMU lives, it says that it is disconnected; unless that tells of a loss, there is none.
        """
        return False

    def disconnected(self) -> bool:
        """QEMU says that its helper has gone; returns whether that is said of the present one."""
        return True

    def connected(self) -> None:
        """QEMU says that it is connected."""

    def heard(self) -> None:
        """QEMU is heard from now on, and a process that another daemon has started runs."""

    # What can be done

    @property
    def open(self) -> bool:
        """A successor can be brought to QEMU now; otherwise an event of QEMU's says when."""
        return True

    @property
    def sleeps(self) -> bool:
        """A successor has to wait until the guest runs."""
        return False

    def listeners(self) -> Listeners:
        """Who has its ports before there is a successor: whoever has them then is a stranger."""
        return listeners(ranges(self._record.plan.forwards))

    async def connect(self, fds: FdTable) -> bool:
        """Open in *fds* what the next process needs; False when an event will tell that it is time.

        Raises :class:`SystemFailure`, and :class:`NoWay` where trying again is of no use.
        """
        raise NotImplementedError

    async def successor(self) -> Process | None:
        """Another process of the same plan, held; None when an event will tell that it is time.

        Raises :class:`SystemFailure`.
        """
        self._helper.following.pin()
        with FdTable() as fds:
            if not await self.connect(fds):
                return None
            point("helper.dialled")
            return await run_helper(_again(self._record), fds)

    async def greet(self) -> None:
        """A successor runs: tell it what it has to know."""

    async def serving(self, process: Process) -> None:
        """*process*, a successor, has its ports, and the guest its cable."""

    def last_words(self) -> str:
        """The end of what it has written."""
        plan = self._record.plan
        return tail(plan.stderr.path, _WORDS) if plan.stderr is not None else ""

    # The end

    def cancel(self) -> None:
        """Nobody is to be waited for any more."""

    async def end(self, process: Process | None) -> None:
        """QEMU, or its interface, is gone: so is the helper, by itself or by SIGTERM."""
        if process is None:
            return
        try:
            await process.terminate(LEAVE)
        finally:
            process.close()  # Also when the daemon ends meanwhile: the next one ends the process.

    def close(self) -> None:
        """Close what is kept for successors."""
