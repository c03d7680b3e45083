"""Keepalive as arithmetic: when to ask whether the peer lives, and when to give it up."""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["Beat", "Pulse"]


class Beat(Enum):
    """What :meth:`Pulse.due` asks for."""

    NOTHING = auto()
    PING = auto()
    DEAD = auto()


class Pulse:
    """After *interval* seconds of silence a PING, after *count* unanswered ones death, one interval later.

    Times are seconds of any monotonic clock.  An interval of zero or less never asks; a count of zero gives the peer
    up after the first silent interval.
    """

    __slots__ = ("_count", "_interval", "_left", "_next")

    def __init__(self, interval: float, count: int, now: float) -> None:
        self._interval = interval
        self._count = count
        self._left = count
        self._next = now + interval

    @property
    def next_at(self) -> float | None:
        """When to call :meth:`due`; None means never."""
        return self._next if self._interval > 0 else None

    def received(self, now: float) -> None:
        """Something came from the peer, no matter what."""
        self._left = self._count
        self._next = now + self._interval

    def due(self, now: float) -> Beat:
        """What to do at *now*; the caller sends the PING or closes the connection."""
        if self._interval <= 0 or now < self._next:
            return Beat.NOTHING
        if self._left == 0:
            return Beat.DEAD
        self._left -= 1
        self._next = now + self._interval
        return Beat.PING
