"""One modifying job a guest at a time; who waits too long is told who holds it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from virlet.errors import OperationTimeout

__all__ = ["JOB_WAIT", "JobLock"]

JOB_WAIT = 30.0
"""Seconds that a call waits for the job of another, as libvirt does."""


class JobLock:
    """The state change lock of one guest."""

    __slots__ = ("_begun", "_lock", "_name", "holder", "wait")

    def __init__(self, name: str, wait: float = JOB_WAIT) -> None:
        self._lock = asyncio.Lock()
        self._name = name
        self.wait = wait
        self.holder: str | None = None
        """What is being done now: ``start``, ``destroy`` …"""
        self._begun = 0.0

    @property
    def held(self) -> bool:
        """Is a job running?"""
        return self._lock.locked()

    @property
    def lasts(self) -> float | None:
        """Seconds for which the present job has been at work; None when there is none."""
        return asyncio.get_running_loop().time() - self._begun if self.holder is not None else None

    @asynccontextmanager
    async def hold(self, what: str, *, patient: bool = False) -> AsyncIterator[None]:
        """Be the one job of the guest; raises :class:`OperationTimeout` after ``wait`` seconds unless *patient*."""
        await self._acquire(what, None if patient else self.wait)
        self.holder, self._begun = what, asyncio.get_running_loop().time()
        try:
            yield
        finally:
            self.holder = None
            self._lock.release()

    async def _acquire(self, what: str, seconds: float | None) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._lock.acquire()
        except TimeoutError:
            raise OperationTimeout(
                f"cannot acquire state change lock (held by {self.holder}) to {what} domain '{self._name}'",
                hint=f"wait until its {self.holder} has finished, or destroy it",
            ) from None
