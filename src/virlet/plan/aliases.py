"""The names of devices in QEMU, as libvirt gives them: ``net0``, ``virtio-disk0``, ``serial0``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from virlet.model.chardev import Channel, ChardevSource, ChardevType, Console, Serial
from virlet.model.controller import Controller, ControllerType
from virlet.model.device import chosen_by_us
from virlet.model.disk import Disk, DiskBus
from virlet.model.elements import Domain
from virlet.plan.base import GuestDirs, short_name
from virlet.plan.board import board_of
from virlet.plan.drives import disk_index, drive_of
from virlet.plan.pci import Board
from virlet.xml.declare import replace

__all__ = ["name_all"]

T = TypeVar("T")


def name_all(domain: Domain, dirs: GuestDirs | None = None) -> Domain:
    """*domain* with an alias on every device; those beginning with ``ua-`` are the user's and stay.

    With *dirs*, channels that leave the socket to us say where it is.
    """
    devices = domain.devices
    board = board_of(domain)
    serials = _each(devices.serials, "serial")
    return replace(
        domain,
        devices=replace(
            devices,
            disks=_named(devices.disks, lambda disk, n: _disk(disk, n)),
            controllers=_named(devices.controllers, lambda item, n: _controller(item, board)),
            interfaces=_each(devices.interfaces, "net"),
            serials=serials,
            parallels=_each(devices.parallels, "parallel"),
            consoles=_consoles(devices.consoles, serials),
            channels=tuple(_socket(channel, dirs) for channel in _each(devices.channels, "channel")),
            inputs=_each(devices.inputs, "input"),
            sounds=_each(devices.sounds, "sound"),
            videos=_each(devices.videos, "video"),
            watchdogs=_each(devices.watchdogs, "watchdog"),
            rngs=_each(devices.rngs, "rng"),
            panics=_named(devices.panics, lambda panic, n: f"panic{n}" if panic.address is not None else None),
            memballoon=_one(devices.memballoon, "balloon0"),
            vsock=_one(devices.vsock, "vsock0"),
        ),
    )


def _kept(device: object) -> bool:
    alias = getattr(device, "alias", None)
    return alias is not None and not chosen_by_us(alias)


def _named(devices: tuple[T, ...], name: Callable[[T, int], str | None]) -> tuple[T, ...]:
    return tuple(
        device if _kept(device) else replace(device, alias=name(device, n))  # type: ignore[type-var]
        for n, device in enumerate(devices)
    )


def _each(devices: tuple[T, ...], prefix: str) -> tuple[T, ...]:
    """``prefixN``; a device that has such a name keeps it (it was hotplugged), others get the lowest that is free."""
    taken = {getattr(device, "alias", None) for device in devices}
    free = (f"{prefix}{n}" for n in range(2 * len(devices)) if f"{prefix}{n}" not in taken)
    return tuple(
        device if getattr(device, "alias", None) is not None else replace(device, alias=next(free))  # type: ignore[type-var]
        for device in devices
    )


def _one(device: T | None, name: str) -> T | None:
    if device is None or _kept(device):
        return device
    return replace(device, alias=name)  # type: ignore[type-var]


def _disk(disk: Disk, number: int) -> str:
    if disk.bus in (DiskBus.VIRTIO, DiskBus.USB):
        index = disk_index(disk.target)
        return f"{disk.bus}-disk{number if index is None else index}"
    drive = drive_of(disk)
    if drive is None:
        return f"disk{number}"
    name = f"{disk.bus}{drive.controller or 0}-{drive.bus or 0}"
    return f"{name}-{drive.target or 0}-{drive.unit or 0}" if disk.bus is DiskBus.SCSI else f"{name}-{drive.unit or 0}"


def _controller(item: Controller, board: Board | None) -> str:
    index = item.index or 0
    if item.type is ControllerType.PCI:
        return "pcie.0" if index == 0 and item.model == "pcie-root" else f"pci.{index}"
    if item.type is ControllerType.USB:
        return "usb" if index == 0 else f"usb{index}"
    built_in = {Board.PC: ControllerType.IDE, Board.Q35: ControllerType.SATA}
    if index == 0 and board is not None and item.type is built_in.get(board):
        return "ide"
    return f"{item.type}{index}"


def _consoles(consoles: tuple[Console, ...], serials: tuple[Serial, ...]) -> tuple[Console, ...]:
    """The first console is the first serial port."""
    out = list(_named(consoles, lambda _, n: f"console{n}"))
    if out and serials and out[0].target is not None and out[0].target.type == "serial":
        out[0] = replace(out[0], alias=serials[0].alias)
    return tuple(out)


def _socket(channel: Channel, dirs: GuestDirs | None) -> Channel:
    if dirs is None or channel.type is not ChardevType.UNIX or (channel.source and channel.source.path):
        return channel
    return replace(
        channel,
        sources=(ChardevSource(mode="bind", path=str(dirs.runtime / f"{short_name(channel.alias or '')}.sock")),),
    )
