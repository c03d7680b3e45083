"""What the last daemon left: guests that run on are taken over, half a start is undone, half a stop is finished.

Nothing is done to a process that is not proved to be the recorded one (boot id, pid and start time), nor to a file that
is not the guest's own.
"""

from __future__ import annotations

import asyncio
import logging

from virlet.engine.belongings import own_files, own_monitor, remove_files
from virlet.engine.context import Context
from virlet.engine.guest import Guest
from virlet.engine.status import Phase, Record
from virlet.engine.supervision.forked import remove_dead
from virlet.engine.takeover import Taken, ending_of, failed, live_of, take_over, tell_silent
from virlet.engine.taps import leave
from virlet.errors import OperationTimeout, ResourceBusy, SystemFailure
from virlet.fault import point
from virlet.model.lifecycle import Action
from virlet.proc.identity import ProcessIdentity
from virlet.proc.process import Process
from virlet.qmp.monitor import Monitor, MonitorClosed

__all__ = ["adopt_all"]

log = logging.getLogger(__name__)

GRACE = 2.0
REACH = 5.0
"""Seconds that a QEMU which is to be ended, and which process is not known, has to answer: it may have just begun."""
PATIENCE = 1.0
"""Seconds in which no guest was taken over, and after which the daemon begins without those that are left: a QEMU
answers within milliseconds, unless it is stopped or does something that lets it answer nobody."""


async def adopt_all(context: Context) -> None:
    """Take over everything that this boot's status files name; all guests at once.

    Whatever they say, this raises nothing: what is wrong with one guest is reported, and hurts no other.  It returns
    when no guest has come a step further for :data:`PATIENCE`; who is silent by then is taken over when it speaks.
    """
    records = tuple(context.status.load())
    for record in records:
        context.note_id(record.id)
    waiting = {
        task: guest
        for found in await asyncio.gather(*(_settle(context, each) for each in records))
        for guest, task in found
    }
    while waiting:
        done, _ = await asyncio.wait(waiting, timeout=PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            break
        for task in done:
            del waiting[task]
    for guest in waiting.values():
        tell_silent(guest)


async def _settle(context: Context, record: Record) -> Taken:
    process = None
    try:
        record = own_files(context, record)
        process = Process.adopt(record.qemu, f"QEMU of '{record.name}'") if record.qemu is not None else None
        point("adopt.found")
        if record.phase is Phase.STARTING:
            await _undo(context, record, process)
        elif process is None:
            await _died(_guest_of(context, record), record)
        else:
            return take_over(_guest_of(context, record), record, process)
    except Exception as error:  # Of any kind: a file that nobody foresaw keeps no daemon from starting.
        failed(context, record, process, error)
    return ()


def _guest_of(context: Context, record: Record) -> Guest:
    guest = context.guests.get(record.uuid)
    if guest is None:
        guest = Guest(context, live_of(record), persistent=False)
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
    elif own_monitor(context, record):
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
            await monitor.execute("quit", timeout=REACH)
            await asyncio.wait({monitor.closed}, timeout=GRACE)
    except (MonitorClosed, SystemFailure, ResourceBusy, OperationTimeout) as error:
        log.debug("%s: nobody to quit: %s", record.name, error)


async def _clean(context: Context, record: Record) -> None:
    begun = (item.helper for item in record.attaching if item.helper is not None)
    for helper in (*record.helpers, *begun):
        await _end_helper(helper.identity, helper.plan.name)
        remove_files(helper.plan.leaves, ())
        if helper.pid_file is not None:
            remove_dead(helper.pid_file)
    point("adopt.no-helpers")
    await leave(record)
    remove_files(record.leaves, record.directories)
    point("adopt.no-files")
    context.status.remove(record.uuid)


async def _end_helper(identity: ProcessIdentity | None, name: str) -> None:
    process = Process.adopt(identity, name) if identity is not None else None
    if process is not None:
        await process.terminate(GRACE)


async def _died(guest: Guest, record: Record) -> None:
    """QEMU has ended while nobody watched."""
    await _clean(guest.context, record)
    point("adopt.died")
    log.warning("%s has ended while no daemon watched", guest.name)
    guest.state = record.state
    guest.disown(ending_of(record) or Action.GONE)
    if not guest.persistent:
        guest.context.guests.remove(guest)
