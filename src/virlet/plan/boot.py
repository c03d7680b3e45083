"""What the firmware tries, and in which order: ``<os><boot>`` as numbers on devices, which is all that QEMU knows."""

from __future__ import annotations

from collections.abc import Mapping

from virlet.model.disk import Disk, DiskDevice
from virlet.model.elements import Domain
from virlet.model.machine import BootDevice

__all__ = ["boot_order"]


def boot_order(domain: Domain) -> Mapping[str, int]:
    """Alias → place, from ``<os><boot>``: the first disk of each kind, the first interface.

    Empty where devices have orders of their own, which exclude ``<os><boot>``.
    """
    devices = domain.devices
    own = [disk.boot for disk in devices.disks] + [nic.boot for nic in devices.interfaces]
    if any(boot is not None for boot in own):
        return {}
    order: dict[str, int] = {}
    for number, what in enumerate(dict.fromkeys(domain.os.boot), 1):
        alias = _first(domain, what)
        if alias is not None:
            order[alias] = number
    return order


_KINDS = {BootDevice.FD: DiskDevice.FLOPPY, BootDevice.CDROM: DiskDevice.CDROM, BootDevice.HD: DiskDevice.DISK}


def _first(domain: Domain, what: BootDevice) -> str | None:
    if what is BootDevice.NETWORK:
        return next((nic.alias for nic in domain.devices.interfaces), None)
    disks: tuple[Disk, ...] = domain.devices.disks
    return next((disk.alias for disk in disks if disk.device is _KINDS[what]), None)
