"""The user's side of a console: a terminal in raw mode, and the key that leaves."""

from __future__ import annotations

import os
import signal
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["ESCAPE", "raw", "until_escape"]

ESCAPE = b"\x1d"
"""Ctrl-], as in ``virsh console`` and telnet."""


def until_escape(data: bytes) -> tuple[bytes, bool]:
    """What of *data* goes to the guest, and whether the user wants to leave."""
    head, mark, _ = data.partition(ESCAPE)
    return head, bool(mark)


@contextmanager
def raw(fd: int) -> Iterator[None]:
    """Put the terminal *fd* into raw mode and back, whatever ends the block: also the signals that end programs.

    A descriptor that is no terminal is left alone.
    """
    if not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    handlers = {number: signal.signal(number, _leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        tty.setraw(fd, termios.TCSADRAIN)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _leave(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)
