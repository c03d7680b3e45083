"""Where disks sit on their controllers: the name of a disk says it, as in libvirt."""

from __future__ import annotations

from virlet.model.address import DriveAddress
from virlet.model.disk import Disk, DiskBus

__all__ = ["disk_index", "drive_of"]

_PREFIXES = ("fd", "hd", "vd", "sd", "xvd", "ubd")
_PER_CONTROLLER = {DiskBus.IDE: 4, DiskBus.SATA: 6, DiskBus.SCSI: 7, DiskBus.FDC: 2}


def disk_index(name: str | None) -> int | None:
    """0 for ``vda``, 26 for ``sdaa``; None for a name of another form.  A partition's number is ignored."""
    for prefix in _PREFIXES:
        rest = (name or "").removeprefix(prefix).rstrip("0123456789")
        if (name or "").startswith(prefix) and rest.isascii() and rest.isalpha() and rest.islower():
            number = 0
            for letter in rest:
                number = number * 26 + ord(letter) - ord("a") + 1
            return number - 1
    return None


def drive_of(disk: Disk) -> DriveAddress | None:
    """The disk's place on a controller: the one it names, or the one its name means; None on other buses."""
    if disk.bus not in _PER_CONTROLLER:
        return None
    if isinstance(disk.address, DriveAddress):
        return disk.address
    index = disk_index(disk.target)
    if index is None:
        return None
    controller, rest = divmod(index, _PER_CONTROLLER[disk.bus])
    bus, unit = divmod(rest, 2) if disk.bus is DiskBus.IDE else (0, rest)
    return DriveAddress(controller=controller, bus=bus, target=0, unit=unit)
