"""Logs: of a running guest below a size while its processes write them, of one that is no more not for ever.

The logs of a guest whose definition is removed, and of a transient one, are what tells why it ended, so they outlive
it: those of the last :data:`GONE_KEPT` such guests, and none longer than :data:`GONE_DAYS` days.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Container
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

from virlet.errors import SystemFailure
from virlet.proc.logfile import cap, locked

if TYPE_CHECKING:
    from virlet.engine.context import Context
    from virlet.engine.guest import Run

__all__ = ["GONE_DAYS", "GONE_KEPT", "cap_logs", "keep_small", "sweep_logs"]

log = logging.getLogger(__name__)

GONE_KEPT = 50
GONE_DAYS = 14.0
LOOK_INTERVAL = 10.0
"""Seconds between two looks at the logs of running guests."""
FLOODED_INTERVAL = 1.0
"""The same after one had to be rotated."""
SWEEP_INTERVAL = 60.0


async def keep_small(context: Context) -> None:
    """Keep logs below their size and number, as long as the daemon lives.

    Nobody stands between a child and its log, and no event tells that it has grown: it is looked at now and then, and
    soon again while one grows fast.
    """
    stuck: set[Path] = set()
    swept = -SWEEP_INTERVAL
    while True:
        now = asyncio.get_running_loop().time()
        if now - swept >= SWEEP_INTERVAL:
            sweep_logs(context.dirs.state / "log", {guest.uuid for guest in context.guests}, time.time())
            swept = now
        rotated = [cap_logs(guest.run, stuck) for guest in context.guests if guest.run is not None]
        await asyncio.sleep(FLOODED_INTERVAL if any(rotated) else LOOK_INTERVAL)


def cap_logs(run: Run, stuck: set[Path]) -> bool:
    """Rotate what has grown too large; a log that cannot be rotated is reported, and harms nobody else.

    Returns whether one has.  *stuck* remembers which cannot be: what is said again and again is read by nobody.
    """
    rotated = False
    paths = [run.record.log]
    paths += [each.record.plan.stderr.path for each in run.helpers.values() if each.record.plan.stderr is not None]
    for path in paths:
        try:
            rotated |= cap(path)
            stuck.discard(path)
        except SystemFailure as error:
            if path not in stuck:
                log.warning("%s", error)
            stuck.add(path)
    return rotated


def sweep_logs(root: Path, known: Container[UUID], now: float) -> list[Path]:
    """Remove the log directories below *root* of guests that are not *known* and too many or too old; those removed.

    *now* is in seconds since the epoch.  A log that is locked belongs to a QEMU that runs, known or not, and stays.
    """
    found = []
    with suppress(OSError):  # Nothing has been started yet, or the directory cannot be read: nothing to sweep.
        for entry in os.scandir(root):
            uuid = _uuid(entry.name)
            if uuid is not None and uuid not in known and entry.is_dir(follow_symlinks=False):
                found.append((_touched(Path(entry)), Path(entry)))
    found.sort(reverse=True)
    doomed = [path for n, (at, path) in enumerate(found) if n >= GONE_KEPT or now - at > GONE_DAYS * 86_400]
    removed = [path for path in doomed if not locked(path / "qemu.log")]
    for path in removed:
        import shutil  # which loads three decompressors, half a megabyte

        shutil.rmtree(path, ignore_errors=True)
    return removed


def _uuid(name: str) -> UUID | None:
    """None for what is not named by us."""
    with suppress(ValueError):
        return UUID(name)
    return None


def _touched(directory: Path) -> float:
    """When something was last written in it."""
    with suppress(OSError):
        return max(entry.stat(follow_symlinks=False).st_mtime for entry in (directory, *directory.iterdir()))
    return 0.0
