"""What becomes of a guest that has panicked, as its ``<on_crash>`` says; how a guest begins again in the same QEMU."""

from __future__ import annotations

import logging
import os
import time
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from virlet.engine.ending import end_qemu
from virlet.engine.files import make_private
from virlet.engine.guest import Guest, Run
from virlet.errors import SystemFailure, VirletError
from virlet.fault import point
from virlet.model.lifecycle import Action
from virlet.model.machine import CrashAction

__all__ = ["DUMPS_KEPT", "after_crash", "began_again", "restart"]

log = logging.getLogger(__name__)

DUMPS_KEPT = 3
"""Of each guest, the newest: each is as large as the guest's memory, and a guest may crash as often as it likes."""
DUMP_TIME = 3600.0
"""Seconds that QEMU has to write the guest's memory; its monitor answers nobody meanwhile."""
_DUMPING = frozenset({CrashAction.COREDUMP_DESTROY, CrashAction.COREDUMP_RESTART})
_AGAIN = frozenset({CrashAction.RESTART, CrashAction.RENAME_RESTART, CrashAction.COREDUMP_RESTART})


def after_crash(guest: Guest, run: Run) -> None:
    """Begin to do what the domain wants; its state is CRASHED already."""
    wanted = guest.domain.on_crash
    if wanted is not CrashAction.PRESERVE:
        guest.context.tasks.start(_act(guest, run, wanted), f"{wanted} of '{guest.name}' after its crash")


async def _act(guest: Guest, run: Run, wanted: CrashAction | None) -> None:
    if wanted in _DUMPING:
        try:
            log.warning("%s: its memory is in %s", guest.name, await _dump(guest, run))
        except VirletError as error:
            log.error("%s: its memory could not be kept: %s", guest.name, error)
    if guest.run is not run or run.ending is not None:
        return
    if wanted in _AGAIN:
        await restart(guest, run)
    else:
        await end_qemu(guest, run, Action.GONE)


async def _dump(guest: Guest, run: Run) -> Path:
    """Have QEMU write the guest's memory as an ELF file, through a descriptor: it may open no file of its own."""
    directory = guest.context.dirs.state / "dump"
    make_private(directory)
    path = directory / f"{guest.uuid}-{time.strftime('%Y%m%dT%H%M%S')}.elf"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot make '{path}'") from error
    try:
        await run.monitor.send_fd("dump", fd)
        arguments = {"paging": False, "protocol": "fd:dump"}
        await run.monitor.execute("dump-guest-memory", arguments, timeout=DUMP_TIME)
    except VirletError:
        path.unlink(missing_ok=True)  # Half a core is none.
        raise
    finally:
        os.close(fd)
    _sweep(directory, guest.uuid)
    return path


def _sweep(directory: Path, uuid: UUID) -> None:
    """Remove all but the newest of that guest's dumps."""
    with suppress(OSError):  # One that somebody else removes at the same time is gone as well.
        found = sorted(directory.glob(f"{uuid}-*.elf"), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for path in found[DUMPS_KEPT:]:
            path.unlink()
            log.info("removed %s: the last %d dumps of a guest are kept", path, DUMPS_KEPT)


async def restart(guest: Guest, run: Run) -> None:
    """Reset a guest that has powered off or crashed, and let it run again, in the same QEMU."""
    async with guest.job.hold("restart", patient=True):
        if guest.run is not run or run.ending is not None:
            return
        run.fake_reboot, run.rebooting = False, True
        guest.save()
        point("restart.intended")
        try:
            await guest.execute("system_reset")
            point("restart.reset")
            await guest.execute("cont")
        except VirletError:
            run.rebooting = False
            guest.save()
            raise
        point("restart.running")
        began_again(guest, run)


def began_again(guest: Guest, run: Run) -> None:
    """It runs: say so.  Not where we are cancelled: the next daemon finishes what is on record."""
    run.rebooting = False
    guest.react(Action.RESTARTED)
    guest.save()
