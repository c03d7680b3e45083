"""What the guest's computer is: firmware and kernel, CPU, features, clock, power management, memory backing."""

from __future__ import annotations

from enum import StrEnum

from virlet.enums import ErrorCode
from virlet.xml.declare import Element, attr, child, each, element, flag, many, raw
from virlet.xml.kinds import INT, ON_OFF, POSITIVE, STR, UINT, ULONG, YES_NO, enum, one_of
from virlet.xml.raw import Raw

__all__ = [
    "Bios",
    "BootDevice",
    "Catchup",
    "Clock",
    "ClockOffset",
    "Cpu",
    "CpuFeature",
    "CpuMode",
    "CpuModelName",
    "CpuTopology",
    "CrashAction",
    "FeaturePolicy",
    "Features",
    "Loader",
    "MemoryAccess",
    "MemoryBacking",
    "MemorySource",
    "Nvram",
    "Os",
    "PowerAction",
    "PowerManagement",
    "Timer",
]


class BootDevice(StrEnum):
    """What the firmware tries, the old way."""

    FD = "fd"
    HD = "hd"
    CDROM = "cdrom"
    NETWORK = "network"


class CpuMode(StrEnum):
    """Where the description of the CPU comes from."""

    CUSTOM = "custom"
    HOST_MODEL = "host-model"
    HOST_PASSTHROUGH = "host-passthrough"
    MAXIMUM = "maximum"


class FeaturePolicy(StrEnum):
    """Whether a CPU feature is wanted."""

    FORCE = "force"
    REQUIRE = "require"
    OPTIONAL = "optional"
    DISABLE = "disable"
    FORBID = "forbid"


class ClockOffset(StrEnum):
    """What the guest's clock shows at start."""

    UTC = "utc"
    LOCALTIME = "localtime"
    VARIABLE = "variable"
    TIMEZONE = "timezone"
    ABSOLUTE = "absolute"


class PowerAction(StrEnum):
    """What happens when the guest powers off or reboots."""

    DESTROY = "destroy"
    RESTART = "restart"
    RENAME_RESTART = "rename-restart"
    PRESERVE = "preserve"


class CrashAction(StrEnum):
    """What happens when the guest says that it crashed."""

    DESTROY = "destroy"
    RESTART = "restart"
    RENAME_RESTART = "rename-restart"
    PRESERVE = "preserve"
    COREDUMP_DESTROY = "coredump-destroy"
    COREDUMP_RESTART = "coredump-restart"


class MemorySource(StrEnum):
    """What the guest's memory is made of."""

    FILE = "file"
    ANONYMOUS = "anonymous"
    MEMFD = "memfd"


class MemoryAccess(StrEnum):
    """Whether other processes may map the guest's memory."""

    SHARED = "shared"
    PRIVATE = "private"


@element("memoryBacking")
class MemoryBacking(Element):
    """How the guest's memory is made."""

    hugepages: Raw | None = raw("hugepages", default=None, doc="kept; refused at start")
    nosharepages: bool = flag("nosharepages", default=False, doc="do not merge equal pages")
    locked: bool = flag("locked", default=False, doc="never swap; refused at start")
    source: MemorySource | None = attr(
        "source/@type",
        enum(MemorySource),
        default=None,
        doc="what it is made of",
        wrong="unknown memoryBacking/source/type '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    access: MemoryAccess | None = attr(
        "access/@mode",
        enum(MemoryAccess),
        default=None,
        doc="shared is needed by vhost-user",
        wrong="unknown memoryBacking/access/mode '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    allocation: str | None = attr("allocation/@mode", STR, default=None, doc="immediate or ondemand")
    allocation_threads: int | None = attr("allocation/@threads", UINT, default=None, doc="threads that touch it")
    discard: bool = flag("discard", default=False, doc="throw it away before the file is closed")


@element("loader")
class Loader(Element):
    """The firmware image."""

    readonly: bool | None = attr("@readonly", YES_NO, default=None, doc="mapped without write")
    secure: bool | None = attr("@secure", YES_NO, default=None, doc="needs SMM")
    type: str | None = attr("@type", STR, default=None, doc="rom or pflash")
    stateless: bool | None = attr("@stateless", YES_NO, default=None, doc="no NVRAM")
    format: str | None = attr("@format", STR, default=None, doc="raw or qcow2")
    path: str | None = attr(".", STR, default=None, doc="the file")


@element("nvram")
class Nvram(Element):
    """The firmware's variables."""

    template: str | None = attr("@template", STR, default=None, doc="copied at first start")
    template_format: str | None = attr("@templateFormat", STR, default=None, doc="raw or qcow2")
    type: str | None = attr("@type", STR, default=None, doc="file, block or network")
    format: str | None = attr("@format", STR, default=None, doc="raw or qcow2")
    path: str | None = attr(".", STR, default=None, doc="the file; ours when absent")
    source: Raw | None = raw("source", default=None, doc="where it lies, with 'type'; kept")


@element("bios")
class Bios(Element):
    """Options of SeaBIOS."""

    use_serial: bool | None = attr("@useserial", YES_NO, default=None, doc="messages on the first serial port")
    reboot_timeout: int | None = attr("@rebootTimeout", INT, default=None, doc="ms before another try; -1: never")


@element("os")
class Os(Element):
    """What the guest boots."""

    firmware: str | None = attr("@firmware", STR, default=None, doc="bios or efi: choose an image by itself")
    type: str = attr("type", STR, doc="hvm", missing="an os <type> must be specified")
    arch: str | None = attr("type/@arch", STR, default=None, doc="architecture; the host's when absent")
    machine: str | None = attr("type/@machine", STR, default=None, doc="board; QEMU's default when absent")
    firmware_features: Raw | None = raw("firmware", default=None, doc="what the image must have; kept")
    loader: Loader | None = child(Loader, default=None, doc="firmware image")
    nvram: Nvram | None = child(Nvram, default=None, doc="the firmware's variables")
    kernel: str | None = attr("kernel", STR, default=None, doc="kernel to boot without a disk")
    initrd: str | None = attr("initrd", STR, default=None, doc="its initial file system")
    cmdline: str | None = attr("cmdline", STR, default=None, doc="its command line")
    dtb: str | None = attr("dtb", STR, default=None, doc="device tree")
    acpi: Raw | None = raw("acpi", default=None, doc="tables to add; kept")
    boot: tuple[BootDevice, ...] = each("boot/@dev", enum(BootDevice), default=(), doc="what is tried, in order")
    bootmenu: bool | None = attr("bootmenu/@enable", YES_NO, default=None, doc="whether the firmware asks")
    bootmenu_timeout: int | None = attr("bootmenu/@timeout", UINT, default=None, doc="ms that it waits")
    bios: Bios | None = child(Bios, default=None, doc="options of SeaBIOS")
    smbios: str | None = attr("smbios/@mode", STR, default=None, doc="emulate, host or sysinfo")


@element("features")
class Features(Element):
    """Features of the board."""

    pae: bool = flag("pae", default=False, doc="physical address extension; always there")
    acpi: bool = flag("acpi", default=False, doc="ACPI")
    apic: bool = flag("apic", default=False, doc="local interrupt controllers")
    apic_eoi: bool | None = attr("apic/@eoi", ON_OFF, default=None, doc="cheap end of interrupt")
    hap: Raw | None = raw("hap", default=None, doc="kept")
    viridian: bool = flag("viridian", default=False, doc="kept")
    privnet: bool = flag("privnet", default=False, doc="kept")
    hyperv: Raw | None = raw("hyperv", default=None, doc="kept")
    kvm: Raw | None = raw("kvm", default=None, doc="kept")
    pvspinlock: bool | None = attr("pvspinlock/@state", ON_OFF, default=None, doc="kept")
    pmu: bool | None = attr("pmu/@state", ON_OFF, default=None, doc="performance counters")
    vmport: bool | None = attr("vmport/@state", ON_OFF, default=None, doc="VMware's port")
    gic: Raw | None = raw("gic", default=None, doc="ARM interrupt controller; kept")
    smm: bool | None = attr("smm/@state", ON_OFF, default=None, doc="system management mode")
    ioapic: str | None = attr("ioapic/@driver", STR, default=None, doc="kvm or qemu")


@element("model")
class CpuModelName(Element):
    """The CPU model to start from."""

    fallback: str | None = attr("@fallback", STR, default=None, doc="allow or forbid a lesser model")
    vendor_id: str | None = attr("@vendor_id", STR, default=None, doc="twelve letters that CPUID shows")
    name: str | None = attr(".", STR, default=None, doc="QEMU's name of the model")


@element("topology")
class CpuTopology(Element):
    """How virtual CPUs are arranged."""

    sockets: int = attr("@sockets", POSITIVE, doc="sockets")
    dies: int | None = attr("@dies", POSITIVE, default=None, doc="dies in a socket")
    clusters: int | None = attr("@clusters", POSITIVE, default=None, doc="clusters in a die")
    cores: int = attr("@cores", POSITIVE, doc="cores in a cluster")
    threads: int = attr("@threads", POSITIVE, doc="threads in a core")


@element("feature")
class CpuFeature(Element):
    """A CPU feature."""

    policy: FeaturePolicy | None = attr("@policy", enum(FeaturePolicy), default=None, doc="require when absent")
    name: str = attr("@name", STR, doc="name of the feature")


@element("cpu")
class Cpu(Element):
    """The virtual CPU."""

    mode: CpuMode | None = attr(
        "@mode",
        enum(CpuMode),
        default=None,
        doc="where its description comes from",
        wrong="Invalid mode attribute '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    match: str | None = attr("@match", STR, default=None, doc="minimum, exact or strict")
    check: str | None = attr("@check", STR, default=None, doc="none, partial or full")
    migratable: bool | None = attr("@migratable", ON_OFF, default=None, doc="host-passthrough: only what can migrate")
    model: CpuModelName | None = child(CpuModelName, default=None, doc="the model to start from")
    vendor: str | None = attr("vendor", STR, default=None, doc="vendor that the host must have")
    topology: CpuTopology | None = child(CpuTopology, default=None, doc="arrangement")
    cache: Raw | None = raw("cache", default=None, doc="kept")
    maxphysaddr: Raw | None = raw("maxphysaddr", default=None, doc="width of physical addresses; kept")
    features: tuple[CpuFeature, ...] = many(CpuFeature, default=(), doc="features more or less")
    numa: Raw | None = raw("numa", default=None, doc="NUMA cells; refused at start")


@element("catchup")
class Catchup(Element):
    """How lost ticks are made up for."""

    threshold: int | None = attr("@threshold", ULONG, default=None, doc="nanoseconds")
    slew: int | None = attr("@slew", ULONG, default=None, doc="kept")
    limit: int | None = attr("@limit", ULONG, default=None, doc="kept")


@element("timer")
class Timer(Element):
    """One of the guest's timers."""

    name: str = attr(
        "@name",
        one_of("timer", "platform", "pit", "rtc", "hpet", "tsc", "kvmclock", "hypervclock", "armvtimer"),
        doc="which timer",
    )
    present: bool | None = attr("@present", YES_NO, default=None, doc="whether it is there")
    tickpolicy: str | None = attr(
        "@tickpolicy",
        one_of("tick policy", "delay", "catchup", "merge", "discard"),
        default=None,
        doc="what happens to lost ticks",
    )
    track: str | None = attr(
        "@track", one_of("track", "boot", "guest", "wall", "realtime"), default=None, doc="what the timer follows"
    )
    frequency: int | None = attr("@frequency", ULONG, default=None, doc="tsc: Hz")
    mode: str | None = attr("@mode", STR, default=None, doc="tsc: auto, native, emulate, paravirt or smpsafe")
    catchup: Catchup | None = child(Catchup, default=None, doc="how lost ticks are made up for")


@element("clock")
class Clock(Element):
    """The guest's clock."""

    offset: ClockOffset = attr(
        "@offset",
        enum(ClockOffset),
        default=ClockOffset.UTC,
        doc="what it shows at start",
        wrong="unknown clock offset '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    adjustment: str | None = attr("@adjustment", STR, default=None, doc="variable: seconds; utc, localtime: reset")
    basis: str | None = attr("@basis", STR, default=None, doc="variable: utc or localtime")
    timezone: str | None = attr("@timezone", STR, default=None, doc="timezone: its name")
    start: int | None = attr("@start", ULONG, default=None, doc="absolute: seconds since 1970")
    timers: tuple[Timer, ...] = many(Timer, default=(), doc="the guest's timers")


@element("pm")
class PowerManagement(Element):
    """Sleep states that the firmware offers."""

    suspend_to_mem: bool | None = attr("suspend-to-mem/@enabled", YES_NO, default=None, doc="S3")
    suspend_to_disk: bool | None = attr("suspend-to-disk/@enabled", YES_NO, default=None, doc="S4")
