"""Log files that children write themselves, kept below a size.

A child is handed a descriptor opened for appending rather than a pipe to the daemon: passt dies of SIGPIPE at its
next message once nobody reads the pipe (tried with 2023-03), and guests must outlive the daemon.  Nobody then stands
between the child and the file, so the cap is kept by :func:`cap`, which the supervisor calls when something has
happened: what is too much is moved to ``NAME.1`` and the file is truncated; an appending writer goes on at its new end.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path

from virlet.errors import SystemFailure

__all__ = ["MAX_LOG", "cap", "locked", "open_log", "tail"]

_NOISE = re.compile(r"Failed to send \d+ bytes to syslog")
"""passt says so before each line that it also says here, where nobody runs a syslog, as in containers."""
MAX_LOG = 1 << 20
"""Bytes a log may grow to before it is rotated; one older file of at most the same size is kept."""


def open_log(path: Path, *, truncate: bool = False) -> int:
    """Open (or make, 0600) a log for a child's standard error; the caller closes the descriptor.

    :raises SystemFailure: it cannot be opened, or is not a regular file.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOCTTY
    try:
        # Not blocking: opening a FIFO that nobody reads would hang the daemon.
        fd = os.open(path, flags | os.O_NONBLOCK, 0o600)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot open log file '{path}'", hint=_hint(error, path)) from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SystemFailure(f"log file '{path}' is not a regular file", hint="name a file that virlet may write")
    os.set_blocking(fd, True)
    if truncate:
        os.ftruncate(fd, 0)
    return fd


def locked(path: Path) -> bool:
    """Whether somebody holds the log, as a QEMU holds its own while it runs (flock(2), on NFS for all its hosts).

    False as well for a log that is not there or cannot be read, and on a filesystem that knows no locks.
    """
    try:
        with path.open("rb") as log:
            fcntl.flock(log, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def _hint(error: OSError, path: Path) -> str | None:
    if isinstance(error, FileNotFoundError):
        return f"make the directory: mkdir -p '{path.parent}'"
    return None


def cap(path: Path, limit: int = MAX_LOG) -> bool:
    """Rotate the log if it has grown beyond *limit* bytes; True when it did.  A log that is gone needs nothing.

    What a child writes between the copy and the truncation is lost; that is the price of a log nobody reads along.

    :raises SystemFailure: the older file cannot be written.
    """
    try:
        # Looked at first: where nothing can be written, nothing grows.
        if (size := path.stat().st_size) <= limit:
            return False
        with path.open("rb+") as log:
            log.seek(size - limit)
            _replace(path.with_name(path.name + ".1"), log.read(limit))
            log.truncate(0)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise SystemFailure.of(error, f"cannot rotate log file '{path}'") from error
    return True


def _replace(path: Path, data: bytes) -> None:
    # Unlinked first: a link that somebody left there must not lead us elsewhere.
    path.unlink(missing_ok=True)
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as older:
            older.write(data)
    except OSError:
        path.unlink()
        raise


def tail(path: Path, limit: int = 2048) -> str:
    """The last whole lines of a log, at most *limit* bytes, for an error message; empty when none can be read."""
    try:
        with path.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            log.seek(max(0, size - limit))
            data = log.read(limit)
    except OSError:
        return ""  # A message without its program's last words is better than none.
    if size > limit:
        data = data.partition(b"\n")[2]
    lines = (line for line in data.decode("utf-8", "replace").split("\n") if not _NOISE.fullmatch(line))
    return "\n".join(lines).strip()
