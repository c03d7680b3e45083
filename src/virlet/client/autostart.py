"""Start virletd when it is needed: once, however many clients want it, and without polling.

The daemon gets ``--autostarted --ready-fd N``.  When it accepts connections it writes ``READY=1`` and a newline to that
descriptor and closes it; a daemon that fails closes it by dying.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
from pathlib import Path

from virlet.client.transport import dial
from virlet.client.uri import Target
from virlet.errors import NoConnect, OperationDenied, OperationTimeout, SystemFailure

__all__ = ["dial_or_start"]

PATIENCE = 60.0
"""Seconds that a starting daemon has: it may have many guests to adopt on a slow machine."""
_TAIL = 2000


def dial_or_start(target: Target) -> socket.socket:
    """A connection to *target*; virletd is started for it where that is meant and nobody listens."""
    if not target.autostart:
        return dial(target)
    try:
        return dial(target)
    except NoConnect:
        pass
    folder = _private(target.sockets[0].parent)
    lock = _opened(folder / "autostart.lock", 0)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            return dial(target)
        except NoConnect:
            _start(folder)
        return dial(target)
    finally:
        os.close(lock)


def _private(folder: Path) -> Path:
    """The directory for sockets: ours, and nobody else's."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
    except OSError as error:
        raise SystemFailure.of(error, f"cannot make {folder}") from None
    if found.st_uid != os.getuid() or found.st_mode & 0o022:
        raise OperationDenied(f"{folder} belongs to somebody else or is writable for others", hint="remove it")
    return folder


def _opened(path: Path, flags: int) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flags, 0o600)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot open {path}") from None


def _start(folder: Path) -> None:
    import subprocess

    words = _opened(folder / "virletd.err", os.O_TRUNC)
    ready, given = os.pipe2(os.O_CLOEXEC)
    command = [sys.executable, "-m", "virlet.daemon.main", "--autostarted", "--ready-fd", str(given)]
    try:
        # The shell goes at once, so the daemon is nobody's child here: no zombie of it and nothing to wait for.
        subprocess.run(
            ["/bin/sh", "-c", '"$@" &', "sh", *command],
            pass_fds=(given,),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=words,
            cwd="/",
            start_new_session=True,
            check=True,
        )
        os.close(given)
        given = -1
        _wait(ready, words)
    except OSError as error:
        raise SystemFailure.of(error, "cannot start virletd") from None
    finally:
        for fd in (ready, given, words):
            if fd >= 0:
                os.close(fd)


def _wait(ready: int, words: int) -> None:
    poller = select.poll()
    poller.register(ready, select.POLLIN | select.POLLHUP)
    if not poller.poll(PATIENCE * 1000):
        raise OperationTimeout(f"virletd is not ready after {PATIENCE:.0f} s", hint="see 'virlet doctor'")
    if os.read(ready, 64):
        return
    said = os.pread(words, _TAIL, max(0, os.fstat(words).st_size - _TAIL)).decode("utf-8", "replace").strip()
    raise NoConnect(
        "virletd did not start" + (f": {said}" if said else ""), hint="run 'virletd' in a terminal to see more"
    )
