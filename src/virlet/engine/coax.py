"""Make a quiet guest speak, so that a new passt over vhost-user learns its address.

passt ignores what QEMU says in the guest's place (VHOST_USER_SEND_RARP), and its own first question is lost because the
guest's queues are not there yet (2026-07).  Until the guest has sent a frame, what passt sends has a wrong address.
A guest that sees its cable come back speaks (Linux with IPv6 reports its multicast groups, DHCP clients ask); one whose
processor was busy may have missed that the cable was out while passt was replaced.  passt's log tells that it has heard
the guest, no event does: so it is looked at a few times, and the cable taken out for a moment where it has not.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

__all__ = ["ROUNDS", "coax", "heard"]

_HEARD = b"guest MAC address observed"
ROUNDS = ((0.05, 0.02), (0.3, 0.1), (1.2, 0.3), (2.5, 0.3))
"""Seconds to wait for the guest, then for the cable to be out; Linux acts on one change a second (its link watch)."""


def heard(log: Path, begin: int) -> bool:
    """Whether passt says beyond byte *begin* of its *log* that it has heard the guest; a rotated log is shorter."""
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(begin if begin <= size else 0)
            return _HEARD in file.read()
    except OSError:
        return False


async def coax(log: Path, begin: int, bounce: Callable[[float], Awaitable[None]], going: Callable[[], bool]) -> bool:
    """*bounce* the cable until the guest is :func:`heard`, at most as often as ROUNDS says, and while it is *going*.

    Returns whether the guest was heard.
    """
    for pause, out in ROUNDS:
        await asyncio.sleep(pause)
        if heard(log, begin):
            return True
        if not going():
            return False
        await bounce(out)
    return heard(log, begin)
