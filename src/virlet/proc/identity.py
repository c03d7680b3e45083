"""Which process is meant: a pid alone may have been given to somebody else since.

Boot id, pid and start time together name one process for good (proc(5): field 22 of ``/proc/PID/stat`` is the start
time in clock ticks since boot).  The stat file is readable even for a process like passt that made itself
undumpable.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

__all__ = ["ProcessIdentity", "alive", "boot_id", "identify", "identify_child"]

_DEAD = frozenset("ZXx")
"""States of a process that does not run any more (proc(5)); a zombie only waits to be counted."""
_HIGHEST = 1 << 22
"""No pid is as high (PID_MAX_LIMIT of Linux)."""


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """One process, for good; raises :class:`ValueError` for a pid that no process can have."""

    pid: int
    start_time: int
    """Clock ticks since boot."""
    boot_id: str

    def __post_init__(self) -> None:
        # To a system call 0 and negative numbers mean others: the caller, its group, everybody.
        if not 0 < self.pid <= _HIGHEST:
            raise ValueError(f"no process has the pid {self.pid}")

    def __str__(self) -> str:
        return f"{self.pid}@{self.start_time}"


@cache
def boot_id() -> str:
    """This boot's random id (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def _stat(pid: int) -> tuple[str, int] | None:
    """State and start time of *pid*, or None when there is no such process."""
    try:
        # Not Path: this is called at every supervision event.
        fd = os.open(f"/proc/{pid}/stat", os.O_RDONLY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return None
    try:
        text = os.read(fd, 4096)
    except ProcessLookupError:
        return None
    finally:
        os.close(fd)
    # The second field is the command in parentheses, and a command may contain blanks and parentheses.
    fields = text[text.rindex(b")") + 2 :].split()
    return fields[0].decode("ascii"), int(fields[19])


def identify(pid: int) -> ProcessIdentity | None:
    """The identity of the process that has *pid* now; None when there is none or it is dead already."""
    found = _stat(pid)
    if found is None or found[0] in _DEAD:
        return None
    return ProcessIdentity(pid, found[1], boot_id())


def identify_child(pid: int) -> ProcessIdentity:
    """The identity of a child that nobody has reaped yet: its pid is its own even if it has ended."""
    found = _stat(pid)
    if found is None:
        raise ProcessLookupError(f"{pid} is not a child of ours")
    return ProcessIdentity(pid, found[1], boot_id())


def alive(identity: ProcessIdentity) -> bool:
    """Whether that very process still runs; a zombie is dead."""
    return identity.boot_id == boot_id() and identify(identity.pid) == identity
