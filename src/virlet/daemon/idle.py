"""The end of a daemon that nobody needs."""

from __future__ import annotations

import asyncio
import logging
from typing import Protocol

__all__ = ["IdleExit", "Occupied"]

log = logging.getLogger(__name__)


class Occupied(Protocol):
    """What can be needed."""

    @property
    def has_clients(self) -> bool: ...

    @property
    def needed(self) -> bool: ...

    def accept_now(self) -> None: ...


class IdleExit:
    """Sets an event after *timeout* seconds without clients and without running guests.

    Guests need the daemon no less than clients: somebody has to bring a lost helper back.
    """

    def __init__(self, server: Occupied, timeout: float, stop: asyncio.Event) -> None:
        self._server = server
        self._timeout = timeout
        self._stop = stop
        self._timer: asyncio.TimerHandle | None = None

    def changed(self) -> None:
        """A client came or went, or something happened to a guest."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._server.has_clients:
            # Guests are looked at when the time is over: the next event, their end among them, starts it again.
            self._timer = asyncio.get_running_loop().call_later(self._timeout, self._over)

    def _over(self) -> None:
        self._timer = None
        self._server.accept_now()
        if not self._server.needed:
            log.info("idle for %g s", self._timeout)
            self._stop.set()
