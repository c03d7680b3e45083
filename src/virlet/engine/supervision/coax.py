"""Make a quiet guest speak, so that a new passt over vhost-user learns its address.

passt ignores what QEMU says in the guest's place (VHOST_USER_SEND_RARP), and its own first question is lost because the
guest's queues are not there yet (2026-07).  Until the guest has sent a frame, what passt sends has a wrong address.
A guest that sees its cable come back speaks (Linux with IPv6 reports its multicast groups, DHCP clients ask); one whose
processor was busy may have missed that the cable was out while passt was replaced.  passt's log tells that it has heard
the guest, no event does: so it is looked at a few times, and the cable taken out for a moment where it has not.  Where
the log cannot tell, because passt is quiet or nothing can be written there, the guest is left alone: a cable that comes
and goes at a guest that is well does harm.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

__all__ = ["ROUNDS", "coax", "heard", "silent"]

_HEARD = b"guest MAC address observed"
ROUNDS = ((0.05, 0.02), (0.3, 0.1), (1.2, 0.3), (2.5, 0.3))
"""Seconds to wait for the guest, then for the cable to be out; Linux acts on one change a second (its link watch)."""


_SILENT = ("--quiet", "-q", "--log-file", "-l")
"""What keeps passt's word of the guest out of its standard error."""


def silent(argv: Iterable[object]) -> bool:
    """Whether a passt of that command line says nothing of the guest in its log, by the user's wish."""
    return any(str(word).partition("=")[0] in _SILENT for word in argv)


def heard(log: Path, begin: int) -> bool:
    """Whether passt says beyond byte *begin* of its *log* that it has heard the guest; a rotated log is shorter."""
    return _HEARD in _said(log, begin)


def _said(log: Path, begin: int) -> bytes:
    try:
        with log.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(begin if begin <= size else 0)
            return file.read()
    except OSError:
        return b""


async def coax(log: Path, begin: int, bounce: Callable[[float], Awaitable[None]], going: Callable[[], bool]) -> bool:
    """*bounce* the cable until the guest is :func:`heard`, at most as often as ROUNDS says, and while it is *going*.

    Returns whether the guest was heard.  Nothing is bounced while the log is empty: passt begins by saying what it
    offers the guest, so a log without that is not written.
    """
    for pause, out in ROUNDS:
        await asyncio.sleep(pause)
        if heard(log, begin):
            return True
        if not going():
            return False
        if _said(log, begin):
            await bounce(out)
    return heard(log, begin)
