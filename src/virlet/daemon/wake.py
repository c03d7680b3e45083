"""Asking the daemon that runs to listen where clients look."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from pathlib import Path

from virlet.daemon.compat import held_by

__all__ = ["wake"]

PATIENCE = 10.0
"""Seconds that the other daemon has."""


def wake(holder: int, path: Path) -> bool:
    """Whether somebody listens at *path* once the daemon *holder* was told to look after its sockets (SIGHUP).

    Waits for changes of the directory, not for time to pass; the directory must exist.
    """
    # A blocked signal waits for sigtimedwait; without that SIGIO would end the process.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGIO})
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.fcntl(directory, fcntl.F_NOTIFY, fcntl.DN_CREATE | fcntl.DN_RENAME | fcntl.DN_MULTISHOT)
        os.kill(holder, signal.SIGHUP)
        deadline = time.monotonic() + PATIENCE
        while held_by(path) is None:
            left = deadline - time.monotonic()
            if left <= 0 or signal.sigtimedwait({signal.SIGIO}, left) is None:
                return False
        return True
    finally:
        os.close(directory)
        signal.sigtimedwait({signal.SIGIO}, 0)  # one that is pending would end the process once it is let through
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
