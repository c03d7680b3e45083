"""What this host offers, in the words of capabilities XML: made of facts, so that only what was found is listed."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.enums import ErrorDomain
from virlet.errors import ConfigUnsupported, InvalidArg
from virlet.model.caps import (
    CapsCell,
    CapsCpu,
    CapsDevice,
    CapsMachine,
    CpuModelCaps,
    DomainCaps,
    GuestCaps,
    HostCaps,
    capabilities_xml,
    domain_capabilities_xml,
)
from virlet.net.choose import Registry, verdicts
from virlet.plan.facts import Facts, HostFacts, MachineType, QemuFacts

__all__ = ["capabilities", "domain_capabilities"]

_WORDSIZE = {"i686": 32, "armv7l": 32}
_VIDEO = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "virtio": "virtio-gpu-pci",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
}
"""libvirt's model → QEMU's device."""
_BUSES = {"ide": "ide-hd", "fdc": "floppy", "scsi": "scsi-hd", "virtio": "virtio-blk-pci", "usb": "usb-storage"}


def capabilities(facts: Facts) -> str:
    """``virConnectGetCapabilities``."""
    return capabilities_xml(_host(facts.host), (_guest(qemu, facts) for qemu in facts.qemu.values()))


def _host(host: HostFacts) -> HostCaps:
    top = host.topology
    return HostCaps(
        uuid=host.uuid,
        arch=host.arch,
        cpu_model=host.cpu_model,
        cpu_vendor=host.cpu_vendor,
        sockets=top.sockets,
        cores=top.cores,
        threads=top.threads,
        cells=(CapsCell(0, host.memory_kib, tuple(_cpus(host))),),
    )


def _cpus(host: HostFacts) -> Iterator[CapsCpu]:
    """CPUs in the usual order: threads of a core, cores of a socket, sockets."""
    top = host.topology
    threads, cores = max(top.threads, 1), max(top.cores, 1)
    for number in range(host.cpus):
        core = number // threads
        first = core * threads
        siblings = str(number) if threads == 1 else f"{first}-{first + threads - 1}"
        yield CapsCpu(number, core // cores, core % cores, siblings)


def _kvm(qemu: QemuFacts, facts: Facts) -> bool:
    return bool(facts.host.kvm) and facts.kvm_for(qemu)


def _guest(qemu: QemuFacts, facts: Facts) -> GuestCaps:
    machines = tuple(
        CapsMachine(board.name, board.max_cpus, board.alias, board.deprecated) for board in qemu.machines.values()
    )
    return GuestCaps(qemu.arch, qemu.path, machines, _kvm(qemu, facts), _WORDSIZE.get(qemu.arch, 64))


def domain_capabilities(
    facts: Facts, among: Registry, emulator: str | None, arch: str | None, machine: str | None, virttype: str | None
) -> str:
    """``virConnectGetDomainCapabilities``; raises :class:`InvalidArg` in libvirt's words for what is not here."""
    qemu = _emulator(facts, emulator, arch)
    board = qemu.machine(machine) if machine is not None else _usual(qemu)
    if board is None:
        raise _not(f"the machine '{machine}' is not supported by emulator '{qemu.path}'")
    kvm = _kvm(qemu, facts)
    if virttype not in (None, "qemu", "kvm"):
        raise _not(f"the virttype '{virttype}' is not supported")
    if virttype == "kvm" and not kvm:
        raise _not(f"the accel 'kvm' is not supported by '{qemu.path}' on this host")
    kind = virttype or ("kvm" if kvm else "qemu")
    return domain_capabilities_xml(
        DomainCaps(
            path=qemu.path,
            domain=kind,
            machine=board.name,
            arch=qemu.arch,
            max_vcpus=board.max_cpus,
            host_passthrough=kind == "kvm",
            models=tuple(
                CpuModelCaps(model.name, model.usable, model.deprecated)
                for model in sorted(qemu.cpus.values(), key=lambda each: each.name)
            ),
            devices=tuple(_devices(qemu, facts, among)),
            features={"gic": False, "vmcoreinfo": False, "genid": False, "sev": False, "sgx": False},
        )
    )


def _emulator(facts: Facts, emulator: str | None, arch: str | None) -> QemuFacts:
    if emulator is not None:
        found = facts.qemu.get(emulator)
        if found is None:
            raise _not(f"there is no usable emulator '{emulator}'")
        if arch not in (None, found.arch):
            raise _not(f"architecture from emulator '{found.arch}' doesn't match given architecture '{arch}'")
        return found
    wanted = arch or facts.host.arch
    by_arch = facts.emulator(wanted)
    if by_arch is None:
        raise ConfigUnsupported(
            f"unable to find any emulator to serve '{wanted}' architecture",
            domain=ErrorDomain.QEMU,
            hint="install a package such as 'qemu-system-x86' or 'qemu-system-arm'",
        )
    return by_arch


def _usual(qemu: QemuFacts) -> MachineType | None:
    return qemu.default_machine or next(iter(qemu.machines.values()), None)


def _not(said: str) -> InvalidArg:
    return InvalidArg(said, domain=ErrorDomain.QEMU)


def _devices(qemu: QemuFacts, facts: Facts, among: Registry) -> Iterator[CapsDevice]:
    """In libvirt's order; what is listed decides what virt-install writes."""
    buses = tuple(bus for bus, device in _BUSES.items() if qemu.has_device(device))
    sata = ("sata",) if qemu.has_device("ich9-ahci") else ()
    virtio = ("virtio", "virtio-transitional", "virtio-non-transitional")
    yield CapsDevice("disk", True, {"diskDevice": ("disk", "cdrom", "floppy"), "bus": (*buses, *sata), "model": virtio})
    yield CapsDevice("graphics", True, {"type": ("vnc",)})
    models = tuple(model for model, device in _VIDEO.items() if qemu.has_device(device))
    yield CapsDevice("video", True, {"modelType": (*models, "none")})
    yield CapsDevice("hostdev", False)
    yield CapsDevice("rng", True, {"model": virtio, "backendModel": ("random", "builtin")})
    for name in ("filesystem", "tpm", "redirdev"):
        yield CapsDevice(name, False)
    yield CapsDevice("channel", True, {"type": ("pty", "unix")})
    yield CapsDevice("crypto", False)
    backends = ["default"] + [name for name, said in verdicts(facts, qemu, among) if name == "passt" and said]
    yield CapsDevice("interface", True, {"backendType": tuple(backends)})
    yield CapsDevice("panic", qemu.has_device("pvpanic"), {"model": ("isa",)})
    yield CapsDevice("console", True, {"type": ("null", "pty", "file", "tcp", "unix")})
