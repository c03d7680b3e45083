"""The ``<disk>`` element."""

from __future__ import annotations

from enum import StrEnum

from virlet.enums import ErrorCode
from virlet.model.address import Address
from virlet.model.device import BootOrder, address, alias
from virlet.xml.declare import Element, attr, child, element, flag, many, raw
from virlet.xml.kinds import ON_OFF, POSITIVE, STR, UINT, YES_NO, enum, one_of
from virlet.xml.raw import Raw

__all__ = ["Disk", "DiskBus", "DiskDevice", "DiskDriver", "DiskHost", "DiskSource", "DiskType", "SnapshotMode"]

IMAGE_FORMAT = one_of(
    "image format",
    "none", "raw", "dir", "bochs", "cloop", "dmg", "iso", "vpc", "vdi", "fat", "vhd", "ploop", "cow", "qcow", "qcow2",
    "qed", "vmdk",
)  # fmt: skip


class DiskType(StrEnum):
    """What the data lies in."""

    FILE = "file"
    BLOCK = "block"
    DIR = "dir"
    NETWORK = "network"
    VOLUME = "volume"
    NVME = "nvme"
    VHOSTUSER = "vhostuser"
    VHOSTVDPA = "vhostvdpa"


class DiskDevice(StrEnum):
    """What the guest sees."""

    DISK = "disk"
    CDROM = "cdrom"
    FLOPPY = "floppy"
    LUN = "lun"


class DiskBus(StrEnum):
    """The bus that the disk hangs on."""

    IDE = "ide"
    FDC = "fdc"
    SCSI = "scsi"
    VIRTIO = "virtio"
    XEN = "xen"
    USB = "usb"
    UML = "uml"
    SATA = "sata"
    SD = "sd"
    NVME = "nvme"


class SnapshotMode(StrEnum):
    """What a snapshot of the domain does with the disk."""

    NO = "no"
    INTERNAL = "internal"
    EXTERNAL = "external"
    MANUAL = "manual"


@element("host")
class DiskHost(Element):
    """A server of a network disk."""

    name: str | None = attr("@name", STR, default=None, doc="host name or address")
    port: str | None = attr("@port", STR, default=None, doc="port")
    transport: str | None = attr("@transport", STR, default=None, doc="tcp, unix or rdma")
    socket: str | None = attr("@socket", STR, default=None, doc="path of a UNIX socket")


@element("source")
class DiskSource(Element):
    """Where the data lies; which attributes mean something depends on the disk's type."""

    file: str | None = attr("@file", STR, default=None, doc="file: absolute path of the image")
    dev: str | None = attr("@dev", STR, default=None, doc="block: path of the device")
    dir: str | None = attr("@dir", STR, default=None, doc="dir: path of the directory")
    protocol: str | None = attr("@protocol", STR, default=None, doc="network: nbd, http, https, iscsi, rbd, …")
    name: str | None = attr("@name", STR, default=None, doc="network: export or path on the server")
    pool: str | None = attr("@pool", STR, default=None, doc="volume: storage pool")
    volume: str | None = attr("@volume", STR, default=None, doc="volume: name in the pool")
    tls: bool | None = attr("@tls", YES_NO, default=None, doc="network: use TLS")
    query: str | None = attr("@query", STR, default=None, doc="network: query part of the URL")
    startup_policy: str | None = attr(
        "@startupPolicy",
        one_of("startupPolicy", "mandatory", "requisite", "optional"),
        default=None,
        doc="mandatory, requisite or optional",
    )
    fdgroup: str | None = attr("@fdgroup", STR, default=None, doc="group of descriptors in place of a path; refused")
    index: int | None = attr("@index", UINT, default=None, live=True, doc="number in the chain of images")
    hosts: tuple[DiskHost, ...] = many(DiskHost, default=(), doc="network: the servers")


@element("driver")
class DiskDriver(Element):
    """How QEMU handles the image."""

    name: str | None = attr("@name", STR, default=None, doc="always qemu")
    type: str | None = attr(
        "@type",
        IMAGE_FORMAT,
        default=None,
        doc="image format; raw when absent: nothing is guessed from what a guest may have written",
        wrong="unknown driver format value '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    cache: str | None = attr(
        "@cache",
        one_of("cache", "default", "none", "writethrough", "writeback", "directsync", "unsafe"),
        default=None,
        doc="none, writethrough, writeback, directsync or unsafe",
    )
    error_policy: str | None = attr(
        "@error_policy",
        one_of("error_policy", "stop", "report", "ignore", "enospace"),
        default=None,
        doc="stop, report, ignore or enospace",
    )
    rerror_policy: str | None = attr(
        "@rerror_policy",
        one_of("rerror_policy", "stop", "report", "ignore"),
        default=None,
        doc="the same for read errors",
    )
    io: str | None = attr(
        "@io", one_of("io", "native", "threads", "io_uring"), default=None, doc="threads, native or io_uring"
    )
    ioeventfd: bool | None = attr("@ioeventfd", ON_OFF, default=None, doc="notify outside the vCPU thread")
    event_idx: bool | None = attr("@event_idx", ON_OFF, default=None, doc="fewer notifications")
    copy_on_read: bool | None = attr(
        "@copy_on_read", ON_OFF, default=None, doc="keep what was read from the backing image"
    )
    discard: str | None = attr("@discard", one_of("discard", "unmap", "ignore"), default=None, doc="unmap or ignore")
    iothread: int | None = attr("@iothread", POSITIVE, default=None, doc="which I/O thread")
    detect_zeroes: str | None = attr(
        "@detect_zeroes", one_of("detect_zeroes", "off", "on", "unmap"), default=None, doc="off, on or unmap"
    )
    queues: int | None = attr("@queues", UINT, default=None, doc="virtio queues")
    queue_size: int | None = attr("@queue_size", UINT, default=None, doc="entries of a queue")
    iommu: bool | None = attr("@iommu", ON_OFF, default=None, doc="go through the emulated IOMMU")
    ats: bool | None = attr("@ats", ON_OFF, default=None, doc="address translation service")
    packed: bool | None = attr("@packed", ON_OFF, default=None, doc="packed virtqueues")
    page_per_vq: bool | None = attr("@page_per_vq", ON_OFF, default=None, doc="one notification page per queue")
    discard_no_unref: bool | None = attr(
        "@discard_no_unref", ON_OFF, default=None, doc="qcow2: keep clusters on discard"
    )
    metadata_cache: Raw | None = raw("metadata_cache", default=None, doc="kept")


@element("disk")
class Disk(Element):
    """A disk, a CD-ROM drive or a floppy drive."""

    type: DiskType = attr("@type", enum(DiskType), default=DiskType.FILE, doc="what the data lies in")
    device: DiskDevice = attr("@device", enum(DiskDevice), default=DiskDevice.DISK, doc="what the guest sees")
    model: str | None = attr("@model", STR, default=None, doc="virtio, virtio-transitional or virtio-non-transitional")
    rawio: bool | None = attr("@rawio", YES_NO, default=None, doc="lun: raw SCSI commands")
    sgio: str | None = attr("@sgio", STR, default=None, doc="lun: filtered or unfiltered")
    snapshot: SnapshotMode | None = attr(
        "@snapshot", enum(SnapshotMode), default=None, doc="what a snapshot does with it"
    )
    driver: DiskDriver | None = child(DiskDriver, default=None, doc="how QEMU handles the image")
    auth: Raw | None = raw("auth", default=None, doc="credentials of a network disk; kept")
    source: DiskSource | None = child(DiskSource, default=None, doc="where the data lies; none for an empty drive")
    backing_store: Raw | None = raw("backingStore", default=None, doc="the chain below the image; kept")
    backend_domain: str | None = attr("backenddomain/@name", STR, default=None, doc="Xen only; kept")
    geometry: Raw | None = raw("geometry", default=None, doc="kept")
    logical_block_size: int | None = attr("blockio/@logical_block_size", UINT, default=None, doc="bytes")
    physical_block_size: int | None = attr("blockio/@physical_block_size", UINT, default=None, doc="bytes")
    discard_granularity: int | None = attr("blockio/@discard_granularity", UINT, default=None, doc="bytes")
    mirror: Raw | None = raw("mirror", default=None, doc="a running block copy; kept")
    target: str | None = attr(
        "target/@dev", STR, default=None, doc="name of the disk, as in vda; orders the disks of a bus"
    )
    bus: DiskBus | None = attr("target/@bus", enum(DiskBus), default=None, doc="follows from the name when absent")
    tray: str | None = attr("target/@tray", one_of("tray", "open", "closed"), default=None, doc="state of the drive")
    removable: bool | None = attr("target/@removable", ON_OFF, default=None, doc="usb: a removable disk")
    rotation_rate: int | None = attr("target/@rotation_rate", UINT, default=None, doc="1 for solid state")
    iotune: Raw | None = raw("iotune", default=None, doc="kept")
    readonly: bool = flag("readonly", default=False, doc="the guest cannot write")
    shareable: bool = flag("shareable", default=False, doc="other guests may write too")
    transient: Raw | None = raw("transient", default=None, doc="kept")
    serial: str | None = attr("serial", STR, default=None, doc="serial number that the guest sees")
    wwn: str | None = attr("wwn", STR, default=None, doc="world wide name")
    vendor: str | None = attr("vendor", STR, default=None, doc="SCSI vendor")
    product: str | None = attr("product", STR, default=None, doc="SCSI product")
    encryption: Raw | None = raw("encryption", default=None, doc="kept")
    boot: BootOrder | None = child(BootOrder, default=None, doc="place in the boot order")
    alias: str | None = alias()
    address: Address | None = address()

    @property
    def path(self) -> str | None:
        """The path on the host, or None for an empty drive or a disk that lies elsewhere."""
        if self.source is None:
            return None
        return self.source.file or self.source.dev or self.source.dir
