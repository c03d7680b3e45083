"""How QEMU is told where a device sits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from virlet.model.address import Address, PciAddress, UsbAddress
from virlet.plan.base import JsonValue

__all__ = ["Member", "given", "place"]

Member = tuple[str, JsonValue]


def given(*members: Member) -> Iterator[Member]:
    """Those that have a value."""
    return ((name, value) for name, value in members if value is not None)


def place(address: Address | None, bus_ids: Mapping[int, str]) -> Iterator[Member]:
    """``bus`` and ``addr`` of a PCI device, ``bus`` and ``port`` of a USB device, nothing for the rest.

    *bus_ids* maps PCI bus numbers to QEMU's names: ``{0: "pcie.0"}``; others are called ``pci.N``.
    """
    match address:
        case PciAddress():
            bus = address.bus or 0
            yield "bus", bus_ids.get(bus, f"pci.{bus}")
            if address.multifunction is not None:
                yield "multifunction", address.multifunction
            yield "addr", f"0x{address.slot or 0:x}" + (f".0x{address.function:x}" if address.function else "")
        case UsbAddress():
            yield "bus", f"usb{address.bus}.0" if address.bus else "usb.0"
            if address.port is not None:
                yield "port", address.port
