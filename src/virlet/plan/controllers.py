"""``-device`` for controllers; those that are part of the board are not said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from virlet.model.controller import Controller, ControllerType
from virlet.plan.base import Word
from virlet.plan.board import board_of
from virlet.plan.pci import Board
from virlet.plan.place import Member, given, place
from virlet.plan.words import Piece, Scene, device, virtio_name

__all__ = ["PCI_DRIVERS", "SCSI_DRIVERS", "USB_DRIVERS", "controllers", "driver_name"]

PCI_DRIVERS: Mapping[str, str] = {
    "pcie-root-port": "pcie-root-port",
    "pcie-to-pci-bridge": "pcie-pci-bridge",
    "pci-bridge": "pci-bridge",
    "dmi-to-pci-bridge": "i82801b11-bridge",
    "pcie-switch-upstream-port": "x3130-upstream",
    "pcie-switch-downstream-port": "xio3130-downstream",
}
USB_DRIVERS: Mapping[str, str] = {
    "piix3-uhci": "piix3-usb-uhci",
    "piix4-uhci": "piix4-usb-uhci",
    "ehci": "usb-ehci",
    "ich9-ehci1": "ich9-usb-ehci1",
    "ich9-uhci1": "ich9-usb-uhci1",
    "ich9-uhci2": "ich9-usb-uhci2",
    "ich9-uhci3": "ich9-usb-uhci3",
    "vt82c686b-uhci": "vt82c686b-usb-uhci",
    "pci-ohci": "pci-ohci",
    "nec-xhci": "nec-usb-xhci",
    "qemu-xhci": "qemu-xhci",
}
SCSI_DRIVERS: Mapping[str, str] = {
    "lsilogic": "lsi",
    "lsisas1068": "mptsas1068",
    "lsisas1078": "megasas",
    "vmpvscsi": "pvscsi",
    "am53c974": "am53c974",
    "dc390": "dc-390",
}

_ORDER = (
    ControllerType.PCI,
    ControllerType.USB,
    ControllerType.SCSI,
    ControllerType.IDE,
    ControllerType.SATA,
    ControllerType.VIRTIO_SERIAL,
    ControllerType.FDC,
)


def controllers(scene: Scene) -> Piece:
    """Buses before what hangs on them."""
    words: list[Word] = []
    for kind in _ORDER:
        found = [item for item in scene.domain.devices.controllers if item.type is kind]
        for item in sorted(found, key=lambda item: item.index or 0) if kind is ControllerType.PCI else found:
            driver = driver_name(item, board_of(scene.domain))
            if driver is not None:
                words += device(driver, _members(item, scene))
    return Piece(tuple(words))


def driver_name(item: Controller, board: Board | None) -> str | None:
    """QEMU's device for a controller; None when the board has it, or when it stands for "none"."""
    index, model = item.index or 0, item.model or ""
    match item.type:
        case ControllerType.PCI:
            if model in ("pci-root", "pcie-root"):
                return None
            return item.pci_model or PCI_DRIVERS.get(model, model)
        case ControllerType.USB:
            return None if model == "none" else USB_DRIVERS.get(model, model)
        case ControllerType.SCSI:
            return (
                virtio_name("scsi", model.replace("-scsi", "")) if "virtio" in model else SCSI_DRIVERS.get(model, model)
            )
        case ControllerType.SATA:
            return None if index == 0 and board is Board.Q35 else "ahci"
        case ControllerType.VIRTIO_SERIAL:
            return virtio_name("serial", model)
        case ControllerType.FDC:
            return None if board is Board.PC else "isa-fdc"
        case ControllerType.IDE:
            return None if index == 0 and board is Board.PC else "piix3-ide"
        case _:
            return str(item.type)


def _members(item: Controller, scene: Scene) -> Iterator[Member]:
    match item.type:
        case ControllerType.PCI:
            yield from _pci(item)
        case ControllerType.USB if item.model in ("qemu-xhci", "nec-xhci"):
            yield from given(("p2", item.ports), ("p3", item.ports))
    driver = item.driver
    if driver is not None:
        yield from given(
            ("iommu_platform", driver.iommu),
            ("ats", driver.ats),
            ("packed", driver.packed),
            ("page-per-vq", driver.page_per_vq),
            ("num_queues", driver.queues),
            ("cmd_per_lun", driver.cmd_per_lun),
            ("max_sectors", driver.max_sectors),
            ("ioeventfd", driver.ioeventfd),
        )
    if item.type is ControllerType.USB and item.master_startport is not None:
        yield from (("masterbus", f"{item.alias}.0"), ("firstport", item.master_startport))
    else:
        yield "id", item.alias
    if item.type is ControllerType.VIRTIO_SERIAL:
        yield from given(("max_ports", item.ports), ("vectors", item.vectors))
    yield from place(item.address, scene.bus_ids)


def _pci(item: Controller) -> Iterator[Member]:
    target = item.target
    if target is None:
        return
    yield from given(
        ("port", target.port),
        ("chassis", target.chassis),
        ("chassis_nr", target.chassis_nr),
        ("hotplug", target.hotplug),
    )
