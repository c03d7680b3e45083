"""Capabilities and domain capabilities, printed from plain facts.

What is left out or said to be unsupported decides what tools such as virt-install write, so only what virlet really
starts is offered (https://libvirt.org/formatcaps.html, https://libvirt.org/formatdomaincaps.html).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from virlet.xml.escape import attribute, text

__all__ = [
    "CapsCell",
    "CapsCpu",
    "CapsDevice",
    "CapsMachine",
    "CpuModelCaps",
    "DomainCaps",
    "GuestCaps",
    "HostCaps",
    "capabilities_xml",
    "domain_capabilities_xml",
]


@dataclass(frozen=True, slots=True)
class CapsCpu:
    """One host CPU and where it is."""

    id: int
    socket_id: int = 0
    core_id: int = 0
    siblings: str = ""
    """CPUs of the same core, as ``0-1``; itself when empty."""


@dataclass(frozen=True, slots=True)
class CapsCell:
    """A NUMA cell of the host."""

    id: int
    memory: int
    """KiB."""
    cpus: tuple[CapsCpu, ...]


@dataclass(frozen=True, slots=True)
class HostCaps:
    """The host."""

    uuid: str
    arch: str
    cpu_model: str = ""
    cpu_vendor: str = ""
    sockets: int = 1
    dies: int = 1
    cores: int = 1
    threads: int = 1
    cells: tuple[CapsCell, ...] = ()


@dataclass(frozen=True, slots=True)
class CapsMachine:
    """A board: its versioned name, and the alias that stands for it."""

    name: str
    max_cpus: int
    alias: str | None = None
    deprecated: bool = False


@dataclass(frozen=True, slots=True)
class GuestCaps:
    """What one emulator runs."""

    arch: str
    emulator: str
    machines: tuple[CapsMachine, ...]
    kvm: bool = False
    """A guest was really started with it."""
    wordsize: int = 64


def capabilities_xml(host: HostCaps, guests: Iterable[GuestCaps]) -> str:
    """The answer to "what is this host and what can it run"."""
    out = _Lines()
    out.open("capabilities")
    out.open("host")
    out.leaf("uuid", host.uuid)
    _host_cpu(out, host)
    out.leaf("power_management")
    out.leaf("iommu", support="no")
    _topology(out, host)
    out.open("secmodel")
    out.leaf("model", "none")
    out.leaf("doi", "0")
    out.close("secmodel", "host")
    for guest in guests:
        _guest(out, guest)
    out.close("capabilities")
    return out.text()


def _host_cpu(out: _Lines, host: HostCaps) -> None:
    out.open("cpu")
    out.leaf("arch", host.arch)
    if host.cpu_model:
        out.leaf("model", host.cpu_model)
    if host.cpu_vendor:
        out.leaf("vendor", host.cpu_vendor)
    out.leaf("topology", sockets=host.sockets, dies=host.dies, cores=host.cores, threads=host.threads)
    out.close("cpu")


def _topology(out: _Lines, host: HostCaps) -> None:
    out.open("topology")
    out.open("cells", num=len(host.cells))
    for cell in host.cells:
        out.open("cell", id=cell.id)
        out.leaf("memory", str(cell.memory), unit="KiB")
        out.open("cpus", num=len(cell.cpus))
        for cpu in cell.cpus:
            siblings = cpu.siblings or str(cpu.id)
            out.leaf("cpu", id=cpu.id, socket_id=cpu.socket_id, die_id=0, core_id=cpu.core_id, siblings=siblings)
        out.close("cpus", "cell")
    out.close("cells", "topology")


def _guest(out: _Lines, guest: GuestCaps) -> None:
    out.open("guest")
    out.leaf("os_type", "hvm")
    out.open("arch", name=guest.arch)
    out.leaf("wordsize", str(guest.wordsize))
    out.leaf("emulator", guest.emulator)
    for machine in guest.machines:
        gone = {"deprecated": "yes"} if machine.deprecated else {}
        out.leaf("machine", machine.name, maxCpus=machine.max_cpus, **gone)
        if machine.alias:
            out.leaf("machine", machine.alias, canonical=machine.name, maxCpus=machine.max_cpus, **gone)
    out.leaf("domain", type="qemu")
    if guest.kvm:
        out.leaf("domain", type="kvm")
    out.close("arch")
    out.open("features")
    if guest.arch in ("x86_64", "i686", "aarch64"):
        out.leaf("acpi", default="on", toggle="yes")
    if guest.arch in ("x86_64", "i686"):
        out.leaf("apic", default="on", toggle="no")
    for name in ("cpuselection", "deviceboot"):
        out.leaf(name)
    out.leaf("disksnapshot", default="on", toggle="no")
    out.close("features", "guest")


@dataclass(frozen=True, slots=True)
class CpuModelCaps:
    """A CPU model that can be named."""

    name: str
    usable: bool
    deprecated: bool = False
    vendor: str = "unknown"


@dataclass(frozen=True, slots=True)
class CapsDevice:
    """A kind of device: whether it can be had, and the words that can be said about it."""

    name: str
    """Element below ``<devices>``: ``disk``, ``graphics``, …"""
    supported: bool
    enums: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of the property to its words, both in printing order."""


@dataclass(frozen=True, slots=True)
class DomainCaps:
    """What one emulator, board and accelerator offer together."""

    path: str
    domain: str
    """``kvm`` or ``qemu``."""
    machine: str
    arch: str
    max_vcpus: int
    host_passthrough: bool = False
    """Needs KVM."""
    models: tuple[CpuModelCaps, ...] = ()
    loader_types: tuple[str, ...] = ("rom", "pflash")
    loaders: tuple[str, ...] = ()
    """Paths of firmware images that are here."""
    memory_sources: tuple[str, ...] = ("file", "anonymous", "memfd")
    devices: tuple[CapsDevice, ...] = ()
    features: Mapping[str, bool] = field(default_factory=dict)
    """Other features by name, in printing order."""
    host_model: str = ""
    """The named model nearest to the host's CPU; empty: mode host-model is not offered."""


def domain_capabilities_xml(caps: DomainCaps) -> str:
    """The answer to "what can a domain of this kind have"."""
    out = _Lines()
    out.open("domainCapabilities")
    out.leaf("path", caps.path)
    out.leaf("domain", caps.domain)
    out.leaf("machine", caps.machine)
    out.leaf("arch", caps.arch)
    out.leaf("vcpu", max=caps.max_vcpus)
    out.leaf("iothreads", supported="no")
    _os(out, caps)
    _cpu(out, caps)
    out.open("memoryBacking", supported="yes")
    out.enum("sourceType", caps.memory_sources)
    out.close("memoryBacking")
    out.open("devices")
    for device in caps.devices:
        _device(out, device)
    out.close("devices")
    out.open("features")
    for name, supported in caps.features.items():
        out.leaf(name, supported=_yes(supported))
    out.close("features", "domainCapabilities")
    return out.text()


def _os(out: _Lines, caps: DomainCaps) -> None:
    out.open("os", supported="yes")
    out.enum("firmware", ())
    out.open("loader", supported="yes")
    for path in caps.loaders:
        out.leaf("value", path)
    out.enum("type", caps.loader_types)
    out.enum("readonly", ("yes", "no"))
    out.enum("secure", ("no",))
    out.close("loader", "os")


def _cpu(out: _Lines, caps: DomainCaps) -> None:
    out.open("cpu")
    if caps.host_passthrough:
        out.open("mode", name="host-passthrough", supported="yes")
        out.enum("hostPassthroughMigratable", ("on", "off"))
        out.close("mode")
    else:
        out.leaf("mode", name="host-passthrough", supported="no")
    out.open("mode", name="maximum", supported="yes")
    out.enum("maximumMigratable", ("on", "off"))
    out.close("mode")
    if caps.host_model:
        out.open("mode", name="host-model", supported="yes")
        out.leaf("model", caps.host_model, fallback="forbid")
        out.close("mode")
    else:
        out.leaf("mode", name="host-model", supported="no")
    if caps.models:
        out.open("mode", name="custom", supported="yes")
        for model in caps.models:
            gone = {"deprecated": "yes"} if model.deprecated else {}
            out.leaf("model", model.name, usable=_yes(model.usable), **gone, vendor=model.vendor)
        out.close("mode")
    else:
        out.leaf("mode", name="custom", supported="no")
    out.close("cpu")


def _device(out: _Lines, device: CapsDevice) -> None:
    if not device.supported:
        out.leaf(device.name, supported="no")
        return
    out.open(device.name, supported="yes")
    for name, words in device.enums.items():
        out.enum(name, words)
    out.close(device.name)


def _yes(value: bool) -> str:
    return "yes" if value else "no"


class _Lines:
    """Lines of XML in libvirt's style."""

    def __init__(self) -> None:
        self._out: list[str] = []
        self._pad = ""

    def open(self, tag: str, **words: object) -> None:
        self._out.append(f"{self._pad}<{tag}{_attributes(words)}>\n")
        self._pad += "  "

    def close(self, *tags: str) -> None:
        for tag in tags:
            self._pad = self._pad[2:]
            self._out.append(f"{self._pad}</{tag}>\n")

    def leaf(self, tag: str, content: str | None = None, **words: object) -> None:
        tail = "/>" if content is None else f">{text(content)}</{tag}>"
        self._out.append(f"{self._pad}<{tag}{_attributes(words)}{tail}\n")

    def enum(self, name: str, words: Iterable[str]) -> None:
        """An ``<enum>`` with its values."""
        found = tuple(words)
        if not found:
            self.leaf("enum", name=name)
            return
        self.open("enum", name=name)
        for word in found:
            self.leaf("value", word)
        self.close("enum")

    def text(self) -> str:
        return "".join(self._out)


def _attributes(words: Mapping[str, object]) -> str:
    return "".join(f" {name}='{attribute(str(value))}'" for name, value in words.items())
