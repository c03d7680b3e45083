"""QEMU and its helper share a pair of datagram sockets, which has no end of file: a new helper takes the same end."""

from __future__ import annotations

import errno
import os
from dataclasses import replace

from virlet.engine.fds import FdTable
from virlet.engine.supervision.host import HelperHost
from virlet.engine.supervision.keep import inodes_of, regain
from virlet.engine.supervision.reach import EndLost, Reach, Reached
from virlet.engine.tasks import Tasks
from virlet.proc.process import ExitStatus

__all__ = ["PairReach"]


class PairReach(Reach):
    """One end of a pair, kept for whoever comes next."""

    def __init__(self, helper: Reached, host: HelperHost, tasks: Tasks) -> None:
        super().__init__(helper, host, tasks)
        self._kept: FdTable | None = None

    def keep(self, kept: FdTable | None) -> None:
        self.close()
        self._kept = kept
        self._helper.record = replace(self._record, inodes=inodes_of(self._record.plan, kept))

    def regain(self, qemu: int) -> None:
        """From the process, or from QEMU, which holds it for that."""
        process = self._helper.process
        holders = (*((process.pid,) if process is not None else ()), qemu)
        self._kept = regain(self._record.plan.fds, self._record.inodes, holders)

    def foreseen(self, status: ExitStatus | None) -> bool:
        return status is not None and status.code == 0

    async def connect(self, fds: FdTable) -> bool:
        """QEMU has never lost its end."""
        if self._kept is None:
            raise EndLost(
                f"{self._record.alias}'s socket to QEMU went with the daemon that had it",
                hint="where kernel.yama.ptrace_scope is 0, the next daemon fetches it from QEMU",
                errno=errno.ENOENT,
            )
        for source in self._record.plan.fds:
            fds.put(source, os.dup(self._kept[source]))
        return True

    def close(self) -> None:
        if self._kept is not None:
            self._kept.close()
            self._kept = None
