"""Run a program that ends by itself, and have what it said."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from virlet.errors import OperationTimeout
from virlet.proc.process import ExitStatus
from virlet.proc.spawn import Command, spawn

__all__ = ["Outcome", "run"]

_MAX_OUTPUT = 1 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended and what it wrote to both its outputs."""

    status: ExitStatus | None
    text: str

    @property
    def ok(self) -> bool:
        """It ended with exit status 0."""
        return self.status is not None and self.status.code == 0


async def run(argv: tuple[str, ...], name: str, *, fds: tuple[int, ...] = (), timeout: float = 5.0) -> Outcome:
    """Run *argv* to its end, SIGKILL after *timeout* seconds.

    Both outputs go to one memory file: no pipe that could fill up, nothing to read meanwhile.

    :raises SystemFailure: it cannot be run.
    :raises OperationTimeout: it did not end in time.
    """
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        process = await spawn(Command(argv, fds=fds, stdout=output, stderr=output, outlives_us=False), name)
        try:
            ended = await process.ended_within(timeout)
        finally:
            if process.running:
                process.signal(signal.SIGKILL)
                await process.exited()
        if not ended:
            raise OperationTimeout(f"{name} did not end within {timeout:g} s")
        data = os.pread(output, _MAX_OUTPUT, 0)
        return Outcome(process.status, data.decode("utf-8", "replace"))
    finally:
        os.close(output)
