"""Disks: ``-blockdev`` for the image, ``-device`` for what the guest sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.model.address import DriveAddress, PciAddress
from virlet.model.controller import ControllerType
from virlet.model.disk import Disk, DiskBus, DiskDevice, DiskDriver, DiskType
from virlet.plan.base import Access, FileNeed, Json, JsonValue, Word
from virlet.plan.board import controller_id
from virlet.plan.drives import drive_of
from virlet.plan.place import Member, given, place
from virlet.plan.words import Piece, Scene, device, virtio_name

__all__ = ["CACHE_MODES", "disks"]

CACHE_MODES: dict[str, tuple[bool, bool, bool]] = {
    "none": (True, False, True),
    "writethrough": (False, False, False),
    "writeback": (False, False, True),
    "directsync": (True, False, False),
    "unsafe": (False, True, True),
}
"""Cache mode → around the host's cache, ignore flushes, the guest sees a write cache."""


def disks(scene: Scene) -> Iterator[Piece]:
    """Every disk, in the order of the XML."""
    for number, disk in enumerate(scene.domain.devices.disks, 1):
        yield _disk(disk, number, scene)


def _disk(disk: Disk, number: int, scene: Scene) -> Piece:
    words: list[Word] = []
    node: str | None = None
    if disk.path:
        for image in _nodes(disk, number, disk.path):
            words += ["-blockdev", Json(image)]
            node = str(image["node-name"])
    words += device(_driver(disk), _members(disk, node, scene))
    return Piece(tuple(words), files=tuple(_needs(disk, number)))


def _nodes(disk: Disk, number: int, path: str) -> Iterator[dict[str, JsonValue]]:
    """The file, and for other formats than raw what is in it."""
    driver = disk.driver or DiskDriver()
    raw = driver.type in (None, "raw")
    storage = f"libvirt-{number}-storage"
    block = disk.type is DiskType.BLOCK
    options: dict[str, JsonValue] = dict(given(("discard", driver.discard), ("detect-zeroes", driver.detect_zeroes)))
    cache = _cache(disk)
    if cache is not None:
        direct, no_flush, _ = CACHE_MODES[cache]
        options["cache"] = {"direct": direct, "no-flush": no_flush}
    file: dict[str, JsonValue] = {"driver": "host_device" if block else "file", "filename": path}
    file.update(given(("aio", driver.io)))
    file["node-name"] = storage
    # A format layer opens the file for writing only if it needs to, so that a read-only image may be shared.
    file.update((("read-only", disk.readonly),) if raw else (("auto-read-only", True),))
    yield {**file, **(options if raw else {name: value for name, value in options.items() if name != "detect-zeroes"})}
    if raw:
        return
    form: dict[str, JsonValue] = {"node-name": f"libvirt-{number}-format", "read-only": disk.readonly, **options}
    form.update(driver=driver.type, file=storage)
    if disk.backing_store is not None and not disk.backing_store.content and not disk.backing_store.attributes:
        form["backing"] = None
    yield form


def _cache(disk: Disk) -> str | None:
    """The cache mode; a disk that other guests write too must not be cached on the host."""
    chosen = disk.driver.cache if disk.driver is not None else None
    if chosen in (None, "default"):
        return "none" if disk.shareable else None
    return chosen


def _driver(disk: Disk) -> str:
    kind = "cd" if disk.device is DiskDevice.CDROM else "hd"
    match disk.bus:
        case DiskBus.VIRTIO:
            return virtio_name("blk", disk.model)
        case DiskBus.SCSI:
            return f"scsi-{kind}"
        case DiskBus.USB:
            return "usb-storage"
        case DiskBus.FDC:
            return "floppy"
        case _:
            return f"ide-{kind}"


def _members(disk: Disk, node: str | None, scene: Scene) -> Iterator[Member]:
    driver = disk.driver or DiskDriver()
    if disk.bus is DiskBus.VIRTIO:
        yield from given(
            ("iommu_platform", driver.iommu),
            ("ats", driver.ats),
            ("packed", driver.packed),
            ("page-per-vq", driver.page_per_vq),
            ("ioeventfd", driver.ioeventfd),
            ("event_idx", driver.event_idx),
            ("num-queues", driver.queues),
            ("queue-size", driver.queue_size),
        )
    yield from _spot(disk, scene)
    if disk.bus is DiskBus.SCSI:
        yield "device_id", disk.serial or f"drive-{disk.alias}"
    yield from given(("share-rw", True if disk.shareable else None), ("drive", node), ("id", disk.alias))
    order = disk.boot.order if disk.boot is not None else scene.boot.get(disk.alias or "")
    yield from given(
        ("bootindex", order),
        ("logical_block_size", disk.logical_block_size),
        ("physical_block_size", disk.physical_block_size),
        ("discard_granularity", disk.discard_granularity),
        ("wwn", int(disk.wwn, 16) if disk.wwn else None),
        ("rotation_rate", disk.rotation_rate),
        ("vendor", disk.vendor),
        ("product", disk.product),
        ("removable", disk.removable if disk.bus is DiskBus.USB else None),
    )
    cache = _cache(disk)
    if cache is not None and disk.device is DiskDevice.DISK:
        yield "write-cache", "on" if CACHE_MODES[cache][2] else "off"
    errors = (("werror", driver.error_policy), ("rerror", driver.rerror_policy or _read_policy(driver)))
    yield from given(*((name, _policy(value)) for name, value in errors))
    yield from given(("serial", disk.serial))


def _read_policy(driver: DiskDriver) -> str | None:
    return None if driver.error_policy == "enospace" else driver.error_policy


def _policy(word: str | None) -> str | None:
    return "enospc" if word == "enospace" else word


def _spot(disk: Disk, scene: Scene) -> Iterator[Member]:
    drive = drive_of(disk) if not isinstance(disk.address, PciAddress) else None
    if drive is None:
        yield from place(disk.address, scene.bus_ids)
        return
    yield from _unit(disk, drive, scene)


def _unit(disk: Disk, drive: DriveAddress, scene: Scene) -> Iterator[Member]:
    number, unit = drive.controller or 0, drive.unit or 0
    match disk.bus:
        case DiskBus.SCSI:
            yield "bus", f"{controller_id(scene.domain, ControllerType.SCSI, number)}.0"
            if _has_luns(scene, number):
                yield from (("channel", 0), ("scsi-id", drive.target or 0), ("lun", unit))
            else:
                yield "scsi-id", unit
        case DiskBus.FDC:
            yield "unit", unit
        case DiskBus.SATA:
            yield "bus", f"{controller_id(scene.domain, ControllerType.SATA, number)}.{unit}"
        case _:
            yield from (("bus", f"ide.{drive.bus or 0}"), ("unit", unit))


def _has_luns(scene: Scene, number: int) -> bool:
    """LSI's old chip has targets only."""
    scsi = [item for item in scene.domain.devices.controllers if item.type is ControllerType.SCSI]
    return all(item.model != "lsilogic" for item in scsi if item.index == number)


def _needs(disk: Disk, number: int) -> Iterator[FileNeed]:
    if disk.path:
        name = "dev" if disk.type is DiskType.BLOCK else "file"
        access = Access.READ if disk.readonly else Access.READ_WRITE
        yield FileNeed(Path(disk.path), access, f"devices/disk[{number}]/source/@{name}", f"disk '{disk.target}'")
