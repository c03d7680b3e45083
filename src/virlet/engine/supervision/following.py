"""One helper and the host's network: it waits for a route, and is replaced when it cannot serve what there is now.

What is asked of the network is the plan's (:mod:`virlet.plan.follow`); here is what happens, and what is told of it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

from virlet.engine.status import HelperRecord
from virlet.engine.supervision.host import HelperHost
from virlet.engine.tasks import Tasks
from virlet.plan.follow import ROUTE, Uplinks, copied, missing_route, outdated, retold, seen
from virlet.proc.logfile import tail
from virlet.proc.process import Process

__all__ = ["Followed", "Following"]

LOOK_BACK = 1 << 16
"""Bytes of a helper's log in which its words about the addresses that it copied are looked for."""
LEAVE = 1.0
"""Seconds that a helper has to end by itself when it is replaced."""


class Followed(Protocol):
    """What is needed of the helper."""

    record: HelperRecord
    process: Process | None

    @property
    def idle(self) -> bool:
        """Nothing is being done with it, and something may be."""
        ...

    def revive(self) -> None:
        """Start it, whatever has kept it from that."""
        ...


class Following:
    """The part of a helper that looks at the network."""

    __slots__ = ("_helper", "_host", "_leaving", "_tasks", "_why")

    def __init__(self, helper: Followed, host: HelperHost, tasks: Tasks) -> None:
        self._helper = helper
        self._host = host
        self._tasks = tasks
        self._why = ""
        """Why its process is being replaced, or started at last, while it is."""
        self._leaving: Process | None = None
        """The process that is ended for that: its end is no loss."""

    @property
    def lacks_route(self) -> bool:
        """It would refuse to start now; where nobody can say, it may try."""
        follow = self._helper.record.plan.follow
        if follow is None or not follow.needs_route:
            return False
        return (now := self._host.uplinks()) is not None and missing_route(follow, now)

    def note(self) -> None:
        """A process of it has been started (or taken over): remember what it finds."""
        record = self._helper.record
        if record.plan.follow is None or record.seen is not None or (now := self._host.uplinks()) is None:
            return
        self._helper.record = replace(record, seen=seen(record.plan.follow, now, record.pins))

    def pin(self) -> None:
        """Keep the addresses that the guest was given: the next process would copy others from a changed host.

        The nameserver behind the address that the guest asks is the host's of now.
        """
        record, follow = self._helper.record, self._helper.record.plan.follow
        if follow is None:
            return
        if (now := self._host.uplinks()) is not None:
            argv = retold(record.plan.argv, follow, now.nameservers)
            self._helper.record = record = replace(record, plan=replace(record.plan, argv=argv))
        if record.plan.stderr is None or record.seen is None:
            return
        words = [word for word in (*record.plan.argv, *record.pins) if isinstance(word, str)]
        found = copied(tail(record.plan.stderr.path, LOOK_BACK), words, record.seen.families)
        self._helper.record = replace(record, pins=(*record.pins, *found), seen=None)

    # Waiting

    def wait(self) -> None:
        """It would not start now: take the cable out until there is a route."""
        if not self._helper.record.waits:
            self._tasks.start(self._wait(), f"wait of {self._what}")

    async def _wait(self) -> None:
        self._why = ""
        self._helper.record = replace(self._helper.record, waits=ROUTE)
        self.tell_waits()
        await self._unplug()

    def tell_waits(self) -> None:
        """Say so, if it waits for something."""
        if self._helper.record.waits:
            self._tell("waiting", f"{self._what} waits for {self._helper.record.waits}; until then its link is down")

    # Following

    def follow(self, uplinks: Uplinks) -> None:
        """The host's network has changed to *uplinks*: start what waited, replace what cannot serve it."""
        record, process = self._helper.record, self._helper.process
        follow = record.plan.follow
        if follow is None or self._host.stopping or not self._helper.idle or self._why or record.gave_up:
            return
        if record.waits:
            if not missing_route(follow, uplinks):
                self._why = "the host has a default route now"
                self._helper.revive()
        elif process is not None and record.seen is None:
            self.note()  # When it started nobody could say.
        elif process is not None and record.seen is not None:
            self._why = outdated(follow, record.seen, uplinks)
            if self._why:
                self._leaving = process
                self._tasks.start(self._replace(process), f"replacement of {self._what}")

    async def _replace(self, process: Process) -> None:
        """End the process; what follows is a restart that counts as none.

        The guest's cable is out meanwhile, so that it asks for what it was not offered before.
        """
        await self._unplug()
        await process.terminate(LEAVE)

    async def _unplug(self) -> None:
        self._helper.record = replace(self._helper.record, unplugged=True)
        self._host.save()
        await self._host.execute("set_link", {"name": self._helper.record.alias, "up": False})

    def left(self, process: Process) -> bool:
        """*process* has ended; whether we have ended it."""
        if self._leaving is not process:
            return False
        self._leaving = None
        return True

    def arrived(self, process: Process) -> bool:
        """*process* does its work; whether it was started to follow the network, which is told then."""
        why, self._why = self._why, ""
        if not why:
            return False
        self._tell("followed", f"{self._what} was started anew: {why} (pid {process.pid})")
        if (now := self._host.uplinks()) is not None:
            self.follow(now)  # It may have changed again meanwhile.
        return True

    def give_up(self) -> None:
        """It is not started, or not wholly: somebody else tells why."""
        self._why = ""

    @property
    def _what(self) -> str:
        return f"{self._helper.record.plan.name} of {self._helper.record.alias}"

    def _tell(self, kind: str, message: str) -> None:
        self._host.tell(self._helper.record.alias, kind, message)
