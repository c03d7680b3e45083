"""The host's network comes, goes and moves; guests follow.

The kernel tells (:mod:`virlet.proc.routes`, :mod:`virlet.proc.resolver`).  A change comes in a burst (link, addresses,
routes of two families, nameservers), so we look when it has been quiet for a moment, or at last when it never is.
"""

from __future__ import annotations

import asyncio
import logging

from virlet.engine.context import Context
from virlet.errors import SystemFailure
from virlet.plan.follow import Uplinks
from virlet.proc.resolver import ResolverWatch
from virlet.proc.routes import RouteWatch, uplinks

__all__ = ["Follower"]

log = logging.getLogger(__name__)

QUIET = 0.2
"""Seconds without news after which a change counts as complete: an IPv6 route follows the IPv4 one that soon."""
LATEST = 1.0
"""Seconds after the first news at which we look although they go on."""
LATER = 5.0
"""Seconds until we look again where nothing could be seen: no event tells that we have descriptors again."""


class Follower:
    """The one watch of a driver."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._watches: list[RouteWatch | ResolverWatch] = []
        self._known: Uplinks | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._deadline = 0.0

    def open(self) -> None:
        """Begin; what has changed while no daemon watched is seen now.

        What the kernel does not let us watch is reported.
        """
        for kind in (RouteWatch, ResolverWatch):
            try:
                watch = kind()
            except SystemFailure as error:
                log.warning("guests do not follow changes of the host's network: %s", error)
                continue
            self._watches.append(watch)
            asyncio.get_running_loop().add_reader(watch.fileno(), self._readable, watch)
        self._look()

    def _readable(self, watch: RouteWatch | ResolverWatch) -> None:
        try:
            if watch.read():
                self._soon()
        except SystemFailure as error:
            log.error("guests no longer follow changes of the host's network: %s", error)
            self._end(watch)

    def _soon(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        if self._timer is None:
            self._deadline = now + LATEST
        else:
            self._timer.cancel()
        self._timer = loop.call_at(min(now + QUIET, self._deadline), self._look)

    def _look(self) -> None:
        self._timer = None
        try:
            now = uplinks()
        except SystemFailure as error:
            log.warning("%s; looking again in %g s", error, LATER)
            self._timer = asyncio.get_running_loop().call_later(LATER, self._look)
            return
        if now == self._known:
            return
        if self._known is not None and now.routes != self._known.routes:
            there = ", ".join(f"IPv{family} by {link}" for family, link in sorted(now.routes))
            log.info("the host's default routes: %s", there or "none")
        if self._known is not None and now.nameservers != self._known.nameservers:
            log.info("the host's nameservers: %s", ", ".join(now.nameservers) or "none")
        self._known = now
        for guest in self._context.guests:
            for helper in tuple(guest.run.helpers.values()) if guest.run is not None and guest.run.reachable else ():
                helper.follow(now)

    def close(self) -> None:
        """Watch no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._watches:
            self._end(self._watches[-1])

    def _end(self, watch: RouteWatch | ResolverWatch) -> None:
        self._watches.remove(watch)
        asyncio.get_running_loop().remove_reader(watch.fileno())
        watch.close()
