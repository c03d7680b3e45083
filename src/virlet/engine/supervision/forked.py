"""A helper that QEMU starts itself (QEMU's passt netdev), put behind the guest's card and taken from it.

The card is on a hub, on which the netdev comes and goes without the guest's seeing that.  Which process it is, only
HMP's ``info network`` tells.

Taking such a netdev away is a matter of order: QEMU 11.1 ends passt, sees that it has ended, and starts another one for
a netdev whose memory it has freed already (it crashed in most trials).  So passt loses its link first, by which
QEMU would start it, then its life, and QEMU is asked twice more, after which it has read the end of the stream and has
tried.  The socket to a passt that it starts is connected by a thread of QEMU's, which says so, or that it failed, when
it comes to that, to a netdev that must be there still; and where passt could not be started it closes by then a
descriptor that is closed already, and must not be anybody else's.  So nothing is taken away, and nothing made,
before QEMU names a process or an error: on a busy host it crashed within a few losses without that.
"""

from __future__ import annotations

import asyncio
import logging
import re
import stat
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path

from virlet.errors import OperationTimeout, SystemFailure, VirletError
from virlet.fault import point
from virlet.plan.base import Forked, HelperPlan
from virlet.proc.identity import identify
from virlet.proc.process import Process
from virlet.qmp.monitor import QmpError

__all__ = [
    "GRACE",
    "Execute",
    "forked_of",
    "found",
    "has_tried",
    "let_end",
    "pid_file",
    "plug_in",
    "pull_out",
    "remove_dead",
]

log = logging.getLogger(__name__)

Execute = Callable[[str, Mapping[str, object]], Awaitable[object]]
"""Have QEMU run a command."""

CONNECT_WAIT = 5.0
"""Seconds for QEMU to connect to the passt that it has started: it takes it some milliseconds, and no event tells."""
GRACE = 1.0
_UNSETTLED = ("connecting to passt", "launching passt")
"""What QEMU says of a netdev while a thread of its own is connecting it."""
_PID_FILE = re.compile(r"/(?:[^/\0]+/)*passt-[A-Za-z0-9]{6}\.pid")


async def plug_in(execute: Execute, plan: HelperPlan) -> Process:
    """Have QEMU start its helper, and find that; raises what QEMU says, having left nothing behind."""
    forked = forked_of(plan)
    _point(forked.link, str(plan.argv[0]))
    try:
        for command in forked.adds:
            await execute(command.name, command.arguments)
        point("forked.added")
        return await _connected(execute, plan)
    except VirletError:
        await pull_out(execute, plan, None)
        raise


async def pull_out(execute: Execute, plan: HelperPlan, process: Process | None) -> None:
    """Take from QEMU what :func:`plug_in` has put there; what is not there is no trouble."""
    forked = forked_of(plan)
    remove(forked.link)
    if process is None:
        process = await found(execute, plan)  # None also where it has just ended, and QEMU is to see that.
    if process is not None:
        left = pid_file(process.pid)
        await process.terminate(GRACE)
        process.close()
        if left is not None:
            remove(left)
    point("forked.alone")
    for command in reversed(forked.adds):
        try:
            if command.arguments.get("id") == forked.netdev:
                await has_tried(execute, plan)
            await execute("netdev_del", {"id": command.arguments["id"]})
        except QmpError as error:
            log.debug("%s", error)


async def let_end(plan: HelperPlan, process: Process) -> None:
    """End it for a QEMU that is about to end, too, and is not to start another one."""
    remove(forked_of(plan).link)
    left = pid_file(process.pid)
    await process.terminate(GRACE)
    if left is not None:
        remove(left)


async def _connected(execute: Execute, plan: HelperPlan) -> Process:
    """The process, once QEMU is connected to it; raises :class:`OperationTimeout`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_WAIT
    while loop.time() < deadline:
        process = await found(execute, plan)
        if process is not None:
            return process
    raise OperationTimeout(f"QEMU has started {plan.name}, but does not connect to it")


async def found(execute: Execute, plan: HelperPlan) -> Process | None:
    """The living process that QEMU names, if it is one of *plan*: what QEMU says is not trusted."""
    forked = forked_of(plan)
    pid = _pid_in(await _settled(execute, forked.netdev))
    identity = identify(pid) if pid else None
    if identity is None or _words(identity.pid)[:1] != [str(forked.link)]:
        return None
    return Process.adopt(identity, plan.name)


async def has_tried(execute: Execute, plan: HelperPlan) -> None:
    """Wait until QEMU has read the end of a lost process's stream, and has started another one or failed to.

    It reads that, where it reads at all, before it has given two answers.
    """
    for _ in range(2):
        await execute("query-status", {})
    await _settled(execute, forked_of(plan).netdev)


async def _settled(execute: Execute, netdev: str) -> str:
    """What QEMU says of *netdev* once it has done with the last start, nothing when there is none.

    Raises :class:`OperationTimeout`.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_WAIT
    while True:
        text = await execute("human-monitor-command", {"command-line": "info network"})
        said = _said_of(text if isinstance(text, str) else "", netdev)
        if not said.endswith(_UNSETTLED):
            return said
        if loop.time() > deadline:
            raise OperationTimeout(f"QEMU has been starting '{netdev}' for {CONNECT_WAIT:g} s ({said})")


def _said_of(text: str, netdev: str) -> str:
    pattern = re.compile(rf"(?:^|\s){re.escape(netdev)}: (.*)")
    return next((match[1].rstrip() for line in text.splitlines() if (match := pattern.search(line))), "")


def _pid_in(said: str) -> int:
    match = re.search(r"connected to pid ([0-9]{1,9})$", said)
    return int(match[1]) if match is not None else 0


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return []


def pid_file(pid: int) -> Path | None:
    """Where passt has written its pid: QEMU removes that with the netdev, but not when it is killed."""
    words = _words(pid)
    if "--pid" not in words[:-1]:
        return None
    path = words[words.index("--pid") + 1]
    return Path(path) if _PID_FILE.fullmatch(path) else None


def remove_dead(path: Path) -> None:
    """Remove a file that passt has left where QEMU could not do so any more; one that names a living process stays.

    The path was on record for a while, in a directory that everybody can write: what else is there by now stays, too.
    """
    with suppress(OSError, ValueError):
        if not _PID_FILE.fullmatch(str(path)) or not stat.S_ISREG(path.lstat().st_mode):
            return
        with path.open("rb") as said:
            words = said.read(32).split()
        # Empty where QEMU has made it and passt had not come to write it.
        if not words or identify(int(words[0])) is None:
            remove(path)


def forked_of(plan: HelperPlan) -> Forked:
    """What of *plan*, which is one for QEMU to start, is QEMU's to do."""
    assert plan.forked is not None
    return plan.forked


def _point(link: Path, program: str) -> None:
    try:
        remove(link)
        link.symlink_to(program)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot make the link '{link}'") from error


def remove(path: Path) -> None:
    """Remove a file that may be there; what cannot be removed is logged."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove %s: %s", path, error.strerror)
