"""Descriptors that a helper shares with QEMU, kept for the helper's successor.

A pair of sockets that no end of file tells about must not lose an end.  We keep copies of the helper's descriptors; a
daemon that comes later fetches them from the helper, or from QEMU, which holds them for that purpose
(:attr:`virlet.plan.base.NetPlan.keeps`).  Fetching needs the right to attach to those processes as a tracer.
With ``kernel.yama.ptrace_scope`` 1 a daemon that is not their ancestor has it where they grant it: virlet's own slirp
helper does (:func:`virlet.proc.confine.allow_tracing`), QEMU and other helpers do not.  With 2 and 3 it has it nowhere.
What could not be fetched is lost when the helper dies (:mod:`virlet.engine.supervision.anew` has what is done then).
"""

from __future__ import annotations

import ctypes
import logging
import os
from collections.abc import Iterable, Sequence
from contextlib import suppress

from virlet.engine.fds import FdTable
from virlet.plan.base import FdSource, HelperPlan, OnLoss

__all__ = ["inodes_of", "keep", "regain"]

log = logging.getLogger(__name__)

_PIDFD_GETFD = 438


def keep(plan: HelperPlan, fds: FdTable) -> FdTable | None:
    """Copies of the descriptors of *plan*, if its successor will need them."""
    if plan.on_loss is not OnLoss.REUSE:
        return None
    kept = FdTable()
    for source in plan.fds:
        kept.put(source, os.dup(fds[source]))
    return kept


def inodes_of(plan: HelperPlan, kept: FdTable | None) -> tuple[int, ...]:
    """What the kernel calls those sockets: the same in every process that has them."""
    return () if kept is None else tuple(os.fstat(kept[source]).st_ino for source in plan.fds)


def regain(sources: Sequence[FdSource], inodes: Sequence[int], pids: Iterable[int]) -> FdTable | None:
    """The descriptors again, each from the first of *pids* that has it; None unless all could be had."""
    if len(inodes) != len(sources):
        return None  # None were recorded.
    found: dict[int, int] = {}
    for pid in pids:
        with suppress(OSError):
            _fetch(pid, [inode for inode in inodes if inode not in found], found)
    if not inodes or len(found) < len(set(inodes)):
        for fd in found.values():
            os.close(fd)
        return None
    kept = FdTable()
    for source, inode in zip(sources, inodes, strict=True):
        kept.put(source, found[inode])
    return kept


def _fetch(pid: int, wanted: Sequence[int], found: dict[int, int]) -> None:
    """Copy what process *pid* has of *wanted*; raises OSError when it may not be looked into."""
    pidfd = os.pidfd_open(pid)
    try:
        for name in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # closed since
                inode = os.stat(f"/proc/{pid}/fd/{name}").st_ino
                if inode in wanted and inode not in found:
                    found[inode] = _copy(pidfd, int(name))
    except OSError as error:
        log.warning("descriptors of process %d cannot be copied: %s", pid, error)
        raise
    finally:
        os.close(pidfd)


def _copy(pidfd: int, number: int) -> int:
    """pidfd_getfd(2), Linux 5.6; close-on-exec."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_PIDFD_GETFD, pidfd, number, 0))
    if fd < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return fd
