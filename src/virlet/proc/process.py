"""One process, watched by its pidfd in the event loop: no thread, no SIGCHLD, no polling.

A pidfd becomes readable when the process has ended (pidfd_open(2)), also for one that is not our child, and also when
nobody reaps it: an adopted guest under an init that reaps nothing stays a zombie, and its pidfd is readable.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal as signals
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from virlet.errors import OperationTimeout, SystemFailure
from virlet.proc.identity import ProcessIdentity, identify

__all__ = ["ExitStatus", "Process"]

log = logging.getLogger(__name__)

_KILL_WAIT = 10.0
"""Seconds a process may take to end after SIGKILL: it may have to finish a write to a disk that hangs."""
_GONE = frozenset({errno.ESRCH, errno.ENOENT, errno.EINVAL})
"""What pidfd_open(2) says of a number that no process has: the last two of one that is a thread's by now (ENOENT on
Linux 6.18)."""


@dataclass(frozen=True, slots=True)
class ExitStatus:
    """How a child of ours ended: exactly one of the two is set."""

    code: int | None = None
    signal: int | None = None

    def __str__(self) -> str:
        if self.signal is None:
            return f"exit status {self.code}"
        try:
            name = signals.Signals(self.signal).name
        except ValueError:
            name = str(self.signal)
        return f"signal {name}"


class Process:
    """A running process; make one by :func:`virlet.proc.spawn.spawn` or :meth:`adopt`.

    It lives as long as the process or until :meth:`close`, which forgets the process and leaves it running.  Belongs
    to the event loop in which it was made.
    """

    def __init__(self, pidfd: int, identity: ProcessIdentity, name: str, holding: int = -1) -> None:
        """Takes *pidfd* over, and *holding*, a pipe on whose other end it waits to become its program."""
        self.identity = identity
        self.name = name
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[ExitStatus | None] = self._loop.create_future()
        self._callbacks: list[Callable[[ExitStatus | None], None]] = []
        self._pidfd = pidfd
        self._holding = holding
        self._loop.add_reader(pidfd, self._on_exit)

    @classmethod
    def adopt(cls, identity: ProcessIdentity, name: str) -> Process | None:
        """Watch a process that another daemon started; None when it has ended.

        Raises :class:`SystemFailure` when the kernel has no descriptor for it.
        """
        try:
            pidfd = os.pidfd_open(identity.pid)
        except OSError as error:
            if error.errno in _GONE:
                return None
            raise SystemFailure.of(error, f"cannot watch {name} (pid {identity.pid})") from error
        # Only now: what the pidfd holds cannot change any more, so if the identity fits, it is that process.
        if identify(identity.pid) != identity:
            os.close(pidfd)
            return None
        return cls(pidfd, identity, name)

    @property
    def pid(self) -> int:
        return self.identity.pid

    @property
    def running(self) -> bool:
        """False as soon as its end has been noticed."""
        return not self._end.done()

    @property
    def status(self) -> ExitStatus | None:
        """How it ended; None while it runs, and for a process that was not our child."""
        return self._end.result() if self._end.done() and not self._end.cancelled() else None

    def on_exit(self, callback: Callable[[ExitStatus | None], None]) -> None:
        """Have *callback* called once, from the event loop, when the process has ended (soon, if it has already)."""
        if self._end.done():
            self._loop.call_soon(callback, self.status)
        else:
            self._callbacks.append(callback)

    async def exited(self) -> ExitStatus | None:
        """Wait for the end.  The status is known only of our own children."""
        return await asyncio.shield(self._end)

    def proceed(self) -> None:
        """Let it become its program, if it was held (:attr:`virlet.proc.spawn.Command.held`)."""
        if self._holding >= 0:
            with suppress(BrokenPipeError):  # It has ended, which its pidfd tells.
                os.write(self._holding, b"\n")
            os.close(self._holding)
            self._holding = -1

    def signal(self, number: int) -> bool:
        """Send a signal; False when the process has ended.

        What we have started leads a process group, and all of that gets it: an emulator that is a script of the user's
        may run QEMU as a child of its own, and would end without it.
        """
        if self._pidfd < 0:
            return False
        try:
            signals.pidfd_send_signal(self._pidfd, 0)  # It has not ended, so the number is its own.
            if os.getpgid(self.pid) == self.pid:
                os.killpg(self.pid, number)
            else:
                signals.pidfd_send_signal(self._pidfd, number)
        except ProcessLookupError:
            return False
        return True

    async def terminate(self, grace: float, *, kill: bool = True) -> ExitStatus | None:
        """End it: SIGTERM, and after *grace* seconds SIGKILL.

        Without *kill* a process that outlives its grace raises :class:`OperationTimeout` and stays; so does one that
        even SIGKILL cannot end (it hangs in the kernel).
        """
        self.signal(signals.SIGTERM)
        if await self.ended_within(grace):
            return self.status
        if not kill:
            raise OperationTimeout(f"{self.name} (pid {self.pid}) did not end within {grace:g} s of SIGTERM")
        log.warning("%s (pid %d) did not end within %g s of SIGTERM: SIGKILL", self.name, self.pid, grace)
        self.signal(signals.SIGKILL)
        if await self.ended_within(_KILL_WAIT):
            return self.status
        raise OperationTimeout(
            f"{self.name} (pid {self.pid}) did not end within {_KILL_WAIT:g} s of SIGKILL",
            hint="it hangs in the kernel, perhaps in a filesystem that does not answer; see dmesg",
        )

    async def ended_within(self, seconds: float) -> bool:
        """Wait at most *seconds*; True when it has ended."""
        done, _ = await asyncio.wait({self._end}, timeout=seconds)
        return bool(done)

    def _on_exit(self) -> None:
        status = self._reap()
        self._release()
        if not self._end.done():
            self._end.set_result(status)
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            self._loop.call_soon(callback, status)

    def _reap(self) -> ExitStatus | None:
        try:
            result = os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | os.WNOHANG)
        except ChildProcessError:
            return None  # Adopted: init, or a subreaper, has the status.
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return ExitStatus(code=result.si_status)
        return ExitStatus(signal=result.si_status)

    def _release(self) -> None:
        if self._pidfd >= 0:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = -1
        if self._holding >= 0:
            os.close(self._holding)
            self._holding = -1

    def close(self) -> None:
        """Forget the process and leave it as it is (one that is held ends); whoever waits for its end is cancelled."""
        self._release()
        self._callbacks.clear()
        self._end.cancel()

    def __repr__(self) -> str:
        return f"<Process {self.name} {self.identity}{'' if self.running else ' ended'}>"
