"""The ``<controller>`` element."""

from __future__ import annotations

from enum import StrEnum

from virlet.model.address import Address
from virlet.model.device import address, alias
from virlet.xml.declare import Element, attr, child, element
from virlet.xml.kinds import ON_OFF, STR, UINT, enum, hexadecimal

__all__ = ["Controller", "ControllerDriver", "ControllerTarget", "ControllerType"]


class ControllerType(StrEnum):
    """The bus that a controller makes."""

    IDE = "ide"
    FDC = "fdc"
    SCSI = "scsi"
    SATA = "sata"
    VIRTIO_SERIAL = "virtio-serial"
    CCID = "ccid"
    USB = "usb"
    PCI = "pci"
    XENBUS = "xenbus"
    ISA = "isa"
    NVME = "nvme"


@element("driver")
class ControllerDriver(Element):
    """Options of a virtio controller."""

    queues: int | None = attr("@queues", UINT, default=None, doc="queues")
    cmd_per_lun: int | None = attr("@cmd_per_lun", UINT, default=None, doc="commands queued for a unit")
    max_sectors: int | None = attr("@max_sectors", UINT, default=None, doc="largest transfer, sectors")
    ioeventfd: bool | None = attr("@ioeventfd", ON_OFF, default=None, doc="notify outside the vCPU thread")
    iothread: int | None = attr("@iothread", UINT, default=None, doc="which I/O thread")
    iommu: bool | None = attr("@iommu", ON_OFF, default=None, doc="go through the emulated IOMMU")
    ats: bool | None = attr("@ats", ON_OFF, default=None, doc="address translation service")
    packed: bool | None = attr("@packed", ON_OFF, default=None, doc="packed virtqueues")
    page_per_vq: bool | None = attr("@page_per_vq", ON_OFF, default=None, doc="one notification page per queue")


@element("target")
class ControllerTarget(Element):
    """What the guest sees of a PCI controller."""

    chassis_nr: int | None = attr("@chassisNr", UINT, default=None, doc="pci-bridge: chassis number")
    chassis: int | None = attr("@chassis", UINT, default=None, doc="pcie-root-port: chassis number")
    port: int | None = attr("@port", hexadecimal("port", 1, 0xFF), default=None, doc="pcie-root-port: port number")
    bus_nr: int | None = attr("@busNr", UINT, default=None, doc="expander bus: its first number")
    index: int | None = attr("@index", UINT, default=None, doc="spapr only")
    hotplug: bool | None = attr("@hotplug", ON_OFF, default=None, doc="whether devices may come and go")
    node: int | None = attr("node", UINT, default=None, doc="expander bus: NUMA node")


@element("controller")
class Controller(Element):
    """A bus that other devices hang on."""

    type: ControllerType = attr("@type", enum(ControllerType), doc="the bus that it makes")
    index: int | None = attr("@index", UINT, default=None, doc="number that addresses name; the next one when absent")
    model: str | None = attr("@model", STR, default=None, doc="kind of controller")
    vectors: int | None = attr("@vectors", UINT, default=None, doc="virtio-serial: interrupt vectors")
    ports: int | None = attr("@ports", UINT, default=None, doc="usb, virtio-serial: number of ports")
    max_grant_frames: int | None = attr("@maxGrantFrames", UINT, default=None, doc="Xen only; kept")
    driver: ControllerDriver | None = child(ControllerDriver, default=None, doc="virtio options")
    pci_model: str | None = attr("model/@name", STR, default=None, doc="pci: QEMU's device for the model")
    target: ControllerTarget | None = child(ControllerTarget, default=None, doc="what the guest sees of it")
    master_startport: int | None = attr(
        "master/@startport", UINT, default=None, doc="companion of a USB controller: its first port"
    )
    alias: str | None = alias()
    address: Address | None = address()
