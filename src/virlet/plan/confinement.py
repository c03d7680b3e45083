"""Which files a guest's QEMU is for, so that the engine can take all others away from it (landlock).  Pure.

A QEMU that a guest has taken over has its user's uid: without this it reads the user's keys and writes the user's
shell profile.  Named here is what the domain names; what every QEMU needs (its libraries, firmware, ``/dev/null``) is
the engine's to add, and so is what an image names in its turn, its backing file.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from virlet.model.chardev import ChardevType
from virlet.model.disk import Disk
from virlet.model.elements import Domain, DomainType
from virlet.model.graphics import GraphicsType, ListenType
from virlet.plan.base import Access, FileNeed, GuestDirs, Need, NetPlan
from virlet.plan.chardevs import Chardev
from virlet.plan.facts import HostFacts
from virlet.plan.images import FOLLOWED
from virlet.plan.rights import Confinement, Grant, Image, Right

__all__ = ["ALONE", "confinement_of"]


ALONE = frozenset({"raw", "luks", "vdi", "vpc", "vhdx", "bochs", "cloop", "parallels", "dmg"})
"""Formats that QEMU keeps in one file."""


def confinement_of(
    domain: Domain, host: HostFacts, dirs: GuestDirs, nets: Iterable[NetPlan], files: Iterable[FileNeed]
) -> Confinement:
    """For *domain*, whose interfaces are planned as *nets*; *files* are what its plan needs to be there."""
    nets = tuple(nets)
    refusal = _refusal(domain, host, nets)
    if refusal:
        return Confinement(refusal)
    bound = tuple(path for path in _bound(domain, nets) if path.parent != dirs.runtime)
    made = tuple(_made(domain))
    return Confinement(
        grants=(
            Grant(dirs.runtime, Right.READ | Right.WRITE | Right.BIND | Right.REMOVE | Right.CONNECT, must=True),
            *_devices(domain),
            *(grant for need in files for grant in _needed(need)),
            *(Grant(path, Right.WRITE, must=True) for path in made),
            *(Grant(path.parent, Right.BIND) for path in bound),
            *_dialled(domain, nets),
        ),
        images=tuple(_images(domain)),
        made=made,
        bound=bound,
    )


def _refusal(domain: Domain, host: HostFacts, nets: Iterable[NetPlan]) -> str:
    own = domain.qemu_commandline
    if not host.landlock.ok:
        return host.landlock.reason
    if own is not None and (own.args or own.envs):
        return "<qemu:commandline> may name files that virlet does not know"
    if any(Need.NO_SANDBOX in net.needs for net in nets):
        return "its own passt cannot set up its sandbox inside landlock"
    strange = next((image.format for image in _formats(domain) if image.format not in FOLLOWED | ALONE), None)
    return f"virlet does not know which other files a '{strange}' image names" if strange else ""


def _needed(need: FileNeed) -> Iterator[Grant]:
    """What the domain names; what an interface names is opened or run by us, but for its socket."""
    ours = need.xml_path.startswith("devices/interface")
    if need.access is Access.SOCKET:
        yield Grant(need.path, Right.CONNECT)
    elif not ours and need.access in (Access.READ, Access.READ_WRITE):
        yield Grant(need.path, Right.READ if need.access is Access.READ else Right.READ | Right.WRITE, must=True)


def _devices(domain: Domain) -> Iterator[Grant]:
    if domain.type is DomainType.KVM:
        yield Grant(Path("/dev/kvm"), Right.READ | Right.WRITE, must=True)
    if any(item.type is ChardevType.PTY for item, _ in _chardevs(domain)):
        yield Grant(Path("/dev/ptmx"), Right.READ | Right.WRITE)
        yield Grant(Path("/dev/pts"), Right.READ | Right.WRITE)


def _chardevs(domain: Domain) -> Iterator[tuple[Chardev, str | None]]:
    """Each with the path behind it."""
    devices = domain.devices
    every: tuple[Chardev, ...] = (*devices.serials, *devices.parallels, *devices.channels, *devices.consoles)
    for item in every:
        yield item, item.source.path if item.source is not None else None


def _made(domain: Domain) -> Iterator[Path]:
    for item, path in _chardevs(domain):
        if item.type is ChardevType.FILE and path:
            yield Path(path)
        if item.log is not None and item.log.file:
            yield Path(item.log.file)


def _bound(domain: Domain, nets: Iterable[NetPlan]) -> Iterator[Path]:
    """Sockets that QEMU binds itself; all others it is handed."""
    for display in domain.devices.graphics:
        for listen in display.listens[:1]:
            path = listen.socket or display.socket
            if display.type is GraphicsType.VNC and listen.type is ListenType.SOCKET and path:
                yield Path(path)
    for net in nets:
        if net.chardev is not None and net.chardev.server:
            yield net.chardev.path


def _dialled(domain: Domain, nets: Iterable[NetPlan]) -> Iterator[Grant]:
    """A rule is about a file, not about its name: what is dialled again may be another file then."""
    for item, path in _chardevs(domain):
        if item.type is ChardevType.UNIX and path and item.source is not None and item.source.reconnect:
            yield Grant(Path(path).parent, Right.CONNECT)
        if item.type is ChardevType.PIPE and path:
            for end in (path, f"{path}.in", f"{path}.out"):
                yield Grant(Path(end), Right.READ | Right.WRITE)
    for net in nets:
        if net.chardev is not None and net.chardev.reconnect_ms is not None and not net.chardev.server:
            yield Grant(net.chardev.path.parent, Right.CONNECT)


def _images(domain: Domain) -> Iterator[Image]:
    return (image for image in _formats(domain) if image.format in FOLLOWED)


def _formats(domain: Domain) -> Iterator[Image]:
    for disk in domain.devices.disks:
        if disk.path:
            form = (disk.driver.type if disk.driver is not None else None) or "raw"
            yield Image(Path(disk.path), form, not disk.readonly, not _ends_the_chain(disk))


def _ends_the_chain(disk: Disk) -> bool:
    """``<backingStore/>``: QEMU is told that there is nothing below."""
    store = disk.backing_store
    return store is not None and not store.content and not store.attributes
