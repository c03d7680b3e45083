"""Words that libvirt knows and virlet cannot honour, beside whole elements (:mod:`virlet.model.unsupported`).

Refused by name at start, never dropped in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.chardev import ChardevType
from virlet.model.disk import DiskBus, DiskDevice, DiskType
from virlet.model.elements import Domain
from virlet.model.graphics import GraphicsType, ListenType
from virlet.model.machine import ClockOffset, MemorySource
from virlet.model.peripherals import InputBus, InputType
from virlet.plan.board import board_of
from virlet.plan.chardevs import SUPPORTED, Chardev
from virlet.plan.pci import Board

__all__ = ["unsupported"]

_LONGEST_MENU = 65_535
"""ms; QEMU's ``splash-time``."""
_HIGHEST_PORT = 65_535
_CPU_FEATURE = re.compile(r"[A-Za-z0-9._+-]+")
"""A comma would begin another property of the CPU."""
_NETWORKED = frozenset({ChardevType.TCP, ChardevType.UDP})
_ISA_SERIALS = 4
"""QEMU's MAX_ISA_SERIAL_PORTS."""
_NO_ROOT = "it needs root"
_NOT_YET = "virlet cannot do this yet"


def unsupported(domain: Domain) -> Iterator[Problem]:
    """One problem for each word that nothing here honours."""
    yield from _computer(domain)
    yield from _disks(domain)
    yield from _chardevs(domain)
    yield from _ports(domain)
    yield from _displays(domain)
    yield from _inputs(domain)
    for number, _ in enumerate(domain.devices.sounds, 1):
        yield Problem(f"devices/sound[{number}]", f"sound cards are not supported: {_NOT_YET}", hint="remove <sound>")
    if domain.devices.vsock is not None:
        yield Problem("devices/vsock", f"<vsock> is not supported: {_NOT_YET}", hint="remove it")


def _computer(domain: Domain) -> Iterator[Problem]:
    os, backing = domain.os, domain.memory_backing
    if os.firmware == "efi" or (os.loader is not None and os.loader.type == "pflash") or os.nvram is not None:
        yield Problem("os", "UEFI firmware is not supported: not supported yet", hint="leave the firmware to QEMU")
    if os.smbios not in (None, "emulate"):
        yield Problem("os/smbios", f"smbios mode '{os.smbios}' is not supported: not supported yet")
    yield from _boot(domain)
    if backing is not None and backing.source is MemorySource.FILE:
        yield Problem("memoryBacking/source", f"memory in files is not supported: {_NOT_YET}", hint="use memfd")
    if domain.clock is not None and domain.clock.offset not in (ClockOffset.UTC, ClockOffset.LOCALTIME):
        offset = domain.clock.offset
        yield Problem(
            "clock/@offset", f"clock offset '{offset}' is not supported: {_NOT_YET}", hint="use utc or localtime"
        )


def _boot(domain: Domain) -> Iterator[Problem]:
    os = domain.os
    if os.kernel is None:
        for name, value in (("initrd", os.initrd), ("cmdline", os.cmdline)):
            if value is not None:
                yield Problem(f"os/{name}", f"<{name}> is for a <kernel>, and there is none", hint="add <kernel>")
    if os.bootmenu and (os.bootmenu_timeout or 0) > _LONGEST_MENU:
        text = f"invalid value for boot menu timeout, must be in range [0,{_LONGEST_MENU}]"
        yield Problem("os/bootmenu/@timeout", text)
    for number, feature in enumerate(domain.cpu.features if domain.cpu is not None else (), 1):
        if not _CPU_FEATURE.fullmatch(feature.name):
            yield Problem(f"cpu/feature[{number}]/@name", f"there is no CPU feature {feature.name!r}")


def _disks(domain: Domain) -> Iterator[Problem]:
    for number, disk in enumerate(domain.devices.disks, 1):
        path = f"devices/disk[{number}]"
        if disk.type not in (DiskType.FILE, DiskType.BLOCK):
            yield Problem(
                f"{path}/@type", f"disks of type '{disk.type}' are not supported: {_NOT_YET}", hint="use a file"
            )
        if disk.device is DiskDevice.LUN:
            yield Problem(f"{path}/@device", f"SCSI passthrough is not supported: {_NO_ROOT}", hint="use device='disk'")
        if disk.bus in (DiskBus.XEN, DiskBus.UML, DiskBus.SD, DiskBus.NVME):
            yield Problem(f"{path}/target/@bus", f"disk bus '{disk.bus}' is not supported", hint="use bus='virtio'")
        if disk.bus is DiskBus.IDE and board_of(domain) is not Board.PC:
            text = "IDE controllers are unsupported for this QEMU binary or machine type"
            yield Problem(f"{path}/target/@bus", text, hint="use bus='sata'")
        if disk.geometry is not None:
            yield Problem(f"{path}/geometry", f"<geometry> of a disk is not supported: {_NOT_YET}", hint="remove it")
        driver = disk.driver
        if driver is None:
            continue
        if driver.io == "native" and driver.cache not in ("none", "directsync"):
            yield Problem(
                f"{path}/driver/@io",
                "native I/O needs either no disk cache or directsync cache mode, QEMU will fallback to aio=threads",
                hint="add cache='none'",
            )
        if driver.copy_on_read:
            yield Problem(f"{path}/driver/@copy_on_read", f"copy on read is not supported: {_NOT_YET}")


def _every_chardev(domain: Domain) -> Iterator[tuple[str, Chardev]]:
    """Each character device and where it stands."""
    devices = domain.devices
    kinds: tuple[tuple[str, tuple[Chardev, ...]], ...] = (
        ("serial", devices.serials),
        ("parallel", devices.parallels),
        ("console", devices.consoles),
        ("channel", devices.channels),
    )
    return ((f"devices/{tag}[{number}]", item) for tag, items in kinds for number, item in enumerate(items, 1))


def _chardevs(domain: Domain) -> Iterator[Problem]:
    devices = domain.devices
    for path, item in _every_chardev(domain):
        if item.type not in SUPPORTED:
            why = "it would hold the daemon's terminal" if item.type is ChardevType.STDIO else _NOT_YET
            yield Problem(
                f"{path}/@type",
                f"character devices of type '{item.type}' are not supported: {why}",
                hint="use 'pty', 'unix' or 'file'",
            )
    for number, channel in enumerate(devices.channels, 1):
        if channel.target_type != "virtio":
            yield Problem(
                f"devices/channel[{number}]/target/@type",
                f"channel target type '{channel.target_type}' is not supported: {_NOT_YET}",
                hint="use type='virtio'",
            )
    for number, console in enumerate(devices.consoles, 1):
        kind = console.target.type if console.target is not None else None
        if kind not in (None, "serial", "virtio"):
            yield Problem(f"devices/console[{number}]/target/@type", f"console target type '{kind}' is not supported")
        elif kind in (None, "serial") and number > 1:
            yield Problem(
                f"devices/console[{number}]/target/@type",
                "only the first console can be a serial port",
                hint="use <target type='virtio'/>",
            )


def _ports(domain: Domain) -> Iterator[Problem]:
    """Numbers that QEMU takes modulo 65536, and more serial ports than a PC has."""
    devices = domain.devices
    for path, item in _every_chardev(domain):
        for place, source in enumerate(item.sources, 1):
            service = source.service or ""
            if item.type in _NETWORKED and service.isdecimal() and int(service) > _HIGHEST_PORT:
                where = f"{path}/source[{place}]/@service"
                yield Problem(where, f"there is no port {service}: the highest is {_HIGHEST_PORT}")
    isa = [n for n, one in enumerate(devices.serials, 1) if one.target is not None and one.target.type == "isa-serial"]
    for number in isa[_ISA_SERIALS:]:
        text = f"a PC has no more than {_ISA_SERIALS} serial ports"
        yield Problem(f"devices/serial[{number}]", text, hint="use <target type='pci-serial'/>")


def _displays(domain: Domain) -> Iterator[Problem]:
    if sum(display.type is GraphicsType.VNC for display in domain.devices.graphics) > 1:
        yield Problem(
            "devices/graphics[2]", "only 1 graphics device of type 'vnc' is supported", hint="remove the others"
        )
    for number, display in enumerate(domain.devices.graphics, 1):
        path = f"devices/graphics[{number}]"
        if display.type is not GraphicsType.VNC:
            continue
        if display.listens and display.listens[0].type is ListenType.NETWORK:
            yield Problem(f"{path}/listen", "listening on a virtual network needs root's network driver")
        if display.port is not None and (0 < display.port < 5900 or display.port > _HIGHEST_PORT):
            yield Problem(f"{path}/@port", "vnc port must be in range [5900,65535]")
        if display.passwd_valid_to is not None:
            yield Problem(f"{path}/@passwdValidTo", f"a password that ends is not supported: {_NOT_YET}")
    for number, audio in enumerate(domain.devices.audios, 1):
        if audio.type != "none":
            path = f"devices/audio[{number}]/@type"
            yield Problem(path, f"audio type '{audio.type}' is not supported: {_NOT_YET}", hint="use type='none'")
    for number, video in enumerate(domain.devices.videos, 1):
        if video.model is not None and video.model.accel3d:
            yield Problem(f"devices/video[{number}]/model/acceleration", f"3D is not supported: {_NOT_YET}")


def _inputs(domain: Domain) -> Iterator[Problem]:
    for number, item in enumerate(domain.devices.inputs, 1):
        if item.type in (InputType.EVDEV, InputType.PASSTHROUGH):
            path = f"devices/input[{number}]/@type"
            yield Problem(path, f"input devices of the host cannot be given away: {_NO_ROOT}", hint="use a usb tablet")
        elif item.bus in (InputBus.XEN, InputBus.PARALLELS):
            yield Problem(f"devices/input[{number}]/@bus", f"input bus '{item.bus}' is not supported", hint="use usb")
    for number, rng in enumerate(domain.devices.rngs, 1):
        if rng.backend is not None and rng.backend.model == "egd":
            path = f"devices/rng[{number}]/backend/@model"
            yield Problem(path, f"randomness from a daemon is not supported: {_NOT_YET}", hint="use model='random'")
    for number, panic in enumerate(domain.devices.panics, 1):
        if panic.model not in (None, "isa", "pvpanic"):
            yield Problem(f"devices/panic[{number}]/@model", f"panic model '{panic.model}' is not supported")
