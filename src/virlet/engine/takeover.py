"""A guest that runs on without its daemon becomes the guest of the next one, which does what nobody was there to do.

It is ours before its QEMU is asked anything: one that does not answer is shown, its end is noticed and it can be
destroyed; the rest is done when it answers again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from functools import partial
from typing import TypeVar

from virlet.engine.belongings import own_monitor, remove_files
from virlet.engine.context import Context
from virlet.engine.crash import after_crash, began_again, restart
from virlet.engine.ending import LAST_WORDS, end_qemu
from virlet.engine.guest import Guest, Run
from virlet.engine.inbox import Inbox, hear, watch_end
from virlet.engine.settle import settle_interfaces
from virlet.engine.status import HelperRecord, Phase, Record
from virlet.engine.supervision.anew import regain, resume
from virlet.engine.supervision.helper import Helper
from virlet.engine.taps import leave
from virlet.enums import CrashedReason, DomainState, PausedReason, RunningReason
from virlet.errors import NoDomain, OperationFailed, OperationTimeout, ResourceBusy, VirletError
from virlet.fault import point
from virlet.model.domain import Domain, parse_domain
from virlet.model.lifecycle import TABLE, Action, is_active
from virlet.model.machine import PowerAction
from virlet.proc.process import Process
from virlet.qmp.monitor import Monitor, MonitorClosed, QmpError

__all__ = ["Taken", "ending_of", "failed", "live_of", "take_over", "tell_silent"]

log = logging.getLogger(__name__)

T = TypeVar("T")

AGAIN = 1.0
"""Seconds between attempts to connect to a monitor whose backlog is full."""
TRIES = 3
"""Connections that a QEMU which runs on may end before it has agreed to talk; after each it has LAST_WORDS to end."""

_STATES: dict[str, tuple[DomainState, int]] = {
    "running": (DomainState.RUNNING, RunningReason.UNKNOWN),
    "paused": (DomainState.PAUSED, PausedReason.UNKNOWN),
    "prelaunch": (DomainState.PAUSED, PausedReason.UNKNOWN),
    "io-error": (DomainState.PAUSED, PausedReason.IOERROR),
    "watchdog": (DomainState.PAUSED, PausedReason.WATCHDOG),
    "suspended": (DomainState.PMSUSPENDED, 0),
    "guest-panicked": (DomainState.CRASHED, CrashedReason.PANICKED),
    "shutdown": (DomainState.SHUTDOWN, 0),
}
"""QEMU's ``RunState`` → ours."""

_HALTED = frozenset({"shutdown", "guest-panicked", "paused", "prelaunch"})
"""Those of a guest that is not let run on after its reset; ``prelaunch`` is what follows a reset of the first two."""
_MISSED = {DomainState.SHUTDOWN: Action.GUEST_POWEROFF, DomainState.CRASHED: Action.GUEST_PANIC}
"""What must have happened to a guest that is in that state now, and is told belatedly."""


Taken = tuple[tuple[Guest, asyncio.Task[None]], ...]
"""A guest that runs, and the task that takes it over; or nothing."""


def failed(context: Context, record: Record, process: Process | None, error: Exception) -> None:
    """One guest's trouble is told, and stays its own.

    Its status file stays for a daemon that knows better, its QEMU as it is: as long as that runs its log is locked, and
    the guest is not started again.
    """
    guest = context.guests.get(record.uuid)
    what = str(error) if isinstance(error, VirletError) else f"{type(error).__name__}: {error}"
    if guest is not None and guest.run is not None:
        why = f"guest '{record.name}' runs, and could not be taken over as a whole: {what}"
    else:
        why = f"guest '{record.name}' could not be taken over: {what}"
        if process is not None and process.running:
            why += f" (its QEMU, pid {process.pid}, is left alone)"
            process.close()
        if guest is not None and not guest.persistent:
            context.guests.remove(guest)
    context.status.problems.append(why)
    log.error("%s", why, exc_info=None if isinstance(error, VirletError) else error)


def live_of(record: Record) -> Domain:
    """The running form; raises what :func:`parse_domain` does, and :class:`OperationFailed`."""
    domain, _ = parse_domain(record.xml, live=True, stored=True)
    if domain.uuid != record.uuid:
        raise OperationFailed(f"its status file has the XML of {domain.uuid}")
    return domain


def ending_of(record: Record) -> Action | None:
    """Why its end was begun; None when it was not, or for a reason that only another virletd knows."""
    return Action[record.cause] if record.cause in Action.__members__ else None


def take_over(guest: Guest, record: Record, process: Process) -> Taken:
    """The guest is ours from now on; what has to be asked of its QEMU is a task of its own."""
    run = _owned(guest, record, process)
    point("adopt.owned")
    return ((guest, guest.tasks.start(_talk(guest, run, record), f"take-over of '{guest.name}'")),)


def _owned(guest: Guest, record: Record, process: Process) -> Run:
    """All that can be had of it without QEMU: its state as it was, its helpers, and word of its end."""
    domain = live_of(record)
    if domain.name != guest.name:
        log.warning("'%s' is called '%s' since its definition was changed behind our back", domain.name, guest.name)
        domain = replace(domain, name=guest.name)
    number = _number(guest.context, record.id)
    monitor = Monitor.unreachable(record.name, "it has not answered since virletd began")
    run = Run(process, monitor, replace(record, phase=Phase.RUNNING), AsyncExitStack(), taints=record.tainted)
    run.fake_reboot, run.rebooting = record.reboots, record.begins_again
    run.leaving.update(record.leaving)
    run.unheard = True
    run.ending = ending_of(record) or (Action.DESTROY if record.autodestroy else None)
    # All of them before anything is done with one: what is saved next has to name each.
    run.helpers.update({item.alias: Helper(guest, guest.tasks, item) for item in record.helpers})
    _register(guest, run)
    guest.own(run, replace(domain, id=number), number)
    guest.state, guest.reason = record.state, record.reason
    if not is_active(guest.state):
        guest.state, guest.reason = DomainState.PAUSED, PausedReason.UNKNOWN
    watch_end(guest, run)
    for helper in run.helpers.values():
        alive = _alive(helper.record)
        if alive is not None:
            helper.own(alive)
        regain(guest, run, helper)
    return run


def _alive(item: HelperRecord) -> Process | None:
    return Process.adopt(item.identity, item.plan.name) if item.identity is not None else None


def _number(context: Context, wanted: int) -> int:
    """Its number, or another one where that is somebody else's, or none."""
    try:
        context.guests.find_id(wanted)
    except NoDomain:
        return wanted if wanted > 0 else context.next_id()
    return context.next_id()


def _register(guest: Guest, run: Run) -> None:
    """The undo of a guest whose start another daemon has made."""
    record = run.record
    run.undo.callback(guest.context.status.remove, record.uuid)
    run.undo.callback(remove_files, record.leaves, record.directories)
    run.undo.push_async_callback(_close_monitor, run)
    run.undo.push_async_callback(_leave_taps, run)


async def _close_monitor(run: Run) -> None:
    await run.monitor.close()


async def _leave_taps(run: Run) -> None:
    await leave(run.record)


async def _talk(guest: Guest, run: Run, record: Record) -> None:
    """Do with QEMU whatever has to be done, when it answers; who wants to change the guest waits until then."""
    try:
        async with guest.job.hold("take-over", patient=True):
            await _talk_as_job(guest, run)
    except Exception as error:  # Of any kind: the guest is ours, it can be destroyed, and its end is noticed.
        if guest.run is run:
            failed(guest.context, record, None, error)
    finally:
        if (said := _silence(guest, run)) in guest.context.status.problems:
            guest.context.status.problems.remove(said)


async def _talk_as_job(guest: Guest, run: Run) -> None:
    inbox = Inbox()
    await _reach(guest, run, inbox)
    point("adopt.connected")
    try:
        await _catch_up(guest, run)
        point("adopt.caught-up")
    finally:
        hear(guest, run, inbox)
    if not run.reachable:
        return  # Nothing can be asked of it, nor done for it.
    await _patiently(guest, partial(settle_interfaces, guest, run))
    point("adopt.settled")
    log.info("%s (pid %d) runs on, taken over", guest.name, run.process.pid)
    guest.context.scopes.resume(guest, run)
    for helper in tuple(run.helpers.values()):
        helper.on_heard()
    resume(guest, run)
    if _silence(guest, run) in guest.context.status.problems and (now := guest.uplinks()) is not None:
        for helper in tuple(run.helpers.values()):
            helper.follow(now)  # Of what has changed meanwhile it was not told.


async def _reach(guest: Guest, run: Run, inbox: Inbox) -> None:
    """Connect its monitor, however long QEMU takes: one that writes its guest's memory down answers nobody."""
    record = run.record
    try:
        if not own_monitor(guest.context, record):
            raise OperationFailed(f"'{record.monitor}' is not where its monitor is")
        run.monitor = await _connected(run, inbox) or run.monitor
    except VirletError as error:
        # Its QEMU runs all the same, so it is shown, its end is noticed, and it can be destroyed.
        run.monitor = Monitor.unreachable(record.name, str(error))
        why = f"guest '{record.name}' runs, but can only be destroyed (virlet destroy {record.name}): {error}"
        guest.context.status.problems.append(why)
        log.error("%s", why)
        _end_begun(guest, run)


async def _connected(run: Run, inbox: Inbox) -> Monitor | None:
    """Its monitor, None when QEMU has ended; raises what :meth:`Monitor.connect` does where that is of no use."""
    record, tries = run.record, TRIES
    while True:
        try:
            return await Monitor.connect(record.monitor, name=record.name, on_event=inbox, timeout=None)
        except ResourceBusy as error:
            # Dials of former daemons fill its backlog; nothing tells when it has come to them.
            log.debug("%s: %s", record.name, error)
            await asyncio.sleep(AGAIN)
        except MonitorClosed as error:
            if await run.process.ended_within(LAST_WORDS):
                return None
            tries -= 1
            if tries == 0:
                raise
            log.warning("%s: %s; it is tried again", record.name, error)


def _end_begun(guest: Guest, run: Run) -> bool:
    """Go on with an end that was begun, or that is due since its client is gone; whether there is one."""
    if run.ending is None:
        return False
    why = ", whose client is gone" if run.record.autodestroy else ""
    guest.context.tasks.start(end_qemu(guest, run, run.ending), f"end of '{guest.name}'{why}")
    return True


def _silence(guest: Guest, run: Run) -> str:
    return (
        f"QEMU of guest '{guest.name}' (pid {run.process.pid}) does not answer; it is taken over as soon as it does,"
        f" and can be destroyed meanwhile: virlet destroy {guest.name}"
    )


def tell_silent(guest: Guest) -> None:
    """The daemon begins without it; an end that was begun needs no answer."""
    run = guest.run
    if run is not None and not _end_begun(guest, run):
        why = _silence(guest, run)
        guest.context.status.problems.append(why)
        log.warning("%s", why)


async def _catch_up(guest: Guest, run: Run) -> None:
    """Learn what has happened meanwhile, and do what nobody was there to do."""
    said = await _status(guest, run)
    if said is None:
        return
    state, reason = _STATES.get(said, (DomainState.PAUSED, PausedReason.UNKNOWN))
    if _begins_again(guest, run, said):
        run.rebooting = True
        guest.tasks.start(restart(guest, run), f"reboot of '{guest.name}'")
        return
    if run.rebooting and run.ending is None:
        began_again(guest, run)
    missed = _MISSED.get(state)
    if missed is not None and guest.state in TABLE[missed]:
        guest.act(missed)
    elif state is not guest.state:
        guest.move(state, reason)
    if _end_begun(guest, run):
        return
    if state is DomainState.SHUTDOWN:
        ending = end_qemu(guest, run, Action.GONE)
        guest.context.tasks.start(ending, f"end of '{guest.name}', which has powered off")
    elif state is DomainState.CRASHED:
        after_crash(guest, run)


def _begins_again(guest: Guest, run: Run, said: str) -> bool:
    """Whether it has powered off to be reset, or was being reset when the last daemon ended."""
    if run.ending is not None:
        return False
    if run.rebooting:
        return said in _HALTED
    # What QEMU stood still for is not asked: one that may not reset its guest (-no-reboot) does so at a reset, too.
    again = run.fake_reboot or guest.domain.on_poweroff is PowerAction.RESTART
    return again and said == "shutdown" and guest.state is not DomainState.SHUTDOWN


async def _status(guest: Guest, run: Run) -> str | None:
    """QEMU's ``RunState``, however long it takes; None when its monitor has gone."""
    try:
        answer = await _patiently(guest, partial(run.monitor.execute, "query-status"))
    except (MonitorClosed, QmpError) as error:
        log.warning("%s: %s", guest.name, error)
        return None
    said = answer.get("status") if isinstance(answer, dict) else None
    return said if isinstance(said, str) else ""


async def _patiently(guest: Guest, ask: Callable[[], Awaitable[T]]) -> T:
    """What *ask* finds out, which may be asked any number of times, of a QEMU that may fall silent at any moment."""
    while True:
        try:
            return await ask()
        except OperationTimeout as error:
            log.warning("%s: %s; it is asked again", guest.name, error)
