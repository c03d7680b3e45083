"""Has a program finished with its options?  passt says nothing, and installs its seccomp filter last of all."""

from __future__ import annotations

import os

from virlet.proc.process import Process

__all__ = ["PATIENCE", "filters", "settled"]

PATIENCE = 0.5
"""Seconds for a program that installs no filter to refuse its options; passt takes 7 ms."""
_STEP = 0.005


def filters(pid: int | None = None) -> int:
    """How many seccomp filters a process has, ourselves without *pid*; 0 where the kernel does not say (before 5.9)."""
    try:
        with open(f"/proc/{pid or os.getpid()}/status", encoding="utf-8", errors="replace") as status:
            lines = (line.partition(":") for line in status)
            return next((int(value) for name, _, value in lines if name == "Seccomp_filters"), 0)
    except OSError:
        return 0


async def settled(process: Process) -> bool:
    """Wait until *process*, a child of ours, has a filter more than we, has ended (False), or PATIENCE is over.

    No event tells of a filter: it is looked for every few milliseconds.  The looks are counted, not the time: a host
    that stands still for a second does so with the program.
    """
    ours = filters()
    for _ in range(max(1, round(PATIENCE / _STEP))):
        if filters(process.pid) > ours:
            break
        if await process.ended_within(_STEP):
            return False
    return process.running
