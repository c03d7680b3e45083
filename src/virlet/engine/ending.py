"""The end of a guest, whoever caused it: one way out, taken when QEMU's process has ended."""

from __future__ import annotations

import asyncio
import logging

from virlet.engine.guest import Guest, Run
from virlet.enums import DomainState
from virlet.errors import OperationTimeout, SystemFailure
from virlet.fault import point
from virlet.model.lifecycle import Action
from virlet.proc.process import ExitStatus

__all__ = ["LAST_WORDS", "end_qemu", "ended", "remove_logs"]

log = logging.getLogger(__name__)

GRACE = 10.0
"""Seconds that QEMU has to flush its disks after SIGTERM; 200 writes to a qcow2 take it 8 to 14 ms."""
LAST_WORDS = 1.0
"""Seconds between the end of QEMU's monitor and that of its process, whichever comes first."""


async def end_qemu(guest: Guest, run: Run, why: Action, *, kill: bool = True) -> None:
    """End QEMU by SIGTERM, after 10 s by SIGKILL if *kill*, and wait until nothing of the guest is left.

    Raises :class:`SystemFailure` in libvirt's words when it may not be killed and does not end.
    """
    point("destroy.begun")
    if run.ending is None:
        run.ending = why
        guest.save()
        point("destroy.intended")
    try:
        await run.process.terminate(GRACE, kill=kill)
    except OperationTimeout:
        if not kill:
            run.ending = None
            guest.save()
        raise SystemFailure(
            f"Failed to terminate process {run.process.pid} with {'SIGKILL' if kill else 'SIGTERM'}:"
            " Device or resource busy",
            errno=16,
            hint="it hangs in the kernel; see dmesg" if kill else "without --graceful it is killed",
        ) from None
    point("destroy.ended")
    while guest.run is run:
        await guest.stopped.wait()
    point("destroy.done")


def ended(guest: Guest, run: Run, status: ExitStatus | None) -> None:
    """QEMU's process has ended: take the guest down.  Called once a run, from its pidfd."""
    guest.context.tasks.start(_finish(guest, run, status), f"end of '{guest.name}'")


async def _finish(guest: Guest, run: Run, status: ExitStatus | None) -> None:
    # The pidfd may be quicker than the monitor, in which SHUTDOWN still waits to be read.
    await asyncio.wait({run.monitor.closed}, timeout=LAST_WORDS)
    point("stop.noticed")
    await guest.tasks.cancel()
    async with guest.job.hold("stop", patient=True):
        run.ending = run.ending or Action.GONE
        if guest.state is not DomainState.SHUTDOWN and run.ending is Action.GONE:
            log.error("%s: QEMU ended (%s) without a word; see its log", guest.name, status or "status unknown")
        await _clean(guest, run)
        point("stop.cleaned")
        guest.disown(run.ending)
        if not guest.persistent:
            guest.context.guests.remove(guest)
    point("stop.told")
    log.info("%s has stopped", guest.name)


async def _clean(guest: Guest, run: Run) -> None:
    for helper in run.helpers.values():
        try:
            await helper.end()
        except OperationTimeout as error:
            log.error("%s: %s", guest.name, error)
    run.consoles.clear()
    point("stop.helpers")
    await run.undo.aclose()


def remove_logs(guest: Guest) -> None:
    """For destroy with REMOVE_LOGS."""
    import shutil

    shutil.rmtree(guest.context.guest_dirs(guest.uuid).logs, ignore_errors=True)
