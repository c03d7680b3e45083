"""What the last daemon left: guests that run on are taken over, half a start is undone, half a stop is finished.

Nothing is done to a process that is not proved to be the recorded one (boot id, pid and start time).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from pathlib import Path

from virlet.engine.anew import regain, resume
from virlet.engine.context import Context
from virlet.engine.crash import after_crash
from virlet.engine.ending import end_qemu
from virlet.engine.forked import remove_dead
from virlet.engine.guest import Guest, Run
from virlet.engine.helpers import Helper
from virlet.engine.inbox import Inbox, watch
from virlet.engine.settle import settle_interfaces
from virlet.engine.status import Phase, Record
from virlet.engine.taps import leave
from virlet.enums import CrashedReason, DomainState, PausedReason, RunningReason
from virlet.errors import OperationTimeout, ResourceBusy, SystemFailure, VirletError
from virlet.fault import point
from virlet.model.domain import parse_domain
from virlet.model.lifecycle import TABLE, Action
from virlet.proc.identity import ProcessIdentity
from virlet.proc.process import Process
from virlet.qmp.monitor import Monitor, MonitorClosed, QmpError

__all__ = ["adopt_all"]

log = logging.getLogger(__name__)

GRACE = 2.0
REACH = 5.0
"""Seconds for a guest's monitor to answer: the former daemon's connection may still be about to end."""

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

_MISSED = {DomainState.SHUTDOWN: Action.GUEST_POWEROFF, DomainState.CRASHED: Action.GUEST_PANIC}
"""What must have happened to a guest that is in that state now, and is told belatedly."""


async def adopt_all(context: Context) -> None:
    """Take over everything that this boot's status files name; all guests at once."""
    await asyncio.gather(*(_settle(context, record) for record in context.status.load()))


async def _settle(context: Context, record: Record) -> None:
    record = replace(record, leaves=_ours(context, record.leaves), directories=_ours(context, record.directories))
    context.note_id(record.id)
    try:
        process = Process.adopt(record.qemu, f"QEMU of '{record.name}'") if record.qemu is not None else None
        point("adopt.found")
        if record.phase is Phase.STARTING:
            await _undo(context, record, process)
        elif process is None:
            await _died(_guest_of(context, record), record)
        else:
            await _take_over(_guest_of(context, record), record, process)
    except VirletError as error:
        context.status.problems.append(f"guest '{record.name}' could not be taken over: {error}")
        log.error("guest '%s' could not be taken over: %s", record.name, error)


def _ours(context: Context, paths: Iterable[Path]) -> tuple[Path, ...]:
    """Only what lies in our own directories is removed, whatever a status file says."""
    roots = (context.dirs.runtime, context.dirs.state)
    return tuple(path for path in paths if ".." not in path.parts and any(path.is_relative_to(root) for root in roots))


def _guest_of(context: Context, record: Record) -> Guest:
    guest = context.guests.get(record.uuid)
    if guest is None:
        domain, _ = parse_domain(record.xml, live=True, stored=True)
        guest = Guest(context, domain, persistent=False)
        if (other := context.guests.named(guest.name)) is not None:
            why = f"guest {guest.uuid} runs, and its name '{guest.name}' is also that of {other.uuid}: use its UUID"
            context.status.problems.append(why)
            log.error("%s", why)
        context.guests.add(guest)
    return guest


async def _undo(context: Context, record: Record, process: Process | None) -> None:
    """End whatever the start had begun, and remove what it had made."""
    if process is not None:
        await process.terminate(GRACE)
    else:
        await _quit(record)
    point("adopt.ended")
    await _clean(context, record)
    point("adopt.cleaned")
    guest = context.guests.get(record.uuid)
    if guest is not None:
        guest.disown(Action.START_FAILED)
    log.warning("%s: its start was under way when the last daemon ended; undone", record.name)


async def _quit(record: Record) -> None:
    """QEMU may run although its identity was not written: whoever answers on the guest's own socket is it."""
    try:
        async with await Monitor.connect(record.monitor, name=record.name, timeout=REACH) as monitor:
            await monitor.execute("quit")
            await asyncio.wait({monitor.closed}, timeout=GRACE)
    except (MonitorClosed, SystemFailure, ResourceBusy, OperationTimeout) as error:
        log.debug("%s: nobody to quit: %s", record.name, error)


async def _clean(context: Context, record: Record) -> None:
    begun = (item.helper for item in record.attaching if item.helper is not None)
    for helper in (*record.helpers, *begun):
        await _end_helper(helper.identity, helper.plan.name)
        _remove(_ours(context, helper.plan.leaves), ())
        if helper.pid_file is not None:
            remove_dead(helper.pid_file)
    point("adopt.no-helpers")
    await leave(record)
    _remove(record.leaves, record.directories)
    point("adopt.no-files")
    context.status.remove(record.uuid)


async def _end_helper(identity: ProcessIdentity | None, name: str) -> None:
    process = Process.adopt(identity, name) if identity is not None else None
    if process is not None:
        await process.terminate(GRACE)


def _remove(leaves: Iterable[Path], directories: Iterable[Path]) -> None:
    for path in leaves:
        with suppress(OSError):
            path.unlink()
    for path in directories:
        if path.is_dir():
            for left in path.iterdir():
                with suppress(OSError):
                    left.unlink()
        with suppress(OSError):
            path.rmdir()


async def _died(guest: Guest, record: Record) -> None:
    """QEMU has ended while nobody watched."""
    await _clean(guest.context, record)
    point("adopt.died")
    log.warning("%s has ended while no daemon watched", guest.name)
    guest.state = record.state
    guest.disown(_ending(record) or Action.GONE)
    if not guest.persistent:
        guest.context.guests.remove(guest)


def _ending(record: Record) -> Action | None:
    return Action[record.cause] if record.cause in Action.__members__ else None


async def _take_over(guest: Guest, record: Record, process: Process) -> None:
    inbox = Inbox()
    domain, _ = parse_domain(record.xml, live=True, stored=True)
    if domain.name != guest.name:
        log.warning("'%s' is called '%s' since its definition was changed behind our back", domain.name, guest.name)
        domain = replace(domain, name=guest.name)
    try:
        monitor = await Monitor.connect(record.monitor, name=record.name, on_event=inbox, timeout=REACH)
    except VirletError as error:
        # Its QEMU runs all the same, so it is shown, its end is noticed, and it can be destroyed.
        monitor = Monitor.unreachable(record.name, str(error))
        why = f"guest '{record.name}' runs, but can only be destroyed (virlet destroy {record.name}): {error}"
        guest.context.status.problems.append(why)
        log.error("%s", why)
    point("adopt.connected")
    run = Run(process, monitor, replace(record, phase=Phase.RUNNING), AsyncExitStack(), taints=record.tainted)
    _register(guest, run)
    guest.own(run, domain, record.id)
    run.undo.push_async_callback(_leave_taps, run)
    for item in record.helpers:
        helper = run.helpers[item.alias] = Helper(guest, guest.tasks, item)
        alive = Process.adopt(item.identity, item.plan.name) if item.identity is not None else None
        if alive is not None:
            helper.own(alive)
        regain(guest, run, helper)
    point("adopt.owned")
    guest.state, guest.reason = record.state, record.reason
    await _catch_up(guest, run, record)
    point("adopt.caught-up")
    watch(guest, run, inbox)
    if monitor.closed.done():
        return  # Nothing can be asked of it, nor done for it.
    await settle_interfaces(guest, run)
    point("adopt.settled")
    log.info("%s (pid %d) runs on, taken over", guest.name, process.pid)
    guest.context.scopes.resume(guest, run)
    for helper in tuple(run.helpers.values()):
        if helper.process is None and not helper.record.gave_up:
            helper.tell_lost()
            helper.revive()
    resume(guest, run)


async def _leave_taps(run: Run) -> None:
    await leave(run.record)


def _register(guest: Guest, run: Run) -> None:
    """The undo of a guest whose start another daemon has made."""
    record = run.record
    run.undo.callback(guest.context.status.remove, record.uuid)
    run.undo.callback(_remove, record.leaves, record.directories)
    run.undo.push_async_callback(run.monitor.close)


async def _catch_up(guest: Guest, run: Run, record: Record) -> None:
    """Learn what has happened meanwhile, and do what nobody was there to do."""
    try:
        answer = await run.monitor.execute("query-status", timeout=REACH)
    except (MonitorClosed, QmpError) as error:
        log.warning("%s: %s", guest.name, error)
        return
    said = answer.get("status") if isinstance(answer, dict) else None
    state, reason = _STATES.get(said if isinstance(said, str) else "", (DomainState.PAUSED, PausedReason.UNKNOWN))
    missed = _MISSED.get(state)
    if missed is not None and guest.state in TABLE[missed]:
        guest.act(missed)
    elif state is not guest.state:
        guest.move(state, reason)
    tasks = guest.context.tasks
    if (ending := _ending(record)) is not None:
        tasks.start(end_qemu(guest, run, ending), f"end of '{guest.name}'")
    elif record.autodestroy:
        tasks.start(end_qemu(guest, run, Action.DESTROY), f"end of '{guest.name}', whose client is gone")
    elif state is DomainState.SHUTDOWN:
        tasks.start(end_qemu(guest, run, Action.GONE), f"end of '{guest.name}', which has powered off")
    elif state is DomainState.CRASHED:
        after_crash(guest, run)
