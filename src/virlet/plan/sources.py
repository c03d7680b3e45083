"""Where the descriptors of a plan come from: a listener, a dialled connection, one end of a pair, an opened file.

Sources are values: the same source named twice is the same descriptor.  The engine opens them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

__all__ = [
    "SOURCES",
    "TUN",
    "VHOST_NET",
    "Accept",
    "BridgeTap",
    "Dial",
    "FdSource",
    "Given",
    "Listener",
    "LogFile",
    "OpenMacvtap",
    "OpenTap",
    "OpenVhost",
    "PairEnd",
]


@dataclass(frozen=True, slots=True)
class Listener:
    """A UNIX stream socket that we bind at *path* and that listens; the other process accepts on it."""

    path: Path
    backlog: int = 1


@dataclass(frozen=True, slots=True)
class Dial:
    """A connection to the UNIX stream socket at *path*; it may wait in the listener's backlog."""

    path: Path


@dataclass(frozen=True, slots=True)
class Accept:
    """The connection that QEMU makes to *path*, where we listen until it has come, and not again before it is lost.

    A QEMU whose connection is not answered (vhost-user) stands still, so nobody listens there without need.
    """

    path: Path


@dataclass(frozen=True, slots=True)
class PairEnd:
    """One end (0 or 1) of the socket pair called *name*."""

    name: str
    end: int
    datagram: bool = False


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file opened for appending (created 0600); *truncate* empties it first.

    Handed to a child as its standard error: it outlives the daemon, which a pipe to the daemon would not.
    """

    path: Path
    truncate: bool = False


TUN = "/dev/net/tun"
VHOST_NET = "/dev/vhost-net"


@dataclass(frozen=True, slots=True)
class OpenTap:
    """One queue of a tap device.  The same *alias* is the same device, whatever the kernel calls it."""

    alias: str
    """The interface's."""
    name: str
    """The device's, or a template such as ``vnet%d`` for one that is to be made."""
    queue: int = 0
    vnet_hdr: bool = False
    multi_queue: bool = False
    create: bool = False
    """It is made, and gone when nobody has it open any more; otherwise it must be there and stays as it is."""
    mac: str | None = None
    """Address of a device that is made."""
    mtu: int | None = None
    """MTU of a device that is made."""
    path: str = TUN


@dataclass(frozen=True, slots=True)
class OpenMacvtap:
    """One queue of a macvtap device, by its node ``/dev/tapN``.

    N is the link's number in its network namespace, but ``/dev`` belongs to the whole host: what the node leads to is
    compared after it was opened.
    """

    name: str
    node: str
    mac: str
    device: str
    """Major and minor number of the node as the kernel gives them for this link, ``246:1``; empty where unknown."""
    queue: int = 0
    vnet_hdr: bool = False
    multi_queue: bool = False


@dataclass(frozen=True, slots=True)
class OpenVhost:
    """The kernel's worker for one queue of a virtio card (``/dev/vhost-net``)."""

    alias: str
    queue: int = 0
    path: str = VHOST_NET


@dataclass(frozen=True, slots=True)
class BridgeTap:
    """A tap device on a bridge, made by the setuid program at *helper*, which hands us the descriptor and ends."""

    alias: str
    bridge: str
    helper: str
    vnet_hdr: bool = False


@dataclass(frozen=True, slots=True)
class Given:
    """A descriptor that a client has given us for the domain (``virDomainFDAssociate``), by the name of its group."""

    group: str
    index: int = 0


FdSource: TypeAlias = (
    Listener | Dial | Accept | PairEnd | LogFile | OpenTap | OpenMacvtap | OpenVhost | BridgeTap | Given
)
"""Anything a child can be handed as an open descriptor."""

SOURCES = (Listener, Dial, Accept, PairEnd, LogFile, OpenTap, OpenMacvtap, OpenVhost, BridgeTap, Given)
