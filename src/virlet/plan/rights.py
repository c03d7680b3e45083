"""Rights to files, as a confined program is given them; small, since the slirp helper loads it too."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto
from pathlib import Path

__all__ = ["Confinement", "Grant", "Image", "Right"]


class Right(Flag):
    """What may be done with a file, or with everything below a directory."""

    OPEN = auto()
    """Files may be read whose names are known; the directory cannot be listed."""
    LIST = auto()
    READ = OPEN | LIST
    WRITE = auto()
    """Write to what is there, and control it if it is a device; nothing is made."""
    EXECUTE = auto()
    BIND = auto()
    """UNIX sockets may be made in the directory."""
    REMOVE = auto()
    CONNECT = auto()
    """UNIX sockets there may be dialled."""


@dataclass(frozen=True, slots=True)
class Grant:
    """Rights to one path."""

    path: Path
    rights: Right
    must: bool = False
    """A path that is not there is an error; else it is passed over."""


@dataclass(frozen=True, slots=True)
class Image:
    """A disk image that may name other files."""

    path: Path
    format: str
    writable: bool
    backing: bool = True
    """QEMU looks for a backing file; not so below ``<backingStore/>``."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """What the domain gives its QEMU."""

    refusal: str = ""
    """Why this QEMU cannot be confined; empty: it can."""
    grants: tuple[Grant, ...] = ()
    images: tuple[Image, ...] = ()
    """Their own paths are among *grants*; what they name has to be looked up."""
    made: tuple[Path, ...] = ()
    """Files that QEMU would make, which a confined one cannot: to be made before."""
    bound: tuple[Path, ...] = ()
    """Sockets outside the guest's own directory that QEMU binds; what a dead one left there is to be removed before."""
