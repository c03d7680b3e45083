"""QEMU starts its helper itself (its passt netdev), and another one when it reads the end of the stream, if it can.

When that fails, or while the guest takes no frames, nothing follows, and QEMU tells nobody: then the netdev is replaced
(:mod:`virlet.engine.supervision.forked`), which the guest does not see.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from dataclasses import replace

from virlet.engine.supervision.forked import (
    GRACE,
    forked_of,
    found,
    has_tried,
    pid_file,
    plug_in,
    pull_out,
    remove_dead,
)
from virlet.engine.supervision.reach import ANNOUNCE, Reach
from virlet.errors import InternalError, OperationInvalid, SystemFailure, VirletError
from virlet.proc.logfile import tail
from virlet.proc.process import Process
from virlet.proc.sockets import Listeners, listeners

__all__ = ["ForkedReach"]

log = logging.getLogger(__name__)


class ForkedReach(Reach):
    """A child of QEMU's, watched by its pidfd."""

    def owned(self, process: Process) -> None:
        self._helper.record = replace(self._record, pid_file=pid_file(process.pid))

    def listeners(self) -> Listeners:
        """Nobody: QEMU may have started another one already, and who has a socket of ours that passt does not tell."""
        return listeners(())

    async def successor(self) -> Process | None:
        """Not cut short: QEMU would be left in the middle of it, and cannot be taken its netdev then."""
        doing = asyncio.ensure_future(self._successor())
        try:
            return await asyncio.shield(doing)
        except asyncio.CancelledError:
            await asyncio.wait({doing})
            if not doing.cancelled() and doing.exception() is None and (process := doing.result()) is not None:
                process.close()
            raise

    async def _successor(self) -> Process | None:
        try:
            return await self._another()
        except OperationInvalid:
            return None  # QEMU has ended.
        except VirletError as error:
            raise SystemFailure(str(error), errno=errno.ECHILD) from error

    async def _another(self) -> Process:
        """The process that QEMU has started meanwhile, or else a new one behind a new netdev."""
        plan, execute = self._record.plan, self._host.execute
        await has_tried(execute, plan)
        process = await found(execute, plan)
        if process is not None:
            return process
        await pull_out(execute, plan, None)
        return await plug_in(execute, plan)

    def heard(self) -> None:
        if self._record.restarts > 0:  # Who has had it started may not have come to that.
            self._tasks.start(self.greet(), f"announcement of {self._record.alias}")

    async def greet(self) -> None:
        await self._host.execute("announce-self", ANNOUNCE)

    def last_words(self) -> str:
        return tail(forked_of(self._record.plan).log, 400)

    async def end(self, process: Process | None) -> None:
        if self._host.stopping:
            left = self._record.pid_file
            await super().end(process)
            if left is not None:
                remove_dead(left)
            return
        try:
            await pull_out(self._host.execute, self._record.plan, process)
        except (OperationInvalid, InternalError) as error:
            log.debug("%s: %s", self._record.alias, error)
            if process is not None:
                await process.terminate(GRACE)
