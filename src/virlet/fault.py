"""Named moments at which a test has the daemon killed, as a power cut of its own would.

A daemon that is started with ``VIRLET_FAULT=start.planned`` in its environment kills itself with SIGKILL when it comes
to that point, with ``VIRLET_FAULT=status.written:3`` when it comes there for the third time.  Without the variable a
point is one comparison of two strings (50 ns).  ``tests/faults`` lists the points in the source and kills the daemon at
each of them.
"""

from __future__ import annotations

import os
import signal
from collections.abc import MutableMapping

__all__ = ["VARIABLE", "arm", "point"]

VARIABLE = "VIRLET_FAULT"
"""Environment variable: the name of a point, and after a colon how often it is passed at the end."""

_wanted = ""
_passes = 0


def arm(environ: MutableMapping[str, str]) -> None:
    """Read the variable and take it away, so that no child of ours has it."""
    global _wanted, _passes
    _wanted, _, passes = environ.pop(VARIABLE, "").partition(":")
    _passes = int(passes) if passes.isdecimal() else 1


def point(name: str) -> None:
    """The moment called *name*, which is written here and nowhere else."""
    if name == _wanted:
        _reached()


def _reached() -> None:
    global _passes
    _passes -= 1
    if _passes == 0:
        os.kill(os.getpid(), signal.SIGKILL)
