"""Files that are whole or not there: atomic replacement, synced where it must survive a power cut."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import stat
import time
from contextlib import suppress
from functools import partial
from pathlib import Path

from virlet.engine.filesystem import names_go_with_files
from virlet.errors import SystemFailure
from virlet.fault import point
from virlet.proc.threads import aside

__all__ = ["SLOW_DISK", "DurableDir", "check_owner", "make_private", "move_aside", "sweep_scratch", "write_atomic"]

log = logging.getLogger(__name__)

SLOW_DISK = 0.004
"""Seconds of one synced write above which the next one goes to a thread.

A write with both syncs takes 0.25 to 0.45 ms on an SSD; a hop to a thread and back adds 0.1 ms and a wake-up, so a
quick disk is written where we stand and a slow one does not stop the other clients."""


def make_private(path: Path) -> None:
    """Make a directory (and what is missing above it), readable to nobody else, whatever the umask is."""
    try:
        try:
            path.mkdir(mode=0o700, exist_ok=True)
        except FileNotFoundError:
            # Not by parents=True: that makes the directories above as the umask likes.
            make_private(path.parent)
            path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot make the directory '{path}'") from error


def check_owner(path: Path) -> None:
    """Raise :class:`SystemFailure` unless the directory is ours alone: in ``/tmp`` somebody may have been quicker."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise SystemFailure(
            f"'{path}' is not a directory of yours alone: {os.strerror(errno.EPERM)}",
            errno=errno.EPERM,
            hint="set XDG_RUNTIME_DIR to a directory of your own, or have that one removed",
        )


def write_atomic(path: Path, data: bytes, *, durable: bool) -> None:
    """Replace *path* by *data*; after a crash of ours it holds the old bytes or the new ones, never a part.

    *durable* also syncs file and directory: needed for what must outlive a power cut, not for what is void after a
    reboot anyway.  A file that was there is never lost to a power cut either.  A new one is synced under its name,
    which journals both at once (0.4 ms instead of 0.45 on ext4, 0.3 where the directory need not be synced as well): a
    cut before the return may leave a part of what nobody was told is there, and its reader moves that aside.
    """
    scratch = path.with_name(f".{path.name}.new")
    new = durable and not os.path.lexists(path)
    try:
        fd = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            point("file.opened")
            _write_all(fd, data)
            point("file.scratch")
            if new:
                os.replace(scratch, path)
                point("file.named")
            if durable:
                os.fsync(fd)
                point("file.synced")
        finally:
            os.close(fd)
        if not new:
            os.replace(scratch, path)
            point("file.replaced")
        if durable and not (new and names_go_with_files(path.parent)):
            _sync_directory(path.parent)
    except OSError as error:
        for leftover in (scratch, path) if new else (scratch,):
            with suppress(OSError):
                leftover.unlink()
        raise SystemFailure.of(error, f"cannot write '{path}'", hint=_hint(error)) from error


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def sweep_scratch(path: Path) -> None:
    """Remove what a daemon that was killed in :func:`write_atomic` left in the directory *path*: nobody else writes."""
    for left in path.glob(".*.new"):
        try:
            left.unlink(missing_ok=True)
        except OSError as error:
            log.warning("cannot remove %s: %s", left, error.strerror)


def _hint(error: OSError) -> str | None:
    return "free some space; nothing was changed" if error.errno in (errno.ENOSPC, errno.EDQUOT) else None


def move_aside(path: Path) -> Path:
    """Rename a file that cannot be used, so that it can be looked at; answers its new name."""
    aside = path.with_name(f"{path.name}.bad-{time.time_ns()}")
    try:
        os.replace(path, aside)
    except OSError as error:
        log.warning("cannot move %s aside: %s", path, error)
        return path
    return aside


class DurableDir:
    """A directory of small files that must survive a power cut, written without stopping the event loop."""

    __slots__ = ("_last", "_lock", "path")

    def __init__(self, path: Path) -> None:
        self.path = path
        self._last = 0.0
        self._lock = asyncio.Lock()

    async def write(self, name: str, data: bytes) -> None:
        """Replace the file *name*; raises :class:`SystemFailure`.  Writes are done in the order of the calls."""
        async with self._lock:
            if self._last < SLOW_DISK:
                self._write(name, data)
            else:
                await aside("files", partial(self._write, name, data))

    async def remove(self, name: str) -> None:
        """Remove the file *name*, if it is there; raises :class:`SystemFailure`."""
        async with self._lock:
            if self._last < SLOW_DISK:
                self._remove(name)
            else:
                await aside("files", partial(self._remove, name))

    def _write(self, name: str, data: bytes) -> None:
        begin = time.monotonic()
        try:
            if not self.path.is_dir():
                make_private(self.path)
            write_atomic(self.path / name, data, durable=True)
        finally:
            self._last = time.monotonic() - begin

    def _remove(self, name: str) -> None:
        begin = time.monotonic()
        try:
            (self.path / name).unlink(missing_ok=True)
            _sync_directory(self.path)
        except FileNotFoundError:
            return
        except OSError as error:
            raise SystemFailure.of(error, f"cannot remove '{self.path / name}'") from error
        finally:
            self._last = time.monotonic() - begin
