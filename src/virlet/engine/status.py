"""What is running, on disk: enough for the next daemon to take over every guest, or to undo half a start.

A status file belongs to one boot of one machine: after a reboot nothing in it is true any more, so it is replaced
atomically (against our own death) but not synced (a power cut ends the guest too).
"""

from __future__ import annotations

import json
import logging
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from virlet.engine.codec import decode, encode
from virlet.engine.files import make_private, move_aside, sweep_scratch, write_atomic
from virlet.enums import DomainState
from virlet.plan.base import (
    Accept,
    BridgeTap,
    Dial,
    HelperPlan,
    Joined,
    Listener,
    LogFile,
    OpenMacvtap,
    OpenTap,
    OpenVhost,
    PairEnd,
)
from virlet.plan.follow import Seen
from virlet.proc.identity import ProcessIdentity
from virlet.proc.logfile import locked

__all__ = [
    "FORMAT",
    "STORED",
    "Attaching",
    "DownScript",
    "HelperRecord",
    "Phase",
    "Record",
    "Returning",
    "StatusDir",
    "parse_record",
    "print_record",
]

log = logging.getLogger(__name__)

FORMAT = 1
"""What a member means, and the values that it may have, stay as they are while this does.

Members with a default are added freely: an older virletd passes over them and takes the guest over (a downgrade), a
newer one finds the default (an upgrade).  So this number rises when a member goes or changes, or when a guest would
come to harm under a virletd that passes over a new one; that leaves such guests alone.  Files that were recorded are in
``tests/engine/status``.
"""
STORED = (Dial, Listener, Accept, PairEnd, LogFile, OpenTap, OpenMacvtap, OpenVhost, BridgeTap, Joined)
"""What may stand inside the free JSON of a helper's plan."""
LIMIT = 32 * 1024 * 1024
"""Bytes of a status file that we read at most."""
_MOST = (1 << 31) - 1
"""An id and a reason are 32 bits on the wire: one that is larger could not be listed, nor could its neighbours."""


class Phase(StrEnum):
    """Written before the action, so that a daemon that dies in it leaves its intent."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class HelperRecord:
    """One helper: what to run again, and which process it is now."""

    alias: str
    """The interface's alias."""
    netdev: str
    """QEMU's id of its backend: ``hostnet0``."""
    plan: HelperPlan
    identity: ProcessIdentity | None = None
    """None before it was started, or while it is down."""
    restarts: int = 0
    gave_up: bool = False
    seen: Seen | None = None
    """What it found of the host's network when it started."""
    pins: tuple[str, ...] = ()
    """Words that give its successors the addresses that it once copied from the host."""
    waits: str = ""
    """What it waits for before it can start, its link down; empty for nothing."""
    unplugged: bool = False
    """The guest's link is down because the helper waits or is being replaced."""
    inodes: tuple[int, ...] = ()
    """Of the sockets behind ``plan.fds``, in that order, where they are used again (:data:`OnLoss.REUSE`)."""
    pid_file: Path | None = None
    """In which a process that QEMU has started wrote its pid, outside our directories."""
    why: str = ""
    """Why it was given up, and what to do about it, as its user was told."""
    reviving: bool = False
    """It was given up, and is tried once more, because somebody has asked for it."""
    coaxes: int | None = None
    """Its guest is being made to speak: the size of its log when its process began to write there."""


@dataclass(frozen=True, slots=True)
class DownScript:
    """A program of the user's that is to be run with a device's name once that is no longer used."""

    alias: str
    """The interface's alias."""
    path: str
    device: str


@dataclass(frozen=True, slots=True)
class Attaching:
    """An interface on its way into a running guest: undone by the next daemon, or finished if QEMU has the device."""

    alias: str
    netdev: str
    """QEMU's id of its backend."""
    xml: str
    """The live ``<interface>``, address and alias included."""
    helper: HelperRecord | None = None
    sends: tuple[str, ...] = ()
    """Names of the descriptors that QEMU is sent: one that nothing takes keeps its device busy until it is closed."""


@dataclass(frozen=True, slots=True)
class Returning:
    """An interface that leaves a running guest only to be plugged in anew (:mod:`virlet.engine.supervision.anew`)."""

    alias: str
    xml: str
    """The live ``<interface>``, address and alias included."""
    program: str
    """That of its helper, for messages."""
    restarts: int
    """What its helper has then."""


@dataclass(frozen=True, slots=True)
class Record:
    """One guest, as the status file has it."""

    format: int
    phase: Phase
    uuid: UUID
    name: str
    id: int
    persistent: bool
    autodestroy: bool
    state: DomainState
    reason: int
    xml: str
    """The live XML, addresses and aliases included; empty while STARTING."""
    monitor: Path
    log: Path
    qemu: ProcessIdentity | None = None
    helpers: tuple[HelperRecord, ...] = ()
    leaves: tuple[Path, ...] = ()
    directories: tuple[Path, ...] = ()
    tainted: tuple[str, ...] = ()
    put_back: tuple[OpenTap, ...] = ()
    """Devices of somebody else's to leave as they were (:attr:`virlet.plan.base.NetPlan.put_back`)."""
    down: tuple[DownScript, ...] = ()
    """What is to be run when the guest, or its interface, is gone; run again where the daemon died right after it."""
    attaching: tuple[Attaching, ...] = ()
    """One at most, since a guest has one job at a time."""
    returning: tuple[Returning, ...] = ()
    leaving: tuple[str, ...] = ()
    """Aliases of interfaces that their user wants gone, and that the guest was asked for."""
    unconfined: str = "started by an older virletd"
    """Why QEMU may open every file of the user's; empty: it may not (landlock)."""
    cause: str = ""
    """While STOPPING: why, the name of a :class:`virlet.model.lifecycle.Action`."""
    reboots: bool = False
    """The power button was pressed to reboot the guest: it begins again when it has powered off."""
    begins_again: bool = False
    """It has powered off, or crashed, and is being reset to run again: that it stands still is not its state."""


def print_record(record: Record) -> bytes:
    """The bytes of the file."""
    return json.dumps(encode(record), separators=(",", ":")).encode()


def parse_record(data: bytes) -> Record:
    """Read the bytes of a file; raises :class:`ValueError` for anything that :func:`print_record` did not make."""
    try:
        found = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    record = decode(Record, found, *STORED)
    if record.format != FORMAT:
        raise ValueError(f"format {record.format} is not ours ({FORMAT})")
    _check(record)
    return record


def _check(record: Record) -> None:
    """Raise :class:`ValueError` for what is well formed and would be trouble to others."""
    for name, number in (("id", record.id), ("reason", record.reason)):
        if not -1 <= number <= _MOST:
            raise ValueError(f"{name} {number} is none")
    helpers = (*record.helpers, *(each.helper for each in record.attaching if each.helper is not None))
    for text in (record.name, *(text for each in helpers for text in (each.alias, each.plan.name, each.waits))):
        text.encode()  # Told to clients, in UTF-8.
    for name, aliases in (
        ("helpers", [each.alias for each in record.helpers]),
        ("attaching", [each.alias for each in record.attaching]),
    ):
        if len(set(aliases)) < len(aliases):
            raise ValueError(f"{name}: two of one alias")


class StatusDir:
    """The status files of this boot.  Writing costs about 0.1 ms and is done in place."""

    __slots__ = ("_logs", "path", "problems")

    def __init__(self, root: Path, machine_id: str, boot_id: str) -> None:
        self._logs = root / "log"
        self.path = root / (machine_id or "unknown") / boot_id
        self.problems: list[str] = []

    def prepare(self) -> None:
        """Make our directory and remove those of former boots; raises :class:`SystemFailure`.

        That of a guest whose QEMU holds its log is no former boot's: hosts that share this home may have one machine
        id (copies of one image, or none at all), and that host's daemon will come for it.
        """
        make_private(self.path)
        sweep_scratch(self.path)
        for other in self.path.parent.iterdir():
            if other == self.path or not other.is_dir() or other.is_symlink():
                continue
            if running := self._running(other):
                self._report(
                    f"guest {running} runs on another host under this one's machine id: give each host its own,"
                    " see docs/operations.md, Where files live"
                )
                continue
            import shutil

            shutil.rmtree(other, ignore_errors=True)

    def _running(self, boot: Path) -> str:
        """The UUID of a guest in the directory *boot* whose QEMU holds its log; empty when there is none."""
        uuids = (path.name.partition(".")[0] for path in boot.glob("*.json*"))
        return next((uuid for uuid in uuids if locked(self._logs / uuid / "qemu.log")), "")

    def load(self) -> Iterator[Record]:
        """Every record that can be read; the others are moved aside and reported."""
        for path in sorted(self.path.glob("*.json")):
            try:
                found = path.stat()
                if not stat.S_ISREG(found.st_mode):
                    raise ValueError("it is no file")
                if found.st_size > LIMIT:
                    raise ValueError(f"it is larger than {LIMIT} bytes")
                record = parse_record(path.read_bytes())
                if path.stem != str(record.uuid):
                    raise ValueError("its name is not its UUID")
            except OSError as error:
                self._report(f"status file {path} cannot be read: {error.strerror}")
            except ValueError as error:
                self._report(f"status file {path} cannot be used ({error}); kept as {move_aside(path)}")
            else:
                yield record

    def _report(self, sentence: str) -> None:
        log.error("%s", sentence)
        self.problems.append(sentence)

    def save(self, record: Record) -> None:
        """Write or replace; raises :class:`SystemFailure`."""
        if not self.path.is_dir():
            make_private(self.path)
        write_atomic(self.path / f"{record.uuid}.json", print_record(record), durable=False)

    def remove(self, uuid: UUID) -> None:
        """Forget the guest."""
        try:
            (self.path / f"{uuid}.json").unlink(missing_ok=True)
        except OSError as error:
            self._report(f"status file of {uuid} cannot be removed: {error.strerror} ({time.strftime('%F %T')})")
