"""QEMU dials its helper (vhost-user), every few milliseconds while it has none: a new one is given what comes in.

passt does not learn the guest's address from QEMU then; the guest itself speaks when it sees its link come back, so a
paused one, which would not see that it was gone, is given its passt when it runs again.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from pathlib import Path

from virlet.engine.fds import FdTable
from virlet.engine.supervision.coax import coax, silent
from virlet.engine.supervision.door import Door
from virlet.engine.supervision.host import HelperHost
from virlet.engine.supervision.reach import Reach, Reached
from virlet.engine.tasks import Tasks
from virlet.plan.base import Accept
from virlet.proc.process import Process

__all__ = ["DoorReach"]

log = logging.getLogger(__name__)


class DoorReach(Reach):
    """A chardev of QEMU's that reconnects."""

    def __init__(self, helper: Reached, host: HelperHost, tasks: Tasks) -> None:
        super().__init__(helper, host, tasks)
        self._door: Door | None = None
        """Where QEMU is awaited, while it is."""

    def heard(self) -> None:
        if self._helper.process is not None:
            self._begin_to_coax(self._helper.process)  # Who has started it may not have come to the end of that.

    def connected(self) -> None:
        if not self._host.link_wanted(self._record.alias):
            # QEMU has taken the link of a back end that is there again up.
            self._tasks.start(self._pull(), f"link of {self._record.alias}")

    @property
    def sleeps(self) -> bool:
        return self._host.paused

    async def connect(self, fds: FdTable) -> bool:
        """Wait for QEMU; False when its interface went away meanwhile."""
        for source in (each for each in self._record.plan.fds if isinstance(each, Accept)):
            with Door(source.path) as self._door:
                peer = await self._door.accept()
            if peer is None:
                return False
            fds.put(source, peer.detach())
        plan = self._record.plan
        begin = None if plan.stderr is None or silent(plan.argv) else _size(plan.stderr.path)
        self._helper.record = replace(self._record, coaxes=begin)
        return True

    async def serving(self, process: Process) -> None:
        self._begin_to_coax(process)

    def _begin_to_coax(self, process: Process) -> None:
        record = self._record
        if record.plan.stderr is not None and record.coaxes is not None:
            coaxing = self._coax(process, record.plan.stderr.path, record.coaxes)
            self._tasks.start(coaxing, f"first word of the guest on {record.alias}")

    async def _coax(self, process: Process, path: Path, begin: int) -> None:
        helper, alias = self._helper, self._record.alias

        def going() -> bool:
            there = helper.process is process and not helper.over and not self._host.stopping
            return there and not self._host.paused and self._host.link_wanted(alias)

        if not await coax(path, begin, self._bounce, going) and going():
            log.info("%s: the guest has not spoken yet; until it does, nobody can connect to it", alias)
        if helper.process is process:
            helper.record = replace(self._record, coaxes=None)
            self._host.save()

    async def _bounce(self, seconds: float) -> None:
        """Take the cable out for so long."""
        self._helper.record = replace(self._record, unplugged=True)
        self._host.save()
        await self._pull()
        await asyncio.sleep(seconds)
        # Where it has ended meanwhile, its successor puts the cable in, if there is one.
        if self._helper.process is not None and not self._helper.over and not self._host.stopping:
            await self._helper.raise_link()

    async def _pull(self) -> None:
        await self._host.execute("set_link", {"name": self._record.alias, "up": False})

    def cancel(self) -> None:
        if self._door is not None:
            self._door.close()


def _size(path: Path) -> int:
    """Bytes of that file; 0 for none."""
    try:
        return path.stat().st_size
    except OSError:
        return 0
