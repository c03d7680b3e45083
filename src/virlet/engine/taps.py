"""Tap devices opened: those that are there, those that we may make, and those that qemu-bridge-helper makes for us."""

from __future__ import annotations

import array
import errno
import logging
import os
import shlex
import socket
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from virlet.engine.fds import FdTable
from virlet.engine.status import DownScript, Record
from virlet.errors import InternalError, OperationTimeout, SystemFailure, VirletError
from virlet.model.interface import Interface, InterfaceType
from virlet.net.admin import bridge_acl
from virlet.plan.base import BridgeTap, FdSource, OpenTap
from virlet.proc.process import Process
from virlet.proc.spawn import Command, spawn
from virlet.proc.tun import TapFlag, open_tap

__all__ = ["downscripts", "leave", "open_all", "run_script"]

log = logging.getLogger(__name__)

PATIENCE = 20.0
"""Seconds that the setuid helper, and a script of the user's, may take."""
_MOST_WORDS = 4096
"""Bytes of a child's last words that go into an error."""


async def open_all(fds: FdTable, sources: Iterable[FdSource]) -> None:
    """Open all of *sources*; those that a program of root's has to send are awaited."""
    every = tuple(sources)
    for source in every:
        if isinstance(source, BridgeTap) and source not in fds:
            fds.put(source, await _from_bridge(source))
    fds.open(every)


async def _from_bridge(source: BridgeTap) -> int:
    """The descriptor that qemu-bridge-helper sends; raises :class:`SystemFailure` with its words."""
    ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with ours, its:
        words = [source.helper, *(["--use-vnet"] if source.vnet_hdr else []), f"--br={source.bridge}"]
        argv = (*words, f"--fd={its.fileno()}")
        # Of all that we start this alone may gain privileges: it is set-user-ID, and the XML asked for it.
        status, said = await _run(Command(argv, (its.fileno(),), no_new_privileges=False), "qemu-bridge-helper")
        ours.setblocking(False)
        fd = _received(ours)
    if fd is None:
        raise SystemFailure(
            f"{shlex.join(argv)}: failed to communicate with bridge helper: stderr={said or status}: "
            f"{os.strerror(errno.ENOTCONN)}",
            hint=_bridge_hint(source, said),
            errno=errno.ENOTCONN,
        )
    return fd


def _bridge_hint(source: BridgeTap, said: str) -> str:
    if "acl" in said:
        return f"let root run: {bridge_acl(source.bridge)}"
    if "not permitted" in said or "tun" in said:
        return f"let root run: chmod u+s {source.helper}"
    return f"see what it says: {source.helper} --br={source.bridge} --fd=3 3<>/dev/null"


def _received(sock: socket.socket) -> int | None:
    """The one descriptor that waits in *sock*; whatever else somebody put there is closed."""
    with suppress(BlockingIOError):
        _, ancillary, *_ = sock.recvmsg(16, socket.CMSG_SPACE(4 * array.array("i").itemsize), socket.MSG_CMSG_CLOEXEC)
        numbers = array.array("i")
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
        for more in numbers[1:]:
            os.close(more)
        return numbers[0] if numbers else None
    return None


async def run_script(path: str, device: str) -> None:
    """Run the user's program with the device's name; raises :class:`InternalError` when it does not end well."""
    status, said = await _run(Command((path, device)), f"script {path}")
    if status != "exit status 0":
        raise InternalError(
            f"Child process ({shlex.join((path, device))}) unexpected {status}: {said}",
            hint="it is run as you, without any privilege",
        )


def downscripts(interfaces: Iterable[Interface]) -> tuple[DownScript, ...]:
    """What *interfaces*, whose devices are open, want to be run in the end."""
    return tuple(
        DownScript(nic.alias or "", nic.downscript, nic.target or "")
        for nic in interfaces
        if nic.type is InterfaceType.ETHERNET and nic.downscript
    )


async def leave(record: Record, alias: str | None = None) -> None:
    """Leave the devices of *record*, or of its one interface *alias*, as they were found, and run the user's scripts.

    QEMU has them open no longer.  What fails is reported.
    """
    _put_back(tap for tap in record.put_back if alias in (None, tap.alias))
    for script in record.down:
        if alias in (None, script.alias):
            try:
                await run_script(script.path, script.device)
            except VirletError as error:
                log.error("%s: %s of '%s': %s", record.name, script.path, script.alias, error)


async def _run(command: Command, name: str) -> tuple[str, str]:
    """How *command* ended and what it said, standard output included."""
    output = os.memfd_create("output", os.MFD_CLOEXEC)
    try:
        process = await spawn(replace(command, stdout=output, stderr=output), name)
        try:
            await _end_of(process, name)
        finally:
            await process.terminate(1.0)
        said = os.pread(output, _MOST_WORDS, 0).decode("utf-8", "replace").strip()
    finally:
        os.close(output)
    return str(process.status), said


async def _end_of(process: Process, name: str) -> None:
    if not await process.ended_within(PATIENCE):
        raise OperationTimeout(f"{name} (pid {process.pid}) did not end within {PATIENCE:g} s")


def _put_back(taps: Iterable[OpenTap]) -> None:
    """Leave devices of somebody else's with the settings that we found; one that is gone needs none."""
    for tap in taps:
        flags = (TapFlag.VNET_HDR if tap.vnet_hdr else 0) | (TapFlag.MULTI_QUEUE if tap.multi_queue else 0)
        with suppress(OSError):
            fd, _ = open_tap(tap.path, tap.name, flags)
            os.close(fd)
