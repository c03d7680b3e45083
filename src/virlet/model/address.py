"""Where a device sits: its address on a bus."""

from __future__ import annotations

from typing import TypeAlias

from virlet.xml.declare import Element, attr, element
from virlet.xml.kinds import ON_OFF, STR, UINT, hexadecimal

__all__ = [
    "Address",
    "DriveAddress",
    "IsaAddress",
    "MmioAddress",
    "PciAddress",
    "SerialAddress",
    "UnassignedAddress",
    "UsbAddress",
]

_DOMAIN = hexadecimal("PCI address domain", 4, 0xFFFFFFFF)
_BUS = hexadecimal("PCI address bus", 2, 0xFF)
_SLOT = hexadecimal("PCI address slot", 2, 0x1F)
_FUNCTION = hexadecimal("PCI address function", 1, 7)


@element("address", variant=("type", "pci"))
class PciAddress(Element):
    """A PCI function."""

    domain: int = attr("@domain", _DOMAIN, default=0, doc="number of the host bridge")
    bus: int = attr("@bus", _BUS, default=0, doc="index of the bus's controller")
    slot: int = attr("@slot", _SLOT, default=0, doc="slot on the bus")
    function: int = attr("@function", _FUNCTION, default=0, doc="function in the slot")
    multifunction: bool | None = attr("@multifunction", ON_OFF, default=None, doc="more functions follow in this slot")


@element("address", variant=("type", "drive"))
class DriveAddress(Element):
    """A unit of a disk controller."""

    controller: int = attr("@controller", UINT, default=0, doc="index of the controller")
    bus: int = attr("@bus", UINT, default=0, doc="bus of the controller")
    target: int = attr("@target", UINT, default=0, doc="target on the bus")
    unit: int = attr("@unit", UINT, default=0, doc="unit of the target")


@element("address", variant=("type", "usb"))
class UsbAddress(Element):
    """A USB port."""

    bus: int = attr("@bus", UINT, default=0, doc="index of the USB controller")
    port: str | None = attr("@port", STR, default=None, doc="port, dotted through hubs")


@element("address", variant=("type", "virtio-serial"))
class SerialAddress(Element):
    """A port of a virtio-serial controller."""

    controller: int = attr("@controller", UINT, default=0, doc="index of the controller")
    bus: int = attr("@bus", UINT, default=0, doc="always 0")
    port: int | None = attr("@port", UINT, default=None, doc="port of the controller")


@element("address", variant=("type", "isa"))
class IsaAddress(Element):
    """Ports and interrupt on the ISA bus."""

    iobase: str | None = attr("@iobase", STR, default=None, doc="first I/O port")
    irq: str | None = attr("@irq", STR, default=None, doc="interrupt")


@element("address", variant=("type", "virtio-mmio"))
class MmioAddress(Element):
    """A virtio-mmio transport; QEMU places it."""


@element("address", variant=("type", "unassigned"))
class UnassignedAddress(Element):
    """The device is described but not given to the guest."""


Address: TypeAlias = (
    PciAddress | DriveAddress | UsbAddress | SerialAddress | IsaAddress | MmioAddress | UnassignedAddress
)
