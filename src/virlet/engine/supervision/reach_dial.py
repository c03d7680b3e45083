"""QEMU listens: a new helper is given a connection that we have dialled.

Two witnesses tell of a loss, the process's pidfd and QEMU's NETDEV_STREAM_DISCONNECTED, and both are waited for: while
a frame waits for a NIC that cannot receive, QEMU does not read the end of the stream, its backlog holds one connection,
and a second dial would be lost in it (QEMU 7.2 to 11.1).  QEMU then says the guest's address aloud, because an old
passt does not learn it from a quiet guest.
"""

from __future__ import annotations

import errno
import logging
import os
from enum import Enum
from pathlib import Path

from virlet.engine.fds import FdTable, anchor, dial
from virlet.engine.supervision.host import HelperHost
from virlet.engine.supervision.reach import ANNOUNCE, NoWay, Reach, Reached
from virlet.engine.tasks import Tasks
from virlet.errors import SystemFailure
from virlet.plan.base import Dial
from virlet.proc.process import ExitStatus, Process

__all__ = ["DialReach"]

log = logging.getLogger(__name__)


class Stream(Enum):
    """The connection between QEMU and the helper, as far as QEMU has said."""

    UP = "connected"
    UNSEEN = "as the last daemon left it"
    DOWN = "down"
    DIALLED = "dialled, not accepted yet"


class DialReach(Reach):
    """A stream whose listening end is QEMU's."""

    def __init__(self, helper: Reached, host: HelperHost, tasks: Tasks) -> None:
        super().__init__(helper, host, tasks)
        self._stream = Stream.DOWN if helper.record.waits else Stream.UP
        self._announces = False
        """Whoever QEMU is connected to from now on is a successor, and does not know the guest."""
        self._anchors: dict[Dial, int] = {}
        """QEMU's sockets, by which they are found when their names have vanished."""
        if helper.record.waits:
            self._anchor()

    def _anchor(self) -> None:
        for source in self._record.plan.fds:
            if isinstance(source, Dial) and source not in self._anchors and (fd := anchor(source.path)) is not None:
                self._anchors[source] = fd

    def regain(self, qemu: int) -> None:
        # It may have ended, or be followed by what was dialled since, while nobody listened to QEMU.
        self._stream = Stream.UNSEEN
        self._announces = self._record.restarts > 0

    def heard(self) -> None:
        if self._announces:
            self._greet()  # Who has started it may not have come to that.

    def owned(self, process: Process) -> None:
        self._anchor()

    def foreseen(self, status: ExitStatus | None) -> bool:
        """One that ends well has seen the end of its stream (or was told to end): QEMU will say which, if it lives."""
        return self._stream is Stream.UP and status is not None and status.code == 0

    def disconnected(self) -> bool:
        if self._stream is Stream.DIALLED:
            return False  # The former stream's end, seen late: our dial is next in QEMU's backlog.
        self._stream = Stream.DOWN
        return True

    def connected(self) -> None:
        self._stream = Stream.UP
        if self._announces and not self._host.stopping:
            self._greet()

    def _greet(self) -> None:
        self._tasks.start(self._say_address(), f"announcement of {self._record.alias}")

    async def _say_address(self) -> None:
        await self._host.execute("announce-self", ANNOUNCE)

    @property
    def open(self) -> bool:
        """QEMU has seen the end of the last connection, or may have."""
        return self._stream in (Stream.DOWN, Stream.UNSEEN)

    async def connect(self, fds: FdTable) -> bool:
        """Dial; False when QEMU's backlog still holds our last dial."""
        try:
            for dialled, fd in self._anchors.items():
                fds.put(dialled, dial(Path(f"/proc/self/fd/{fd}")).detach())
            fds.open(self._record.plan.fds)
        except SystemFailure as error:
            if error.errno in (errno.ENOENT, errno.ECONNREFUSED):
                # The socket's file is gone, perhaps with the whole runtime directory: there is nothing to dial.
                raise NoWay(error.detail, hint=error.hint, errno=error.errno) from error
            if error.errno != errno.EAGAIN:
                raise
            log.info("%s: QEMU's backlog is full; its next event is awaited", self._record.alias)
            self._stream = Stream.DIALLED
            return False
        self._announces, self._stream = True, Stream.DIALLED
        return True

    def close(self) -> None:
        while self._anchors:
            os.close(self._anchors.popitem()[1])
