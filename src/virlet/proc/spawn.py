"""Start a program, with exactly the descriptors it is meant to have, and with no way to gain a privilege.

``subprocess.Popen`` does the work: without a hook it uses vfork(2) and closes whatever was not named.  It has no field
for no_new_privs, but that is an attribute of a thread which its children inherit (PR_SET_NO_NEW_PRIVS in prctl(2)), so
children are started from one thread that has given privileges up.  Measured against setpriv(1) in front of the
program: 0.06 ms instead of 0.8, one execve less, and the command in the log is the command that runs.  The daemon
itself keeps the right to run a set-user-ID helper for those who configured one.
"""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import os
import resource
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache

from virlet.errors import SystemFailure
from virlet.fault import point
from virlet.paths import program
from virlet.plan.rights import Grant
from virlet.proc.confine import restrict
from virlet.proc.identity import ProcessIdentity, identify_child
from virlet.proc.limits import files_of_children
from virlet.proc.process import Process
from virlet.proc.threads import alone, worker

__all__ = ["DEVNULL", "Command", "spawn"]

log = logging.getLogger(__name__)

DEVNULL = subprocess.DEVNULL

_HELD = ("/bin/sh", "-c", 'read -r go && exec "$@" </dev/null', "sh")
"""In front of a program that waits: without a line on its standard input it ends."""
_PR_SET_NO_NEW_PRIVS = 38
_PR_CAP_AMBIENT = 47
_PR_CAP_AMBIENT_CLEAR_ALL = 4


@dataclass(frozen=True, slots=True)
class Command:
    """What to run and how.  Descriptors keep their numbers, and stay open here: the caller closes its own."""

    argv: tuple[str, ...]
    fds: tuple[int, ...] = ()
    """Inherited under the same numbers; everything else is closed in the child."""
    env: Mapping[str, str] | None = None
    """The whole environment; None is ours."""
    stdin: int = DEVNULL
    stdout: int = DEVNULL
    stderr: int = DEVNULL
    """Give a file rather than a pipe to a process that outlives us: passt is killed by SIGPIPE otherwise."""
    cwd: str = "/"
    new_session: bool = True
    """Keeps a terminal's signals and the daemon's death away."""
    outlives_us: bool = True
    """Without it, it is killed when the daemon dies, where the host has setpriv(1) to arrange that: for trials."""
    held: bool = False
    """It becomes the program when :meth:`Process.proceed` says so, and ends if we end before: nothing ever runs that
    its starter had no time to write down.  Costs a shell's 0.7 ms, of which the program's start is no later than that.
    """
    no_new_privileges: bool = True
    """No set-user-ID program below it gains anything, and ambient capabilities are dropped."""
    grants: tuple[Grant, ...] | None = None
    """Rights to files, all others are taken away (landlock) where the kernel can; None: it may what we may."""
    limits: Mapping[int, tuple[int, int]] = field(default_factory=dict)
    """``resource.RLIMIT_…`` → (soft, hard)."""

    def __str__(self) -> str:
        """One line to paste into a shell (the descriptors are its reader's)."""
        return shlex.join(self.argv)


class _Popen(subprocess.Popen[bytes]):
    """Popen that never waits: its pidfd is watched elsewhere, and guests outlive us."""

    def __del__(self) -> None:
        pass


@cache
def _libc() -> ctypes.CDLL:
    """Once: each is a class of its own."""
    return ctypes.CDLL(None, use_errno=True)


def _give_up_privileges() -> None:
    """In the thread that starts children, for good (the second time costs a microsecond)."""
    libc = _libc()
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise SystemFailure.of(OSError(ctypes.get_errno(), ""), "cannot set no_new_privs")
    # Fails only where the kernel has no ambient capabilities, and then there are none to drop.
    libc.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)


def _popen(command: Command) -> tuple[int, ProcessIdentity, int]:
    """Start it; returns its pidfd, its identity and what holds it, -1 for nothing.  Runs in a starter thread."""
    if command.no_new_privileges:
        _give_up_privileges()
    if not command.held or not _executable(command.argv[0]):
        return (*_identified(command), -1)
    reading, holding = os.pipe()
    try:
        return (*_identified(replace(command, argv=(*_HELD, *command.argv), stdin=reading)), holding)
    except BaseException:
        os.close(holding)
        raise
    finally:
        os.close(reading)


def _identified(command: Command) -> tuple[int, ProcessIdentity]:
    if command.grants is None:
        process = _start(command)
    else:
        # A thread cannot shake off its landlock domain, so each such child has one of its own, which ends.
        process = alone("spawn-confined", _start_confined, command, command.grants)
    point("spawn.running")
    try:
        for limit, values in _limits(command).items():
            resource.prlimit(process.pid, limit, values)
        identity = identify_child(process.pid)
        return os.pidfd_open(process.pid), identity
    except OSError:
        process.kill()
        process.wait()
        raise


def _limits(command: Command) -> Mapping[int, tuple[int, int]]:
    before = files_of_children()
    # The limits of a set-user-ID program are not ours to change.
    if before is None or not command.no_new_privileges:
        return command.limits
    return {resource.RLIMIT_NOFILE: before, **command.limits}


def _start_confined(command: Command, grants: tuple[Grant, ...]) -> _Popen:
    restrict(grants)
    return _start(command)


def _executable(path: str) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)


def _argv(command: Command) -> tuple[str, ...]:
    """What is executed; a program that cannot be is left for the kernel to refuse."""
    if command.outlives_us or not _executable(command.argv[0]) or (setpriv := program("setpriv")) is None:
        return command.argv
    # The death that counts is that of the thread which starts it: those of the pools end with the daemon.
    return (setpriv, "--pdeathsig", "KILL", "--", *command.argv)


def _start(command: Command) -> _Popen:
    return _Popen(
        _argv(command),
        stdin=command.stdin,
        stdout=command.stdout,
        stderr=command.stderr,
        env=command.env,
        cwd=command.cwd,
        pass_fds=command.fds,
        start_new_session=command.new_session,
        umask=0o077,
    )


def _checked(command: Command) -> None:
    if any(fd <= 2 for fd in command.fds):
        raise ValueError(f"descriptors 0 to 2 are stdin, stdout and stderr: {command.fds}")


async def spawn(command: Command, name: str) -> Process:
    """Start *command*, called *name* in messages; returns as soon as the kernel has accepted the program.

    :raises SystemFailure: there is no such program, or it cannot be run.  No child is left behind then, nor when the
        caller is cancelled.
    """
    _checked(command)
    log.info("starting %s: %s", name, command)
    try:
        # One thread for each kind of child: what a thread gave up, it cannot take back.
        starter = worker("spawn-plain" if command.no_new_privileges else "spawn-privileged")
    except OSError as error:
        raise _cannot_run(command, error) from error
    started = asyncio.get_running_loop().run_in_executor(starter, _popen, command)
    cancelled: asyncio.CancelledError | None = None
    while not started.done():
        # The caller closes the descriptors when we return, so a cancellation waits the millisecond too.
        try:
            await asyncio.wait({started})
        except asyncio.CancelledError as error:
            cancelled = error
    try:
        pidfd, identity, holding = started.result()
    except OSError as error:
        raise _cannot_run(command, error) from error
    process = Process(pidfd, identity, name, holding)
    if cancelled is not None:
        process.signal(signal.SIGKILL)
        await process.exited()
        raise cancelled
    return process


def _cannot_run(command: Command, error: OSError) -> SystemFailure:
    return SystemFailure.of(error, f"cannot run {command.argv[0]}", hint=_hint(error))


def _hint(error: OSError) -> str | None:
    if error.errno == errno.EAGAIN:
        return "you have as many processes and threads as you may: see ulimit -u, or the TasksMax of your session"
    if isinstance(error, FileNotFoundError):
        return "install it, or correct the path"
    if isinstance(error, PermissionError):
        return "it must be executable for you, and not on a filesystem mounted noexec"
    return None
