"""A helper that QEMU starts itself (QEMU's passt netdev), kept alive all the same.

QEMU tells nobody that its passt has died: we watch the process, which HMP's ``info network`` names.  QEMU starts
another one when it reads the end of the stream; when that fails, or while the guest takes no frames, nothing follows.
Then the netdev is taken from the hub that the guest's card is on, and another one is put there, which the guest does
not see.

Taking such a netdev away is a matter of order: QEMU 11.1 ends passt, sees that it has ended, and starts another one for
a netdev whose memory it has freed already (it crashed in most trials).  So passt loses its link first, by which
QEMU would start it, then its life, and QEMU is asked twice more, after which it has read the end of the stream; in 126
trials of that QEMU was well.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import re
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

from virlet.engine.helper_host import HelperHost
from virlet.engine.helpers import ANNOUNCE, Helper
from virlet.engine.status import HelperRecord
from virlet.engine.tasks import Tasks
from virlet.errors import InternalError, OperationInvalid, OperationTimeout, SystemFailure, VirletError
from virlet.plan.base import Forked, HelperPlan
from virlet.proc.identity import identify
from virlet.proc.logfile import tail
from virlet.proc.process import Process
from virlet.proc.sockets import Listeners
from virlet.qmp.monitor import QmpError

__all__ = ["ForkedHelper", "let_end", "plug_in", "pull_out", "supervised"]

log = logging.getLogger(__name__)

Execute = Callable[[str, Mapping[str, object]], Awaitable[object]]
"""Have QEMU run a command."""

CONNECT_WAIT = 5.0
"""Seconds for QEMU to connect to the passt that it has started: it takes it some milliseconds, and no event tells."""
GRACE = 1.0
_PID_FILE = re.compile(r"/(?:[^/\0]+/)*passt-[A-Za-z0-9]{6}\.pid")


def supervised(host: HelperHost, tasks: Tasks, record: HelperRecord) -> Helper:
    """The supervisor of *record*."""
    kind = Helper if record.plan.forked is None else ForkedHelper
    return kind(host, tasks, record)


async def plug_in(execute: Execute, plan: HelperPlan) -> Process:
    """Have QEMU start its helper, and find that; raises what QEMU says, having left nothing behind."""
    forked = _forked(plan)
    _point(forked.link, str(plan.argv[0]))
    try:
        for command in forked.adds:
            await execute(command.name, command.arguments)
        return await _connected(execute, plan)
    except VirletError:
        await pull_out(execute, plan, None)
        raise


async def pull_out(execute: Execute, plan: HelperPlan, process: Process | None) -> None:
    """Take from QEMU what :func:`plug_in` has put there; what is not there is no trouble."""
    forked = _forked(plan)
    _unlink(forked.link)
    if process is None:
        process = await _found(execute, plan)
    if process is not None:
        left = _pid_file(process.pid)
        await process.terminate(GRACE)
        process.close()
        if left is not None:
            _unlink(left)
    for command in reversed(forked.adds):
        try:
            if command.arguments.get("id") == forked.netdev:
                for _ in range(2):
                    await execute("query-status", {})
            await execute("netdev_del", {"id": command.arguments["id"]})
        except QmpError as error:
            log.debug("%s", error)


async def let_end(plan: HelperPlan, process: Process) -> None:
    """End it for a QEMU that is about to end, too, and is not to start another one."""
    _unlink(_forked(plan).link)
    left = _pid_file(process.pid)
    await process.terminate(GRACE)
    if left is not None:
        _unlink(left)


async def _connected(execute: Execute, plan: HelperPlan) -> Process:
    """The process, once QEMU is connected to it; raises :class:`OperationTimeout`."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + CONNECT_WAIT
    while loop.time() < deadline:
        process = await _found(execute, plan)
        if process is not None:
            return process
    raise OperationTimeout(f"QEMU has started {plan.name}, but does not connect to it")


async def _found(execute: Execute, plan: HelperPlan) -> Process | None:
    """The living process that QEMU names, if it is one of *plan*: what QEMU says is not trusted."""
    forked = _forked(plan)
    text = await execute("human-monitor-command", {"command-line": "info network"})
    pid = _pid_in(text if isinstance(text, str) else "", forked.netdev)
    identity = identify(pid) if pid else None
    if identity is None or _words(identity.pid)[:1] != [str(forked.link)]:
        return None
    return Process.adopt(identity, plan.name)


def _pid_in(text: str, netdev: str) -> int:
    for line in text.splitlines():
        match = re.search(rf"(?:^|\s){re.escape(netdev)}: .*connected to pid ([0-9]{{1,9}})$", line.rstrip())
        if match is not None:
            return int(match[1])
    return 0


def _words(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "surrogateescape").split("\0")
    except OSError:
        return []


def _pid_file(pid: int) -> Path | None:
    """QEMU removes it with the netdev, but not when it is killed."""
    words = _words(pid)
    if "--pid" not in words[:-1]:
        return None
    path = words[words.index("--pid") + 1]
    return Path(path) if _PID_FILE.fullmatch(path) else None


def _forked(plan: HelperPlan) -> Forked:
    assert plan.forked is not None
    return plan.forked


def _point(link: Path, program: str) -> None:
    try:
        _unlink(link)
        link.symlink_to(program)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot make the link '{link}'") from error


def _unlink(path: Path) -> None:
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("cannot remove %s: %s", path, error.strerror)


class ForkedHelper(Helper):
    """A helper that QEMU starts, supervised."""

    _left: Path | None = None
    """The file in which the process has written its pid."""

    def own(self, process: Process) -> None:
        """Watch *process* from now on."""
        self._left = _pid_file(process.pid)
        super().own(process)

    async def _successor(self) -> Process | None:
        try:
            return await self._another()
        except OperationInvalid:
            return None  # QEMU has ended.
        except VirletError as error:
            raise SystemFailure(str(error), errno=errno.ECHILD) from error

    async def _another(self) -> Process:
        """The process that QEMU has started meanwhile, or else a new one behind a new netdev."""
        plan, execute = self.record.plan, self._host.execute
        # Two answers later QEMU has read the end of the stream, if it can, and has started another one, or failed to.
        for _ in range(2):
            await execute("query-status", {})
        process = await _found(execute, plan)
        if process is not None:
            return process
        await pull_out(execute, plan, None)
        return await plug_in(execute, plan)

    async def _confirm(self, before: Listeners) -> None:
        await self._host.execute("announce-self", ANNOUNCE)
        await super()._confirm(before)

    def _last_words(self) -> str:
        return tail(_forked(self.record.plan).log, 400)

    async def end(self) -> None:
        """QEMU, or its interface, is gone: so is the helper."""
        if self._host.stopping:
            left = self._left
            await super().end()
            if left is not None:
                _unlink(left)
            return
        self._over = True
        process, self.process = self.process, None
        try:
            await pull_out(self._host.execute, self.record.plan, process)
        except (OperationInvalid, InternalError) as error:
            log.debug("%s: %s", self.alias, error)
            if process is not None:
                await process.terminate(GRACE)
        finally:
            self._let_go()
        self._remove_leaves()
