"""When a helper is tried again, and when it is not: a crash loop must cost little, and a killed helper nothing."""

from __future__ import annotations

import errno
import signal
from collections import deque
from dataclasses import dataclass

from virlet.proc.process import ExitStatus

__all__ = ["Budget", "Losses", "passes"]

_FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
"""What a process does not do to itself: a user, or a kernel that is out of memory, has ended it."""
_SCARCE = frozenset(
    {errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}
)
"""The host is out of something."""


def passes(error: int | None) -> bool:
    """Whether the host is out of something, which is no fault of what was tried, and passes."""
    return error in _SCARCE


@dataclass(frozen=True, slots=True)
class Budget:
    """How much a crash loop may cost before the link is taken down."""

    restarts: int = 5
    """Losses of helpers that failed by themselves before they were *stable*."""
    kills: int = 200
    """Losses to a signal of somebody else's."""
    window: float = 60.0
    """Seconds in which both are counted."""
    stable: float = 1.0
    """Seconds after which a helper counts as having worked: its later loss is not part of a crash loop."""
    pause: float = 0.1
    """Seconds between the second loss and the next attempt; twice as many after each further one."""
    longest: float = 5.0
    """Seconds that a pause never exceeds: how soon a host that was out of something is noticed to have it again."""


class Losses:
    """What one helper has used of its budget.  Times are those of the event loop."""

    def __init__(self, budget: Budget) -> None:
        self.budget = budget
        self._own: deque[float] = deque()
        self._kills: deque[float] = deque()
        self._scarce = 0

    def __len__(self) -> int:
        return len(self._own) or len(self._kills)

    def ended(self, now: float, lived: float, status: ExitStatus | None) -> None:
        """A process of it has ended after *lived* seconds."""
        if lived >= self.budget.stable:
            self.clear()
        killed = status is not None and status.signal in _FROM_OUTSIDE
        self._note(self._kills if killed else self._own, now)

    def not_started(self, now: float, error: int | None) -> bool:
        """No process could be started because of *error*; True when that is the host's trouble, and known already."""
        if passes(error):
            self._scarce += 1
            return self._scarce > 1
        self._note(self._own, now)
        return False

    def _note(self, losses: deque[float], now: float) -> None:
        self._scarce = 0
        losses.append(now)
        while now - losses[0] > self.budget.window:
            losses.popleft()

    @property
    def exhausted(self) -> bool:
        """No further attempt."""
        return len(self._own) > self.budget.restarts or len(self._kills) > self.budget.kills

    @property
    def pause(self) -> float:
        """Seconds until the next attempt: none after the first loss."""
        again = max(len(self._own) - 1, 0) + self._scarce
        return min(self.budget.pause * 2 ** min(again - 1, 20), self.budget.longest) if again else 0.0

    def clear(self) -> None:
        """It works, or its user wants it tried again."""
        self._own.clear()
        self._kills.clear()
        self._scarce = 0
