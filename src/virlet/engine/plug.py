"""An interface comes into a running guest, wholly or not at all.

The plan is that of a start (:mod:`virlet.plan.hotplug`).  Before anything is done the status file says what will be, so
that the next daemon can undo or finish it (:mod:`virlet.engine.adopt`); every effect registers its undo.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import shlex
from collections.abc import Iterable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from virlet.engine.fds import FdTable, dial
from virlet.engine.files import make_private
from virlet.engine.guest import Guest, Peer, Run
from virlet.engine.needs import hint_for, look, refuse_net
from virlet.engine.status import Attaching, HelperRecord
from virlet.engine.supervision.door import Door
from virlet.engine.supervision.forked import pid_file, plug_in
from virlet.engine.supervision.helper import Helper
from virlet.engine.supervision.keep import inodes_of, keep
from virlet.engine.supervision.reach import run_helper, wait_ready
from virlet.engine.taps import downscripts, open_all, run_script
from virlet.engine.unplug import close_kept, drop_chardev, drop_netdev, leave_taps
from virlet.enums import EventId
from virlet.errors import InternalError, OperationFailed, OperationInvalid, OperationTimeout, SystemFailure
from virlet.fault import point
from virlet.model.domain import format_device
from virlet.model.interface import Interface
from virlet.plan.base import Accept, Dial, HelperPlan, OnLoss, QmpCommand, Word
from virlet.plan.hotplug import HotNet, with_interface
from virlet.proc.logfile import tail
from virlet.proc.process import Process
from virlet.proc.sockets import Listeners
from virlet.qmp.monitor import QmpError

__all__ = ["plug"]

log = logging.getLogger(__name__)

GRACE = 2.0
"""Seconds that a helper has to end when the attachment that needed it has failed."""
_CONFINED = (
    "a confined QEMU makes and dials sockets only where its start foresaw it (see docs/security.md): attach with"
    " --config and start the guest again, or set confine = false in virletd.toml before its next start"
)
STREAM_WAIT = 10.0
"""Seconds for QEMU to listen, and to accept what was dialled: both take it about a millisecond."""


async def plug(guest: Guest, nic: Interface, hot: HotNet) -> None:
    """Give the guest *nic* as *hot* says, or change nothing; the caller holds the job.

    When it returns, every forwarded port accepts and DEVICE_ADDED is out.  Raises :class:`BadConfig` for ports that are
    taken, :class:`InternalError` with QEMU's or the helper's own words for all that they refuse.
    """
    before = look((hot.net,))
    refuse_net(hot.net, before)
    if hot.net.chardev is not None and hot.net.helper is None:
        # Somebody has to listen there: QEMU would stand still, guest and all, until somebody does.
        dial(hot.net.chardev.path).close()
    attachment = _Attachment(guest, guest.running(), nic, hot, before)
    point("attach.planned")
    async with AsyncExitStack() as undo:
        await attachment.bring_up(undo)
        undo.pop_all()
    point("attach.there")
    attachment.run.peers.pop(hot.netdev, None)
    for command in hot.after:
        await guest.execute(command.name, command.arguments)
    guest.emit_other(EventId.DEVICE_ADDED, devAlias=hot.net.alias)
    point("attach.told")
    if (helper := attachment.run.helpers.get(hot.net.alias)) is not None:
        helper.tell_waits()
        if helper.process is not None:
            guest.joined(helper.process)
    log.info("%s: attached %s (%s)", guest.name, hot.net.alias, hot.net.backend)


@dataclass(slots=True)
class _Attachment:
    """One attachment, step by step; each step registers its undo."""

    guest: Guest
    run: Run
    nic: Interface
    hot: HotNet
    before: Listeners
    peer: Peer = field(default_factory=Peer)
    dialled: bool = False
    chardev: bool = False
    """What the backend speaks through is there."""

    async def bring_up(self, undo: AsyncExitStack) -> None:
        """Everything up to the card in the guest and its XML."""
        helper = self.hot.net.helper
        record = self.run.record
        self.run.record = replace(record, put_back=(*record.put_back, *self.hot.net.put_back))
        undo.callback(self._forget)
        undo.push_async_callback(leave_taps, self.run, self._alias)
        self._intend(HelperRecord(self._alias, self.hot.netdev, helper) if helper is not None else None)
        point("attach.intended")
        if self.hot.listens is not None:
            make_private(self.hot.listens.parent)
            undo.callback(_unlink, (self.hot.listens,))
        with FdTable() as fds:
            if helper is not None and helper.on_loss is OnLoss.ACCEPT:
                await self._chardev_and_helper(helper, fds, undo)
                await self._netdev(fds, undo)
            else:
                await self._netdev(fds, undo)
                if helper is not None and helper.forked is not None:
                    await self._forked(helper, undo)
                elif helper is not None:
                    await self._helper(helper, fds, undo)
        point("attach.backed")
        await self.guest.execute("device_add", self.hot.device_add.arguments)
        point("attach.plugged")
        self._adopt()

    @property
    def _alias(self) -> str:
        return self.hot.net.alias

    # Intent

    def _intend(self, helper: HelperRecord | None) -> None:
        xml = format_device(self.nic, secure=True)
        names = tuple(send.name for send in self.hot.sends)
        self._note((Attaching(self._alias, self.hot.netdev, xml, helper, names),))
        self.guest.save(strict=True)

    def _note(self, attaching: tuple[Attaching, ...]) -> None:
        self.run.record = replace(self.run.record, attaching=attaching)

    def _forget(self) -> None:
        self._note(())
        self.guest.save()

    def _adopt(self) -> None:
        """The card is there: it is part of the running guest from now on."""
        guest = self.guest
        self._note(())
        if guest.live is not None:
            guest.live = with_interface(guest.live, self.nic)
        guest.changed()
        guest.save()

    # Effects

    async def _netdev(self, fds: FdTable, undo: AsyncExitStack) -> None:
        run, hot = self.run, self.hot
        self.guest.context.fd_groups.lend(self.guest.uuid, (send.source for send in hot.sends), fds)
        await open_all(fds, (send.source for send in hot.sends))
        await self._taps(fds)
        point("attach.opened")
        run.peers[hot.netdev] = self.peer
        undo.callback(run.peers.pop, hot.netdev, None)
        sent: list[str] = []
        try:
            for send in hot.sends:
                await run.monitor.send_fd(send.name, fds[send.source])
                sent.append(send.name)
                point("attach.sent")
            if hot.chardev_add is not None and not self.chardev:
                await self._chardev(hot.chardev_add, undo)
            await self.guest.execute("netdev_add", hot.netdev_add.arguments)
            point("attach.netdev")
        except QmpError as error:
            await self._take_back(sent)
            if "Permission denied" in error.detail and not run.record.unconfined:
                raise InternalError(error.detail, hint=_CONFINED) from error
            raise
        undo.push_async_callback(self._drop_netdev)

    async def _chardev(self, command: QmpCommand, undo: AsyncExitStack) -> None:
        await self.guest.execute("chardev-add", command.arguments)
        self.chardev = True
        undo.push_async_callback(drop_chardev, self.guest, self._alias)

    async def _chardev_and_helper(self, plan: HelperPlan, fds: FdTable, undo: AsyncExitStack) -> None:
        """QEMU dials its helper when it has the chardev.

        It stands still from *netdev_add* on until the helper answers, so that has to run by then, and be replaced.
        """
        command = self.hot.chardev_add
        assert command is not None
        for source in (each for each in plan.fds if isinstance(each, Accept)):
            with Door(source.path) as door:
                await self._chardev(command, undo)
                peer = await door.accept_from(self.run.process)
            if peer is None:
                raise OperationInvalid("domain is not running")
            fds.put(source, peer.detach())
        await self._helper(plan, fds, undo)

    async def _taps(self, fds: FdTable) -> None:
        """Say what the tap is called and what is to be run in the end, and run the user's script."""
        net, run = self.hot.net, self.run
        self.nic = replace(self.nic, target=fds.taps.get(net.alias, self.nic.target))
        down = downscripts((self.nic,))
        run.record = replace(run.record, down=(*run.record.down, *down))
        if net.alias in fds.taps or down:
            self._intend(None)
        if net.script:
            await run_script(net.script, self.nic.target or "")

    async def _take_back(self, names: list[str]) -> None:
        """Descriptors that no backend has taken."""
        for name in names:
            try:
                await self.guest.execute("closefd", {"fdname": name})
            except QmpError as error:
                log.debug("%s: %s", self.guest.name, error)

    async def _drop_netdev(self) -> None:
        try:
            if self.hot.listens is not None and not self.peer.connected.is_set():
                # QEMU begins to listen in a thread of its own.  Taking the backend away at once crashed a 7.2 (once in
                # 1200 rounds), presumably before that had come back; an accepted connection proves that it has.
                with suppress(SystemFailure, OperationTimeout), FdTable() as fds:
                    if not self.dialled:
                        await self._dial(fds, Dial(self.hot.listens))
                    await self._accepted()
            await drop_netdev(self.guest, self.hot.netdev)
            point("attach.undone-netdev")
            if self.hot.net.keeps:
                await close_kept(self.guest, self._alias)
        except OperationInvalid as error:
            log.debug("%s: %s", self.guest.name, error)

    async def _dial(self, fds: FdTable, source: Dial) -> None:
        """Connect to the socket that QEMU is about to listen on.

        No event tells of listen(2), so one answer of QEMU's lies between two tries; the second has been enough.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + STREAM_WAIT
        while True:
            try:
                fds.open((source,))
            except SystemFailure as error:
                if error.errno not in (errno.ENOENT, errno.ECONNREFUSED):
                    raise
                if loop.time() > deadline:
                    # QEMU tells nobody when it could not listen; one that may not, since the directory is another one
                    # than at its start, is the likely cause.
                    hint = None if self.run.record.unconfined else _CONFINED
                    raise SystemFailure(error.detail, errno=error.errno, hint=hint) from None
            else:
                self.dialled = True
                return
            await self.guest.execute("query-status")

    async def _helper(self, plan: HelperPlan, fds: FdTable, undo: AsyncExitStack) -> None:
        if plan.waits_for:
            record = HelperRecord(self._alias, self.hot.netdev, plan, waits=plan.waits_for)
            helper = self.run.helpers[self._alias] = Helper(self.guest, self.guest.tasks, record)
            undo.push_async_callback(self._retire, helper)
            return
        for source in plan.fds:
            if isinstance(source, Dial):
                await self._dial(fds, source)
                point("attach.dialled")
        fds.open(plan.fds)
        said = 0
        if plan.stderr is not None:
            fds.open((plan.stderr,))
            said = plan.stderr.path.stat().st_size
        process = await run_helper(plan, fds)
        point("attach.helper")
        undo.push_async_callback(process.terminate, GRACE)
        kept = keep(plan, fds)
        if kept is not None:
            undo.callback(kept.close)
        record = HelperRecord(self._alias, self.hot.netdev, plan, process.identity, inodes=inodes_of(plan, kept))
        self._intend(record)
        point("attach.identified")
        process.proceed()
        await self._ready(plan, process, said)
        point("attach.ready")
        helper = self.run.helpers[self._alias] = Helper(self.guest, self.guest.tasks, record)
        undo.push_async_callback(self._retire, helper)
        helper.keep(kept)
        helper.own(process)
        if self.peer.lost:
            helper.on_disconnected()

    async def _forked(self, plan: HelperPlan, undo: AsyncExitStack) -> None:
        """QEMU starts this helper itself."""
        process = await plug_in(self.guest.execute, plan)
        left = pid_file(process.pid)
        record = HelperRecord(self._alias, self.hot.netdev, plan, process.identity, pid_file=left)
        self._intend(record)
        helper = self.run.helpers[self._alias] = Helper(self.guest, self.guest.tasks, record)
        undo.push_async_callback(self._retire, helper)
        await wait_ready(plan, process, self.before)
        helper.own(process)

    async def _retire(self, helper: Helper) -> None:
        if self.run.helpers.get(self._alias) is helper:
            del self.run.helpers[self._alias]
        await helper.end()

    async def _ready(self, plan: HelperPlan, process: Process, said: int) -> None:
        try:
            await self._accepted()
            await wait_ready(plan, process, self.before)
        except OperationFailed:
            await process.ended_within(GRACE)
        if not process.running:
            path = plan.stderr.path if plan.stderr is not None else None
            size = path.stat().st_size if path is not None else 0
            words = tail(path, min(4096, size - said + 1)) if path is not None and size > said else ""
            raise InternalError(
                f"Child process ({plan.name} of '{self.guest.name}') unexpected {process.status}: {words}",
                hint=hint_for(words, f"it was told: {_spelt(plan.argv)}"),
            )

    async def _accepted(self) -> None:
        """Wait until QEMU has accepted the connection; raises :class:`OperationTimeout`."""
        if self.hot.listens is None:
            return
        waiting = asyncio.ensure_future(self.peer.connected.wait())
        ends: set[asyncio.Future[Any]] = {waiting, self.run.monitor.closed}
        try:
            await asyncio.wait(ends, timeout=STREAM_WAIT, return_when=asyncio.FIRST_COMPLETED)
        finally:
            waiting.cancel()
        if self.run.monitor.closed.done():
            raise OperationInvalid("domain is not running")
        if not self.peer.connected.is_set():
            raise OperationTimeout(f"QEMU of '{self.guest.name}' has not accepted the connection of {self._alias}")


def _spelt(argv: Iterable[Word]) -> str:
    """For a shell, but for the numbers of descriptors, which are gone with the process."""
    return " ".join(shlex.quote(word) if isinstance(word, str) else "N" for word in argv)


def _unlink(paths: Iterable[Path]) -> None:
    for path in paths:
        with suppress(OSError):
            path.unlink()
