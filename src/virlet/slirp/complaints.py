"""What libslirp says of the guest, slowly enough that no guest can fill a disk with it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TextIO

__all__ = ["BURST", "WINDOW", "Complaints"]

BURST = 20
"""Lines that are written within one window."""
WINDOW = 60.0
"""Seconds."""
_LONGEST = 200
"""Characters of one of them."""


class Complaints:
    """Writes lines to *out*; of a flood the first, and how many more there were."""

    def __init__(self, out: TextIO, now: Callable[[], float] = time.monotonic) -> None:
        self._out, self._now = out, now
        self._begun = float("-inf")
        self._written = self._left_out = 0

    def __call__(self, text: bytes) -> None:
        """The guest has done what *text* says; it is told, or counted."""
        now = self._now()
        if now - self._begun >= WINDOW:
            if self._left_out:
                self._write(f"{self._left_out} more lines like those before were left out")
            self._begun, self._written, self._left_out = now, 0, 0
        if self._written == BURST:
            self._left_out += 1
            return
        self._written += 1
        self._write(text.decode(errors="replace")[:_LONGEST].rstrip())

    def _write(self, line: str) -> None:
        print("guest:", line, file=self._out, flush=True)
