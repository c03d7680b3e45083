"""What devices of every kind have in common: alias, boot order, ROM, virtio options, address."""

from __future__ import annotations

from enum import StrEnum

from virlet.model.address import (
    Address,
    DriveAddress,
    IsaAddress,
    MmioAddress,
    PciAddress,
    SerialAddress,
    UnassignedAddress,
    UsbAddress,
)
from virlet.xml.declare import Element, attr, child, element
from virlet.xml.kinds import ON_OFF, POSITIVE, STR, YES_NO

__all__ = ["BootOrder", "OnOff", "Rom", "VirtioOptions", "address", "alias", "chosen_by_us"]

USER_ALIAS = "ua-"


class OnOff(StrEnum):
    """A switch that may also be left to the device."""

    ON = "on"
    OFF = "off"
    AUTO = "auto"


@element("boot")
class BootOrder(Element):
    """The place of a device in the firmware's boot order."""

    order: int = attr("@order", POSITIVE, doc="1 is tried first; unique among all devices")
    loadparm: str | None = attr("@loadparm", STR, default=None, doc="S/390 only; kept")


@element("rom")
class Rom(Element):
    """The option ROM of a PCI device."""

    enabled: bool | None = attr("@enabled", YES_NO, default=None, doc="no: the device has no ROM at all")
    bar: bool | None = attr("@bar", ON_OFF, default=None, doc="whether the ROM shows in the guest's memory map")
    file: str | None = attr("@file", STR, default=None, doc="file with the ROM's contents; empty for none")


@element("driver")
class VirtioOptions(Element):
    """Options that every virtio device knows."""

    iommu: bool | None = attr("@iommu", ON_OFF, default=None, doc="go through the emulated IOMMU")
    ats: bool | None = attr("@ats", ON_OFF, default=None, doc="address translation service")
    packed: bool | None = attr("@packed", ON_OFF, default=None, doc="packed virtqueues")
    page_per_vq: bool | None = attr("@page_per_vq", ON_OFF, default=None, doc="one notification page per queue")


def chosen_by_us(name: str) -> bool:
    """Whether an alias was assigned at start; the user's own begin with ``ua-``."""
    return not name.startswith(USER_ALIAS)


def alias() -> str | None:
    """The property ``alias/@name``, alike on every device."""
    return attr(
        "alias/@name",
        STR,
        default=None,
        live=chosen_by_us,
        doc="id of the device in QEMU; your own begins with 'ua-', others are assigned at start",
    )


def address() -> Address | None:
    """The property ``address``, alike on every device."""
    found: Address | None = child(
        PciAddress,
        DriveAddress,
        UsbAddress,
        SerialAddress,
        IsaAddress,
        MmioAddress,
        UnassignedAddress,
        default=None,
        doc="where the device sits; assigned when absent",
    )
    return found
