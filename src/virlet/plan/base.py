"""The vocabulary of plans: what to open, which processes to run, what QEMU is told.  Nothing is opened here.

Descriptors are named by their sources (:mod:`virlet.plan.sources`), which may stand in the words of a command line
(:mod:`virlet.plan.argv`); both are here as well, for those who write a backend.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from pathlib import Path

from virlet.errors import Problem
from virlet.plan.argv import Joined, Json, JsonValue, Word, render, render_json, sources_of
from virlet.plan.follow import Follow
from virlet.plan.rights import Confinement
from virlet.plan.sources import (
    TUN,
    VHOST_NET,
    Accept,
    BridgeTap,
    Dial,
    FdSource,
    Given,
    Listener,
    LogFile,
    OpenMacvtap,
    OpenTap,
    OpenVhost,
    PairEnd,
)

__all__ = [
    "TUN",
    "VHOST_NET",
    "Accept",
    "Access",
    "BridgeTap",
    "Dial",
    "FdSource",
    "FileNeed",
    "Forked",
    "Forward",
    "Given",
    "GuestDirs",
    "HelperPlan",
    "Joined",
    "Json",
    "JsonValue",
    "LaunchPlan",
    "Listener",
    "LogFile",
    "Need",
    "NetPlan",
    "OnLoss",
    "OpenMacvtap",
    "OpenTap",
    "OpenVhost",
    "PairEnd",
    "QmpCommand",
    "Ready",
    "SocketChardev",
    "TcpPeer",
    "Word",
    "render",
    "render_json",
    "short_name",
    "sources_of",
]


class Need(StrEnum):
    """What a network backend needs the rest of the domain to provide."""

    SHARED_MEMORY = "shared memory"
    NO_SANDBOX = "no sandbox"


class Ready(Enum):
    """When a helper counts as ready; status files have these words."""

    SPAWNED = "as soon as it runs"
    CONFINED = "when it has taken its options, which shows in the system call filter that it puts on last of all"
    PORTS_LISTEN = "when every forwarded port is listened on"


class OnLoss(Enum):
    """What to do when a helper has died; status files have these words."""

    RESTART = "dial again and start the same helper"
    ACCEPT = "listen, and start the same helper on the connection that QEMU makes"
    REUSE = "start the same helper on the same descriptors, of which the engine keeps a copy"
    QEMU = "see whether QEMU has started another one, else have it do so"


@dataclass(frozen=True, slots=True)
class Forward:
    """One contiguous range of host ports that reaches the guest; exclusions are already taken out."""

    proto: str
    """``tcp`` or ``udp``."""
    address: str | None
    """Host address, None for all."""
    device: str | None
    """Host interface, None for all."""
    start: int
    end: int
    to: int
    """Guest port that *start* reaches."""
    path: str = ""
    """Where in the XML it was asked for (see :class:`virlet.errors.Problem`)."""


@dataclass(frozen=True, slots=True)
class Forked:
    """How QEMU comes to start a helper itself."""

    link: Path
    """A link of ours to the program, by which QEMU runs it: without it QEMU cannot start another one."""
    netdev: str
    """Id of the netdev, which tells the process (``info network``)."""
    adds: tuple[QmpCommand, ...]
    """``netdev_add``, in order; each is taken away again by ``netdev_del``."""
    log: Path
    """Where it writes: QEMU's own log, unless it was given another."""


@dataclass(frozen=True, slots=True)
class HelperPlan:
    """A process that stands beside QEMU."""

    name: str
    """What it is, for messages and logs: ``passt``."""
    argv: tuple[Word, ...]
    fds: tuple[FdSource, ...]
    """Opened by the engine; every one named in *argv*."""
    ready: Ready
    on_loss: OnLoss
    forwards: tuple[Forward, ...] = ()
    """Host ports that it must be listening on once ready; the engine checks each."""
    forwards_all: tuple[str, ...] = ()
    """Protocols of which all ports are forwarded, best effort; not checked."""
    stderr: LogFile | None = None
    leaves: tuple[Path, ...] = ()
    """Files that it leaves behind and the engine removes."""
    forked: Forked | None = None
    """QEMU starts it, not we: *argv* is the program alone."""
    follow: Follow | None = None
    """What it settles of the host's network when it starts; None for one that settles nothing."""
    waits_for: str = ""
    """What it cannot start without and is not there yet: the guest begins with that link down; empty for nothing."""


class Access(StrEnum):
    """How a program opens a file."""

    READ = "read"
    READ_WRITE = "read and write"
    EXECUTE = "execute"
    SOCKET = "connect"
    CREATE = "make or write"
    BIND = "listen on"
    """A socket that is made, in the place of one that is there and of nothing else."""
    PIPE = "read and write as a pipe"
    """The file, or two whose names end in ``.in`` and ``.out``."""


@dataclass(frozen=True, slots=True)
class FileNeed:
    """A file of the user's that must be there before a start; the engine looks, a plan cannot."""

    path: Path
    access: Access
    xml_path: str
    """Where the XML names it (see :class:`virlet.errors.Problem`)."""
    what: str
    """For the message: ``kernel``, ``disk 'vda'``."""


@dataclass(frozen=True, slots=True)
class GuestDirs:
    """Where a guest's own files live; the engine decides, the plan only names paths below them."""

    runtime: Path
    """Sockets; short enough for ``sun_path`` with 40 bytes added."""
    logs: Path
    state: Path
    """What must outlive the guest: nvram."""


@dataclass(frozen=True, slots=True)
class QmpCommand:
    """One command for QEMU's monitor."""

    name: str
    arguments: Mapping[str, JsonValue] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TcpPeer:
    """Somebody whom QEMU connects to once, at its start."""

    address: str
    port: int
    xml_path: str


@dataclass(frozen=True, slots=True)
class SocketChardev:
    """A UNIX stream socket of QEMU's behind a netdev (vhost-user)."""

    id: str
    path: Path
    server: bool = False
    """QEMU binds the path and waits for the peer, else it dials."""
    reconnect_ms: int | None = None
    """A client dials again after so many milliseconds."""
    in_seconds: bool = False
    """This QEMU knows ``reconnect`` in seconds only (before 9.2)."""

    @property
    def word(self) -> str:
        """For ``-chardev``."""
        word = f"socket,id={self.id},path={str(self.path).replace(',', ',,')}"
        again = self._reconnect
        return word + (",server=on" if self.server else "") + (f",{again[0]}={again[1]}" if again else "")

    @property
    def backend(self) -> Mapping[str, JsonValue]:
        """For ``chardev-add``; it does not wait for the peer."""
        data: dict[str, JsonValue] = {"addr": {"type": "unix", "data": {"path": str(self.path)}}, "server": self.server}
        if self.server:
            data["wait"] = False
        if self._reconnect:
            data[self._reconnect[0]] = self._reconnect[1]
        return {"type": "socket", "data": data}

    @property
    def _reconnect(self) -> tuple[str, int] | None:
        if self.reconnect_ms is None:
            return None
        if self.in_seconds:
            return ("reconnect", max(1, self.reconnect_ms // 1000))
        return ("reconnect-ms", self.reconnect_ms)


@dataclass(frozen=True, slots=True)
class NetPlan:
    """One network interface: what QEMU and its helper are told."""

    alias: str
    """The interface's alias, ``net0``; the netdev's id is ``host`` + alias."""
    backend: str
    """Name of the backend that made the plan: ``passt``."""
    mac: str
    netdev: Mapping[str, JsonValue]
    """``-netdev`` JSON at start, ``netdev_add`` at hotplug."""
    device: Mapping[str, JsonValue]
    """``-device`` JSON at start, ``device_add`` at hotplug."""
    helper: HelperPlan | None
    fds: tuple[FdSource, ...]
    """What QEMU itself receives."""
    keeps: tuple[FdSource, ...] = ()
    """What QEMU holds for others as long as it lives and is told nothing about: ends of pairs that a helper may need
    again when no daemon was there to keep them, and whose closing tells the helper that QEMU has ended."""
    needs: frozenset[Need] = frozenset()
    link_up: bool = True
    why: tuple[str, ...] = ()
    """Why this backend: one sentence each, for ``explain``."""
    chardev: SocketChardev | None = None
    """What the netdev speaks through; made before it and removed after it."""
    files: tuple[FileNeed, ...] = ()
    """Files of the user's that this interface needs."""
    refusals: tuple[Problem, ...] = ()
    """What is known to fail at start, although a plan can be shown; the engine refuses it before anything is done."""
    script: str = ""
    """A program of the user's that is run with the device's name once that is open; empty for none."""
    put_back: tuple[OpenTap, ...] = ()
    """Devices whose settings QEMU's use of them changes: opened once more like this when it has ended."""
    dials: TcpPeer | None = None
    """Who has to listen when QEMU starts; a QEMU of before 8 says nothing when nobody does, and never tries again."""
    waits_for: str = ""
    """Who has to answer before QEMU's monitor does, for messages; empty for nobody."""
    forwards: tuple[Forward, ...] = ()
    """Host ports that QEMU itself listens on; the engine looks that they are free before it starts."""
    freebind: bool = False
    """Forwards may listen on addresses that the host does not have."""
    binds: tuple[Forward, ...] = ()
    """Ports of QEMU's own sockets, which lead to no port of the guest; they have to be free as well.  Port 0, any
    that is free, where all ports of an address or a link are forwarded."""

    @property
    def listens_on(self) -> tuple[Forward, ...]:
        """Every host port that is forwarded by name, whoever listens."""
        return (*self.forwards, *(self.helper.forwards if self.helper is not None else ()))

    @property
    def starts_up(self) -> bool:
        """The guest finds its cable plugged in: the XML says so, and there is somebody at the other end."""
        return self.link_up and not (self.helper is not None and self.helper.waits_for)


@dataclass(frozen=True, slots=True)
class LaunchPlan:
    """Everything a start does, in data."""

    name: str
    uuid: str
    emulator: Path
    argv: tuple[Word, ...]
    """The whole command line of QEMU, the emulator first."""
    env: Mapping[str, str]
    fds: tuple[FdSource, ...]
    """Every descriptor QEMU inherits, those of *nets* included."""
    monitor: Listener
    nets: tuple[NetPlan, ...]
    before_cont: tuple[QmpCommand, ...]
    """Sent once the monitor answers, before the guest runs."""
    directories: tuple[Path, ...]
    """Made 0700 before anything else."""
    leaves: tuple[Path, ...]
    """Sockets and files to remove when the guest has stopped."""
    log: LogFile
    tainted: tuple[str, ...] = ()
    """Why support may end here: ``custom-argv`` …"""
    files_needed: tuple[FileNeed, ...] = ()
    """Checked by the engine before anything starts."""
    vnc_autoport: bool = False
    """QEMU looks for a free port itself (``to=``), so nobody can take it in between; ask ``query-vnc-servers``."""
    ptys: tuple[str, ...] = ()
    """Ids of character devices whose terminal QEMU makes; ask ``query-chardev`` for its path."""
    confinement: Confinement = field(default_factory=Confinement)
    """Which files this QEMU is for."""


def short_name(alias: str) -> str:
    """*alias*, or a digest of one that would not fit into the 108 bytes of a socket's path."""
    if len(alias) <= 20:
        return alias
    # Not at the top: it loads OpenSSL, and hardly any alias is that long.
    import hashlib

    return hashlib.sha256(alias.encode()).hexdigest()[:20]
