"""One start, step by step: processes, their sockets, the monitor.

QEMU and its helpers are started side by side: we bind QEMU's sockets and dial them ourselves, so nobody waits for
anybody.  Each step registers its undo.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import os
import shlex
import socket
import time
from collections.abc import Coroutine, Iterable, Iterator
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from virlet import __version__
from virlet.engine.confine import hint_of, shut_in
from virlet.engine.fds import FdTable, dial
from virlet.engine.files import make_private
from virlet.engine.guest import Guest, Run
from virlet.engine.inbox import Inbox
from virlet.engine.live import pty_paths, target_of, vnc_ports, with_ptys, with_targets, with_vnc_ports
from virlet.engine.needs import hint_for
from virlet.engine.planned import located
from virlet.engine.status import FORMAT, HelperRecord, Phase, Record
from virlet.engine.supervision.door import Door
from virlet.engine.supervision.forked import let_end, pid_file, plug_in
from virlet.engine.supervision.helper import Helper
from virlet.engine.supervision.keep import keep
from virlet.engine.supervision.reach import run_helper, wait_ready
from virlet.engine.taps import downscripts, leave, open_all, run_script
from virlet.engine.tasks import together
from virlet.engine.waiting import answered
from virlet.enums import DomainState
from virlet.errors import BadConfig, InternalError, OperationFailed, OperationInvalid, OperationTimeout
from virlet.fault import point
from virlet.model.domain import Domain
from virlet.plan.base import Accept, FdSource, HelperPlan, LaunchPlan, NetPlan, render
from virlet.plan.launch import NO_SANDBOX
from virlet.proc.logfile import cap, tail
from virlet.proc.process import Process
from virlet.proc.sockets import Listeners
from virlet.proc.spawn import Command, spawn
from virlet.qmp.monitor import Monitor, MonitorClosed, QmpError

__all__ = ["Launch"]


log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds that a program has to end when the start that needed it has failed: it holds nothing worth flushing."""
LEAVING = 1.0
"""Seconds for a QEMU to be gone that has closed its monitor, where that is all we know of it."""


@dataclass(slots=True)
class Launch:
    """One start, step by step; each step registers its undo."""

    guest: Guest
    definition: Domain
    plan: LaunchPlan
    domain: Domain
    before: Listeners
    inbox: Inbox
    monitor: Monitor | None = None
    processes: dict[str, Process] = field(default_factory=dict)
    """Helpers by alias."""
    kept: dict[str, FdTable] = field(default_factory=dict)
    """What their successors will need, by alias."""
    spoken: dict[Path, int] = field(default_factory=dict)
    """Size of each log when the start began: what is beyond was said by this start."""
    unconfined: str = ""
    """Why QEMU may open every file of the user's; empty: it may not."""
    record: Record = field(init=False)
    """What the status file says."""

    @property
    def directory(self) -> Path:
        """Where its sockets are."""
        return self.guest.context.guest_dirs(self.guest.uuid).runtime

    async def bring_up(self, undo: AsyncExitStack, *, paused: bool) -> Run:
        """Everything up to ``cont``."""
        with FdTable() as fds:
            await self._claim(fds)
            self.record = self._prepare(undo)
            undo.callback(fds.unlink)
            undo.push_async_callback(self._leave_taps)
            self.guest.context.fd_groups.lend(self.guest.uuid, self.plan.fds, fds)
            await open_all(fds, self._sources())
            doors = {net.alias: undo.enter_context(Door(path)) for net in self._helped() if (path := _dialled(net))}
            point("start.bound")
            await self._taps(fds)
            sock = dial(self.plan.monitor.path)
            undo.callback(sock.close)
            point("start.dialled")
            # QEMU first: it takes longest to come up, and what follows is done meanwhile.
            qemu = await self._qemu(fds, undo)
            point("start.qemu")
            self._write_down(qemu)
            for net in (each for each in self._helped() if each.alias not in doors):
                await self._helper(net, fds, undo)
                point("start.helper")
            late = (net for net in self._helped() if net.alias in doors)
            await together(*(self._dialled(net, doors[net.alias], qemu, fds, undo) for net in late))
        point("start.identified")
        ready = (self._ready(_helper_of(net), self.processes[net.alias], qemu) for net in self._helped())
        await together(self._negotiate(qemu, sock, undo), *ready)
        point("start.ready")
        assert self.monitor is not None
        await self._talk(self.monitor, undo, paused=paused)
        return self._run(qemu, self.monitor)

    def _sources(self) -> Iterator[FdSource]:
        """What can be opened before QEMU runs."""
        yield from self.plan.fds
        for net in self._helped():
            yield from (source for source in _helper_of(net).fds if not isinstance(source, Accept))

    async def _dialled(self, net: NetPlan, door: Door, qemu: Process, fds: FdTable, undo: AsyncExitStack) -> None:
        """Give the helper the connection that QEMU makes while it starts."""
        peer = await door.accept_from(qemu)
        if peer is None:
            raise InternalError(f"process exited while connecting to monitor: {self._said(self.plan.log.path)}")
        fds.put(Accept(door.path), peer.detach())
        await self._helper(net, fds, undo)

    async def _taps(self, fds: FdTable) -> None:
        """Tell the live XML what the taps are called, note what is to be run in the end, and run the user's scripts."""
        self.domain = with_targets(self.domain, fds.taps)
        self.record = replace(self.record, down=downscripts(self.domain.devices.interfaces))
        if self.record.down:
            self._write_down()
        for net in self.plan.nets:
            if net.script:
                await run_script(net.script, target_of(self.domain, net.alias))

    async def _leave_taps(self) -> None:
        """At the end interfaces may have come and gone; a start that failed has those of its plan."""
        await leave(self.record if self.guest.run is None else self.guest.run.record)

    def _helped(self) -> Iterator[NetPlan]:
        """Those whose helper is started now."""
        return (
            net
            for net in self.plan.nets
            if net.helper is not None and not net.helper.waits_for and net.helper.forked is None
        )

    async def _claim(self, fds: FdTable) -> None:
        """Before anything of the guest's is touched: a QEMU of its that we do not know of needs all of that."""
        plan = self.plan
        make_private(plan.log.path.parent)
        fds.open((plan.log,))
        await _lock(fds[plan.log], plan.name)
        point("start.logged")
        cap(plan.log.path)

    def _prepare(self, undo: AsyncExitStack) -> Record:
        guest, plan = self.guest, self.plan
        record = Record(
            format=FORMAT,
            phase=Phase.STARTING,
            uuid=guest.uuid,
            name=guest.name,
            id=self.domain.id or -1,
            persistent=guest.persistent,
            autodestroy=False,
            state=DomainState.SHUTOFF,
            reason=0,
            xml="",  # of no use before it runs
            monitor=plan.monitor.path,
            log=plan.log.path,
            helpers=self._records(),
            leaves=plan.leaves,
            directories=(self.directory,),
            tainted=plan.tainted,
            put_back=tuple(tap for net in plan.nets for tap in net.put_back),
        )
        guest.context.status.save(record)
        point("start.intended")
        undo.callback(guest.context.status.remove, guest.uuid)
        undo.callback(_remove, plan.leaves, self.directory)
        for directory in dict.fromkeys((self.directory, *plan.directories)):
            make_private(directory)
        point("start.prepared")
        return record

    def _write_down(self, qemu: Process | None = None) -> None:
        """Which processes there are so far."""
        if qemu is not None:
            self.record = replace(self.record, qemu=qemu.identity, unconfined=self.unconfined)
        self.record = replace(self.record, helpers=self._records())
        self.guest.context.status.save(self.record)

    def _records(self) -> tuple[HelperRecord, ...]:
        return tuple(self._record(net.alias, net, net.helper) for net in self.plan.nets if net.helper is not None)

    def _record(self, alias: str, net: NetPlan, plan: HelperPlan) -> HelperRecord:
        process = self.processes.get(alias)
        return HelperRecord(
            alias,
            str(net.netdev["id"]),
            plan,
            process.identity if process is not None else None,
            waits=plan.waits_for,
            pid_file=pid_file(process.pid) if process is not None and plan.forked is not None else None,
        )

    async def _qemu(self, fds: FdTable, undo: AsyncExitStack) -> Process:
        plan = self.plan
        argv = tuple(render(plan.argv, fds.__getitem__))
        stamp = time.strftime("%F %T%z")
        os.write(fds[plan.log], f"{stamp}: virlet {__version__} starts '{plan.name}':\n{shlex.join(argv)}\n".encode())
        self._note(plan.log.path)
        output = fds[plan.log]
        inherited = tuple(fds[source] for source in plan.fds if source != plan.log)
        grants, self.unconfined = shut_in(plan)
        if NO_SANDBOX in plan.tainted:
            log.warning("%s: QEMU runs without its sandbox, because an interface of its has it start passt", plan.name)
        command = Command(argv, inherited, env=plan.env, stdout=output, stderr=output, grants=grants)
        process = await spawn(command, f"QEMU of '{plan.name}'")
        undo.push_async_callback(process.terminate, GRACE)
        return process

    async def _helper(self, net: NetPlan, fds: FdTable, undo: AsyncExitStack) -> None:
        plan = _helper_of(net)
        if plan.stderr is not None:
            fds.open((plan.stderr,))
            self._note(plan.stderr.path)
        process = await run_helper(plan, fds)
        undo.push_async_callback(process.terminate, GRACE)
        self.processes[net.alias] = process
        kept = keep(plan, fds)
        if kept is not None:
            undo.callback(kept.close)
            self.kept[net.alias] = kept
        self._write_down()
        process.proceed()

    def _note(self, path: Path) -> None:
        self.spoken[path] = path.stat().st_size

    def _said(self, path: Path) -> str:
        """What has come into that log since the start began."""
        begun, size = self.spoken.get(path, 0), path.stat().st_size
        # One byte more than is new: a tail that begins inside a line leaves that line out.
        return tail(path, min(4096, size - begun + 1)) if size > begun else ""

    async def _connect(self, sock: socket.socket) -> Monitor:
        """The monitor; it does not answer before a vhost-user back end of somebody else's does."""
        waits = [net for net in self.plan.nets if net.waits_for]
        connecting = Monitor.connect(sock, name=self.plan.name, on_event=self.inbox)
        if not waits:
            return await connecting

        def tell(message: str) -> None:
            self.guest.tell(waits[0].alias, "waiting", message)

        return await answered(connecting, self.guest, waits[0].waits_for, tell)

    async def _negotiate(self, qemu: Process, sock: socket.socket, undo: AsyncExitStack) -> None:
        try:
            self.monitor = await self._connect(sock)
            point("start.negotiated")
            undo.push_async_callback(self.monitor.close)
        except OperationTimeout as error:
            said = self._said(self.plan.log.path)
            raise OperationTimeout(f"{error.detail}: {said}" if said else error.detail, hint=error.hint) from error
        except MonitorClosed as error:
            await qemu.ended_within(GRACE)
            said = self._said(self.plan.log.path) or f"{error.detail} ({qemu.status or 'it still runs'})"
            hint = None if self.unconfined else hint_of(said)
            raise InternalError(f"process exited while connecting to monitor: {said}", hint=hint) from error

    async def _ready(self, plan: HelperPlan, process: Process, qemu: Process) -> None:
        try:
            await wait_ready(plan, process, self.before)
            point("start.listening")
        except BadConfig as error:
            raise BadConfig(located(self.definition, error.problems)) from None
        except OperationFailed:
            await process.ended_within(GRACE)
        # A helper ends with QEMU: then QEMU's own last words are the ones to tell, and its monitor tells them.
        if not process.running and not await qemu.ended_within(_apart(process)):
            said = self._said(plan.stderr.path) if plan.stderr is not None else ""
            raise InternalError(
                f"Child process ({plan.name} of '{self.plan.name}') unexpected {process.status}: {said}",
                hint=hint_for(said, f"see what it was told: virlet explain {shlex.quote(self.plan.name)}"),
            )

    async def _talk(self, monitor: Monitor, undo: AsyncExitStack, *, paused: bool) -> None:
        plan = self.plan
        try:
            for net in plan.nets:
                if net.helper is not None and net.helper.forked is not None:
                    await self._plug_in(monitor, net.alias, net.helper, undo)
            for command in plan.before_cont:
                await monitor.execute(command.name, command.arguments)
            point("start.told-qemu")
            # Questions do not keep the guest waiting: QEMU answers them in order behind "cont".
            await together(*self._questions(monitor, paused=paused))
        except MonitorClosed as error:
            said = self._said(plan.log.path) or error.detail
            raise InternalError(f"QEMU unexpectedly closed the monitor (vm='{plan.name}'): {said}") from error

    async def _plug_in(self, monitor: Monitor, alias: str, plan: HelperPlan, undo: AsyncExitStack) -> None:
        """Have QEMU start a helper, and wait for it; QEMU ends it when it ends itself."""
        try:
            process = await plug_in(monitor.execute, plan)
        except QmpError as error:
            said = self._said(self.plan.log.path)
            raise InternalError(f"{error.detail}: {said}" if said else error.detail) from error
        self.processes[alias] = process
        undo.push_async_callback(let_end, plan, process)
        self._write_down()
        try:
            await wait_ready(plan, process, self.before)
        except BadConfig as error:
            raise BadConfig(located(self.definition, error.problems)) from None

    def _questions(self, monitor: Monitor, *, paused: bool) -> Iterator[Coroutine[Any, Any, object]]:
        if not paused:
            yield monitor.execute("cont")
        if self.plan.ptys:
            yield self._ask_ptys(monitor)
        if self.plan.vnc_autoport:
            yield self._ask_vnc(monitor)

    async def _ask_ptys(self, monitor: Monitor) -> None:
        paths = pty_paths(await monitor.execute("query-chardev"))
        self.domain = with_ptys(self.domain, paths)

    async def _ask_vnc(self, monitor: Monitor) -> None:
        ports = vnc_ports(await monitor.execute("query-vnc-servers"))
        self.domain = with_vnc_ports(self.domain, ports)

    def _run(self, qemu: Process, monitor: Monitor) -> Run:
        run = Run(qemu, monitor, replace(self.record, phase=Phase.RUNNING), AsyncExitStack(), taints=self.plan.tainted)
        for item in self._records():
            helper = run.helpers[item.alias] = Helper(self.guest, self.guest.tasks, item)
            helper.keep(self.kept.get(item.alias))
        return run


def _apart(helper: Process) -> float:
    """Seconds that QEMU may take to be gone after *helper*, which would have seen that first.

    One that ends well before it serves has seen the end of its connection, and who else would have closed that?  On a
    busy host QEMU, which closes it while it ends, may come to its own end much later.
    """
    return GRACE if helper.status is not None and helper.status.code == 0 else 0.05


async def _lock(log_fd: int, name: str) -> None:
    """Lock the guest's log: QEMU inherits it, so the lock lasts as long as QEMU does, whatever a status file says.

    Two QEMUs on one disk would destroy it.  Raises :class:`OperationInvalid` when another holds it; a filesystem that
    knows no locks gives no such help.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LEAVING
    while True:
        try:
            fcntl.flock(log_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if loop.time() >= deadline:
                raise OperationInvalid(
                    f"a QEMU of '{name}' runs already, although it is not known to this daemon",
                    hint="find it: fuser its qemu.log, see virlet info; and end it",
                ) from None
        except OSError as error:
            log.warning("%s: its log cannot be locked: %s", name, error.strerror)
            return
        else:
            return
        await asyncio.sleep(0.01)  # No event tells that a lock is free, but to a thread that nobody could call back.


def _dialled(net: NetPlan) -> Path | None:
    """Where QEMU dials the interface's helper, if it does."""
    return next((source.path for source in _helper_of(net).fds if isinstance(source, Accept)), None)


def _helper_of(net: NetPlan) -> HelperPlan:
    assert net.helper is not None
    return net.helper


def _remove(leaves: Iterable[Path], directory: Path) -> None:
    for path in leaves:
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):
        directory.rmdir()
