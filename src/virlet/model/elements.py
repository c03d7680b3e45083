"""The ``<domain>`` and ``<devices>`` elements, declared; what is done with them is in :mod:`virlet.model.domain`."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from typing import Final
from uuid import UUID as Uuid

from virlet.enums import ErrorCode
from virlet.model.chardev import Channel, Console, Parallel, Serial
from virlet.model.controller import Controller
from virlet.model.disk import Disk
from virlet.model.graphics import Audio, Graphics, Sound, Video
from virlet.model.interface import Interface
from virlet.model.machine import (
    Clock,
    Cpu,
    CrashAction,
    Features,
    MemoryAccess,
    MemoryBacking,
    MemorySource,
    Os,
    PowerAction,
    PowerManagement,
)
from virlet.model.namespaces import QEMU
from virlet.model.peripherals import Input, MemBalloon, Panic, Rng, Vsock, Watchdog
from virlet.xml.declare import Element, Form, attr, child, declaration_of, element, many, raw, raws, size
from virlet.xml.kinds import INT, STR, UINT, UUID, enum
from virlet.xml.raw import Raw

__all__ = [
    "Devices",
    "Domain",
    "DomainType",
    "Metadata",
    "Placement",
    "QemuArg",
    "QemuCommandline",
    "QemuEnv",
]


class DomainType(StrEnum):
    """How the guest's code is run."""

    QEMU = "qemu"
    KVM = "kvm"


class Placement(StrEnum):
    """Who chooses host CPUs."""

    STATIC = "static"
    AUTO = "auto"


@element("metadata")
class Metadata(Element):
    """Other people's elements, one for each namespace."""

    elements: tuple[Raw, ...] = raws("*", default=(), doc="kept as they came")


@element("arg", namespace=QEMU, prefix="qemu")
class QemuArg(Element):
    """A word for QEMU's command line."""

    value: str = attr(
        "@value",
        STR,
        doc="the word",
        missing="No qemu command-line argument specified",
        missing_code=ErrorCode.INTERNAL_ERROR,
    )


@element("env", namespace=QEMU, prefix="qemu")
class QemuEnv(Element):
    """A variable of QEMU's environment."""

    name: str = attr(
        "@name",
        STR,
        doc="its name",
        missing="No qemu environment name specified",
        missing_code=ErrorCode.INTERNAL_ERROR,
    )
    value: str | None = attr("@value", STR, default=None, doc="its value; empty when absent")


@element("commandline", namespace=QEMU, prefix="qemu")
class QemuCommandline(Element):
    """What is handed to QEMU as it is; a guest that has it is marked as tainted."""

    args: tuple[QemuArg, ...] = many(QemuArg, default=(), doc="words, in order")
    envs: tuple[QemuEnv, ...] = many(QemuEnv, default=(), doc="variables")


@element("devices")
class Devices(Element):
    """The devices, in libvirt's order of kinds."""

    emulator: str | None = attr("emulator", STR, default=None, doc="path of QEMU; chosen when absent")
    disks: tuple[Disk, ...] = many(Disk, default=(), doc="disks and drives")
    controllers: tuple[Controller, ...] = many(Controller, default=(), doc="buses")
    leases: tuple[Raw, ...] = raws("lease", default=(), doc="kept; refused at start")
    filesystems: tuple[Raw, ...] = raws("filesystem", default=(), doc="kept; refused at start")
    interfaces: tuple[Interface, ...] = many(Interface, default=(), doc="network cards")
    smartcards: tuple[Raw, ...] = raws("smartcard", default=(), doc="kept; refused at start")
    serials: tuple[Serial, ...] = many(Serial, default=(), doc="serial ports")
    parallels: tuple[Parallel, ...] = many(Parallel, default=(), doc="parallel ports")
    consoles: tuple[Console, ...] = many(Console, default=(), doc="consoles")
    channels: tuple[Channel, ...] = many(Channel, default=(), doc="private lines to the guest")
    inputs: tuple[Input, ...] = many(Input, default=(), doc="keyboards, mice, tablets")
    tpms: tuple[Raw, ...] = raws("tpm", default=(), doc="kept; refused at start")
    graphics: tuple[Graphics, ...] = many(Graphics, default=(), doc="displays")
    sounds: tuple[Sound, ...] = many(Sound, default=(), doc="sound cards")
    audios: tuple[Audio, ...] = many(Audio, default=(), doc="where sound goes")
    videos: tuple[Video, ...] = many(Video, default=(), doc="video cards")
    hostdevs: tuple[Raw, ...] = raws("hostdev", default=(), doc="kept; refused at start")
    redirdevs: tuple[Raw, ...] = raws("redirdev", default=(), doc="kept; refused at start")
    redirfilter: Raw | None = raw("redirfilter", default=None, doc="kept")
    hubs: tuple[Raw, ...] = raws("hub", default=(), doc="kept; refused at start")
    watchdogs: tuple[Watchdog, ...] = many(Watchdog, default=(), doc="watchdogs")
    memballoon: MemBalloon | None = child(MemBalloon, default=None, doc="gives memory back")
    rngs: tuple[Rng, ...] = many(Rng, default=(), doc="random numbers")
    nvram: Raw | None = raw("nvram", default=None, doc="kept; refused at start")
    panics: tuple[Panic, ...] = many(Panic, default=(), doc="crash reports of the guest")
    shmems: tuple[Raw, ...] = raws("shmem", default=(), doc="kept; refused at start")
    memories: tuple[Raw, ...] = raws("memory", default=(), doc="kept; refused at start")
    cryptos: tuple[Raw, ...] = raws("crypto", default=(), doc="kept; refused at start")
    iommu: Raw | None = raw("iommu", default=None, doc="kept; refused at start")
    vsock: Vsock | None = child(Vsock, default=None, doc="socket between host and guest")
    pstore: Raw | None = raw("pstore", default=None, doc="kept; refused at start")

    def all(self) -> Iterator[tuple[str, Element]]:
        """Every device that has a class, with its path: ``devices/disk[2]``."""
        for name, tag, single in _KINDS:
            found = getattr(self, name)
            if single:
                if found is not None:
                    yield f"devices/{tag}", found
            else:
                for number, device in enumerate(found, 1):
                    yield f"devices/{tag}[{number}]", device


_KINDS: Final = tuple(
    (name, made.path, made.form is Form.CHILD)
    for name, made in declaration_of(Devices).properties
    if made.form in (Form.CHILD, Form.MANY)
)


@element("domain")
class Domain(Element):
    """A virtual machine."""

    type: DomainType = attr(
        "@type",
        enum(DomainType),
        doc="kvm where the host can, qemu elsewhere",
        wrong="invalid domain type {value}",
        code=ErrorCode.CONFIG_UNSUPPORTED,
        missing="missing domain type attribute",
        missing_code=ErrorCode.INTERNAL_ERROR,
    )
    id: int | None = attr("@id", INT, default=None, live=True, doc="number while it runs")
    name: str = attr(
        "name",
        STR,
        doc="unique for a user",
        missing="missing name information",
        missing_code=ErrorCode.NO_NAME,
    )
    uuid: Uuid = attr("uuid", UUID, doc="made at define when absent")
    genid: Raw | None = raw("genid", default=None, doc="kept")
    title: str | None = attr("title", STR, default=None, doc="one line for people")
    description: str | None = attr("description", STR, default=None, doc="free text")
    metadata: Metadata | None = child(Metadata, default=None, doc="other people's elements")
    max_memory: int | None = size("maxMemory", default=None, doc="KiB that hotplug may reach")
    max_memory_slots: int | None = attr("maxMemory/@slots", UINT, default=None, doc="sockets for memory hotplug")
    dump_core: str | None = attr("memory/@dumpCore", STR, default=None, doc="kept")
    memory: int = size(
        "memory",
        doc="KiB that the guest has",
        missing="Memory size must be specified via <memory> or in the <numa> configuration",
    )
    current_memory: int | None = size("currentMemory", default=None, doc="KiB after ballooning; all when absent")
    blkiotune: Raw | None = raw("blkiotune", default=None, doc="kept; refused at start")
    memtune: Raw | None = raw("memtune", default=None, doc="kept; refused at start")
    memory_backing: MemoryBacking | None = child(MemoryBacking, default=None, doc="how memory is made")
    vcpu_placement: Placement | None = attr(
        "vcpu/@placement", enum(Placement), default=None, doc="who chooses host CPUs"
    )
    vcpu_cpuset: str | None = attr("vcpu/@cpuset", STR, default=None, doc="host CPUs; kept")
    vcpu_current: int | None = attr("vcpu/@current", UINT, default=None, doc="virtual CPUs at start; all when absent")
    vcpus: int = attr(
        "vcpu", UINT, default=1, doc="virtual CPUs at most", wrong="maximum vcpus count must be an integer"
    )
    vcpu_list: Raw | None = raw("vcpus", default=None, doc="state of each virtual CPU; kept")
    iothreads: int | None = attr("iothreads", UINT, default=None, doc="threads for disks; refused at start")
    iothreadids: Raw | None = raw("iothreadids", default=None, doc="kept; refused at start")
    cputune: Raw | None = raw("cputune", default=None, doc="kept; refused at start")
    numatune: Raw | None = raw("numatune", default=None, doc="kept; refused at start")
    resource: Raw | None = raw("resource", default=None, doc="kept; has no effect")
    sysinfo: tuple[Raw, ...] = raws("sysinfo", default=(), doc="kept; refused at start")
    bootloader: str | None = attr("bootloader", STR, default=None, doc="Xen only; refused")
    os: Os = child(Os, doc="what it boots", missing="an os <type> must be specified")
    features: Features | None = child(Features, default=None, doc="features of the board")
    cpu: Cpu | None = child(Cpu, default=None, doc="the virtual CPU")
    clock: Clock | None = child(Clock, default=None, doc="the guest's clock")
    on_poweroff: PowerAction | None = attr(
        "on_poweroff",
        enum(PowerAction),
        default=None,
        doc="when it powers off",
        wrong="unknown on_poweroff action: {value}",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    on_reboot: PowerAction | None = attr(
        "on_reboot",
        enum(PowerAction),
        default=None,
        doc="when it reboots",
        wrong="unknown on_reboot action: {value}",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    on_crash: CrashAction | None = attr(
        "on_crash",
        enum(CrashAction),
        default=None,
        doc="when it crashes",
        wrong="unknown on_crash action: {value}",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    on_lockfailure: str | None = attr("on_lockfailure", STR, default=None, doc="kept")
    pm: PowerManagement | None = child(PowerManagement, default=None, doc="sleep states")
    perf: Raw | None = raw("perf", default=None, doc="kept; refused at start")
    devices: Devices = child(Devices, default=Devices(), doc="its devices")
    seclabels: tuple[Raw, ...] = raws("seclabel", default=(), doc="kept; has no effect")
    keywrap: Raw | None = raw("keywrap", default=None, doc="kept; refused at start")
    launch_security: Raw | None = raw("launchSecurity", default=None, doc="kept; refused at start")
    qemu_commandline: QemuCommandline | None = child(QemuCommandline, default=None, doc="words for QEMU; taints")

    @property
    def shares_memory(self) -> bool:
        """Whether other processes may map the guest's memory, which vhost-user needs."""
        backing = self.memory_backing
        if backing is None or backing.access is not MemoryAccess.SHARED:
            return False
        return backing.source is not MemorySource.ANONYMOUS  # Which has no descriptor that could be handed over.

    @property
    def vcpus_at_start(self) -> int:
        """Virtual CPUs that are plugged in when the guest starts."""
        return self.vcpus if self.vcpu_current is None else self.vcpu_current
