"""One daemon a user: an flock on a file that says who holds it."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from virlet.errors import ResourceBusy, SystemFailure

__all__ = ["DaemonLock", "LockHeld"]


class LockHeld(ResourceBusy):
    """Another daemon serves this user."""

    def __init__(self, detail: str, holder: int | None) -> None:
        super().__init__(detail, hint="use that one, or stop it with SIGTERM: guests run on")
        self.holder = holder
        """Its pid, if it has got so far as to say it."""


class DaemonLock:
    """The right to serve this user; held until :meth:`release` or the end of the process.

    The file stays behind: removing a locked file would let two daemons hold locks on two files of one name.
    """

    def __init__(self, path: Path) -> None:
        """Take the lock at *path*.

        Raises :class:`LockHeld` naming the holder, :class:`SystemFailure` when the file cannot be opened.
        """
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as error:
            raise SystemFailure.of(error, f"cannot open the lock file {path}") from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 64, 0).decode("ascii", "replace").strip()
            os.close(self._fd)
            if not isinstance(error, BlockingIOError):
                raise SystemFailure.of(error, f"cannot lock {path}") from None
            who = f"pid {holder}" if holder else "a process that is just starting"
            raise LockHeld(
                f"another virletd ({who}) serves this user and holds {path}",
                int(holder) if holder.isdecimal() else None,
            ) from None
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, b"%d\n" % os.getpid(), 0)

    def release(self) -> None:
        """Let the next daemon begin."""
        if self._fd >= 0:
            os.ftruncate(self._fd, 0)
            os.close(self._fd)
            self._fd = -1
