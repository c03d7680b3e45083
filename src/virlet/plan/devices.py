"""Whether a QEMU has the devices that a domain names."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.chardev import Serial
from virlet.model.disk import DiskBus, DiskDevice
from virlet.model.elements import Domain
from virlet.net.device import driver_of
from virlet.plan.board import board_of
from virlet.plan.controllers import driver_name
from virlet.plan.displays import video_driver
from virlet.plan.facts import QemuFacts
from virlet.plan.words import virtio_name

__all__ = ["check_devices"]


def check_devices(domain: Domain, qemu: QemuFacts) -> Iterator[Problem]:
    """One problem for each device that this QEMU was built without."""
    if qemu.devices:
        for path, driver, what in _named(domain):
            if driver not in qemu.devices and not _alias_known(driver, qemu):
                yield Problem(path, f"{qemu.path} has no device '{driver}', which {what} needs")
    for number, disk in enumerate(domain.devices.disks, 1):
        form = disk.driver.type if disk.driver is not None else None
        if form is not None and qemu.blockdevs and form not in qemu.blockdevs:
            yield Problem(
                f"devices/disk[{number}]/driver/@type",
                f"{qemu.path} cannot read images of format '{form}'",
                hint="convert it with qemu-img convert -O qcow2",
            )


_ALIASES = {"lsi": "lsi53c895a", "ahci": "ich9-ahci"}


def _alias_known(driver: str, qemu: QemuFacts) -> bool:
    return _ALIASES.get(driver, driver) in qemu.devices


def _named(domain: Domain) -> Iterator[tuple[str, str, str]]:
    """Where in the XML, QEMU's name of the device, what it is for."""
    devices = domain.devices
    board = board_of(domain)
    for n, nic in enumerate(devices.interfaces, 1):
        if nic.model:
            yield f"devices/interface[{n}]/model/@type", driver_of(nic.model), f"the interface model '{nic.model}'"
    for n, controller in enumerate(devices.controllers, 1):
        driver = driver_name(controller, board)
        if driver is not None:
            yield f"devices/controller[{n}]/@model", driver, f"the {controller.type} controller"
    for n, disk in enumerate(devices.disks, 1):
        if disk.bus is DiskBus.VIRTIO and disk.device is DiskDevice.DISK:
            yield f"devices/disk[{n}]/@model", virtio_name("blk", disk.model), f"disk '{disk.target}'"
    for n, video in enumerate(devices.videos, 1):
        driver = video_driver(video, first=n == 1)
        if driver is not None and video.model is not None:
            yield f"devices/video[{n}]/model/@type", driver, f"the video model '{video.model.type}'"
    for n, watchdog in enumerate(devices.watchdogs, 1):
        if watchdog.model != "itco":
            yield f"devices/watchdog[{n}]/@model", watchdog.model, "the watchdog"
    for n, rng in enumerate(devices.rngs, 1):
        yield f"devices/rng[{n}]/@model", virtio_name("rng", rng.model), "the source of random numbers"
    for n, serial in enumerate(devices.serials, 1):
        driver = _serial(serial)
        if driver is not None:
            yield f"devices/serial[{n}]/target/@type", driver, "the serial port"
    balloon = devices.memballoon
    if balloon is not None and balloon.model != "none":
        yield "devices/memballoon/@model", virtio_name("balloon", balloon.model), "the balloon"


def _serial(serial: Serial) -> str | None:
    kind = serial.target.type if serial.target is not None else None
    return None if kind in (None, "system-serial") else (serial.target and serial.target.model) or kind
