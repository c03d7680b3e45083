"""What a confined QEMU may touch on this host: the plan's own grants, its images' chains, and what every QEMU needs."""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from virlet.errors import SystemFailure
from virlet.plan.base import LaunchPlan
from virlet.plan.confinement import ALONE
from virlet.plan.images import FOLLOWED, HEADER_BYTES, parse_header, reference
from virlet.plan.rights import Confinement, Grant, Image, Right

__all__ = ["Refused", "grants_of", "hint_of", "prepare", "shut_in"]

log = logging.getLogger(__name__)

_DENIED = (
    "QEMU may open only what its XML names (see docs/security.md); an image's backing file needs its format recorded:"
    " qemu-img rebase -u -F FORMAT -b FILE IMAGE"
)
_LONGEST_CHAIN = 200
"""Images below one another; libvirt stops there too."""

_SYSTEM = ("/usr", "/lib", "/lib32", "/lib64", "/libx32", "/bin", "/sbin", "/nix/store", "/gnu/store")
"""Programs, libraries and firmware; nobody's own files."""
_CONFIGURATION = (
    *("alternatives", "crypto-policies", "gai.conf", "gnutls", "group", "host.conf", "hosts", "ld.so.cache"),
    *("ld.so.preload", "localtime", "nsswitch.conf", "passwd", "pki", "protocols", "qemu", "resolv.conf", "services"),
    "ssl",
)
"""What libraries read in ``/etc``: names of hosts and users, certificates that everybody trusts, time zones."""
_KERNEL = ("/sys", "/proc/cpuinfo", "/proc/meminfo", "/proc/filesystems", "/proc/sys")
"""What the kernel tells everybody.  Not all of ``/proc``: it shows other processes of the user."""
_DEVICES = ("/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom")
_FIRMWARE = ("qemu", "qemu-firmware", "seabios", "ipxe", "ovmf", "edk2")
"""Directories of ``PREFIX/share`` beside a QEMU in ``PREFIX/bin``; the rest of it may be the user's own."""

_EVERY = (
    *(Grant(Path(path), Right.READ | Right.EXECUTE) for path in _SYSTEM),
    *(Grant(Path("/etc") / name, Right.READ) for name in _CONFIGURATION),
    *(Grant(Path(path), Right.READ) for path in _KERNEL),
    *(Grant(Path(path), Right.READ | Right.WRITE) for path in _DEVICES),
)


class Refused(Exception):
    """This QEMU runs unconfined, for the reason given."""


def shut_in(plan: LaunchPlan) -> tuple[tuple[Grant, ...] | None, str]:
    """What the plan's QEMU may touch, with everything made that it cannot make; or None, and why it may touch all.

    Raises :class:`SystemFailure` when something cannot be made.
    """
    try:
        grants = grants_of(plan)
    except Refused as error:
        log.info("%s: QEMU is not confined to its files: %s", plan.name, error)
        return None, str(error)
    prepare(plan.confinement)
    return grants, ""


def hint_of(said: str) -> str | None:
    """What to do about the last words of a confined QEMU, if confinement may have to do with them."""
    return _DENIED if "Permission denied" in said else None


def grants_of(plan: LaunchPlan) -> tuple[Grant, ...]:
    """Every right that the plan's QEMU gets; raises :class:`Refused` when it has to run without confinement."""
    wanted = plan.confinement
    if wanted.refusal:
        raise Refused(wanted.refusal)
    emulator = Path(os.path.realpath(plan.emulator))
    if _is_script(emulator):
        raise Refused(f"{plan.emulator} is a script, and virlet does not know what it runs")
    return (*_EVERY, *_resolver(), *_of_emulator(emulator), *wanted.grants, *_chains(wanted.images))


def _is_script(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(2) == b"#!"
    except OSError:
        return False  # The start will say it better.


def _resolver() -> Iterator[Grant]:
    """``/etc/resolv.conf`` is often a link into a directory in which it is replaced."""
    parent = Path(os.path.realpath("/etc/resolv.conf")).parent
    if len(parent.parts) > 3 and parent.parts[1] == "run":
        yield Grant(parent, Right.READ)


def _of_emulator(path: Path) -> Iterator[Grant]:
    """A QEMU that was installed elsewhere, or built and not installed, with what stands beside it."""
    if any(path.is_relative_to(system) for system in _SYSTEM):
        return
    yield Grant(path, Right.READ | Right.EXECUTE)
    folder = path.parent
    if folder.name in ("bin", "libexec"):
        prefix = folder.parent
        for name in ("lib", "lib64", "libexec"):
            yield Grant(prefix / name, Right.READ | Right.EXECUTE)
        for name in _FIRMWARE:
            yield Grant(prefix / "share" / name, Right.READ)
    else:
        for name in ("pc-bios", "qemu-bundle", "lib"):
            yield Grant(folder / name, Right.READ | Right.EXECUTE)


def _chains(images: Iterable[Image]) -> Iterator[Grant]:
    for image in images:
        yield from _chain(image)


def _chain(image: Image) -> Iterator[Grant]:
    """What the image names, and what that names.

    A backing file whose format is not recorded is not followed: its guest could have written a header into it that
    names any file of the user's, and QEMU would believe it.
    """
    path, follow = image.path, image.backing
    for _ in range(_LONGEST_CHAIN):
        try:
            with path.open("rb") as file:
                named = parse_header(file.read(HEADER_BYTES))
        except (OSError, ValueError):
            return  # QEMU will say it better.
        if named.data_file is not None:
            data = reference(path, named.data_file, "raw")
            writes = Right.WRITE if image.writable and path == image.path else Right(0)
            yield from (Grant(data.path, Right.READ | writes),) if data is not None else ()
        below = reference(path, named.backing, named.backing_format) if named.backing and follow else None
        if below is None:
            return
        yield Grant(below.path, Right.READ)
        if below.format not in FOLLOWED:
            if below.format is not None and below.format not in ALONE:
                raise Refused(f"virlet does not know which other files the '{below.format}' image {below.path} names")
            return
        path, follow = below.path, True


def prepare(confinement: Confinement) -> None:
    """Make the files that a confined QEMU cannot make itself, and remove dead sockets; raises SystemFailure."""
    for path in confinement.made:
        try:
            os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, 0o600))
        except OSError as error:
            raise SystemFailure.of(error, f"cannot make '{path}', to which the guest is to write") from error
    for path in confinement.bound:
        with suppress(OSError):
            if stat.S_ISSOCK(path.lstat().st_mode):
                path.unlink()
