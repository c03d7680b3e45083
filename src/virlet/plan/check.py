"""Whether a domain can be had here: every problem at once, each with its place in the XML."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.errors import Problem
from virlet.model.domain import Domain
from virlet.model.elements import DomainType
from virlet.model.interface import Interface
from virlet.model.machine import CpuMode
from virlet.model.unsupported import check_supported
from virlet.net.base import Env
from virlet.net.choose import Registry, choose
from virlet.net.refuse import check_forwards_of_all, refuse, refuse_at_start
from virlet.plan.board import board_of, bus_ids
from virlet.plan.devices import check_devices
from virlet.plan.facts import Facts, QemuFacts, Support
from virlet.plan.unsupported import unsupported

__all__ = ["check_define", "check_launch", "emulator_of", "environments"]

_NOWHERE = Path("/nonexistent")
_HIGHEST_ACPI_INDEX = 16_383
_WITHOUT_EIM = 255
"""vCPUs of an x86 guest whose interrupts go without an IOMMU (libvirt's and QEMU's limit)."""


def emulator_of(domain: Domain, facts: Facts) -> QemuFacts | None:
    """The QEMU that the domain names, or the first one of its architecture."""
    named = domain.devices.emulator
    if named is not None:
        return facts.qemu.get(named)
    return facts.emulator(domain.os.arch or facts.host.arch)


def check_define(domain: Domain) -> list[Problem]:
    """What is wrong with the networks of *domain* on any host, beside what reading its XML refuses."""
    problems: list[Problem] = []
    nics = [(nic, f"devices/interface[{n}]") for n, nic in enumerate(domain.devices.interfaces, 1)]
    for nic, path in nics:
        problems += refuse(nic, path)
    if not problems:
        problems += check_forwards_of_all(nics)
    return problems


def check_launch(domain: Domain, facts: Facts, registry: Registry) -> list[Problem]:
    """What keeps *domain* from starting on this host, those of :func:`check_define` included."""
    problems = check_define(domain)
    problems += check_supported(domain)
    problems += unsupported(domain)
    problems += _acpi_indexes(domain)
    problems += _own_words(domain)
    qemu = emulator_of(domain, facts)
    if qemu is None:
        return [*problems, _no_emulator(domain, facts)]
    problems += _machine(domain, qemu)
    problems += _accelerator(domain, facts, qemu)
    problems += _cpu(domain, facts, qemu)
    problems += check_devices(domain, qemu)
    problems += _interfaces(domain, facts, qemu, registry)
    return problems


def _no_emulator(domain: Domain, facts: Facts) -> Problem:
    named = domain.devices.emulator
    if named is not None:
        known = ", ".join(sorted(facts.qemu)) or None
        hint = f"this host has {known}" if known else "install a package such as 'qemu-system-x86'"
        return Problem("devices/emulator", f"Cannot find a usable QEMU at '{named}'", hint=hint)
    arch = domain.os.arch or facts.host.arch
    return Problem(
        "os/type/@arch",
        f"there is no QEMU for architecture '{arch}' on this host",
        hint="install a package such as 'qemu-system-x86' or 'qemu-system-arm'",
    )


def _machine(domain: Domain, qemu: QemuFacts) -> Iterator[Problem]:
    if domain.os.arch is not None and domain.os.arch != qemu.arch:
        yield Problem(
            "os/type/@arch",
            f"Emulator '{qemu.path}' does not support arch '{domain.os.arch}'",
            hint=f"it is for {qemu.arch}",
        )
        return
    machine = domain.os.machine
    if machine is None:
        return
    board = qemu.machine(machine)
    if board is None:
        yield Problem(
            "os/type/@machine",
            f"Emulator '{qemu.path}' does not support machine type '{machine}'",
            hint=f"the newest of its kind here is {_alike(machine, qemu)}",
        )
        return
    if domain.vcpus > board.max_cpus:
        yield Problem("vcpu", f"Maximum CPUs greater than specified machine type limit {board.max_cpus}")
    yield from _many_cpus(domain, qemu)
    if board_of(domain) is None and machine not in ("none",):
        yield Problem(
            "os/type/@machine",
            f"virlet does not know where devices go on machine type '{machine}'",
            hint="use 'q35' or 'pc' on x86, 'virt' elsewhere",
        )


def _many_cpus(domain: Domain, qemu: QemuFacts) -> Iterator[Problem]:
    """Beyond the local APIC's 8-bit ids; libvirt's words."""
    if domain.vcpus <= _WITHOUT_EIM or qemu.arch not in ("i686", "x86_64"):
        return
    text = f"more than {_WITHOUT_EIM} vCPUs require extended interrupt mode enabled on the iommu device"
    if "q35" not in (domain.os.machine or ""):
        text = f"more than {_WITHOUT_EIM} vCPUs are only supported on q35-based machine types"
    yield Problem("vcpu", text, hint=f"use {_WITHOUT_EIM} or fewer: virlet makes no IOMMU")


def _alike(machine: str, qemu: QemuFacts) -> str:
    for alias in ("q35", "virt", "pc"):
        board = qemu.machine(alias)
        if board is not None and (alias in machine or alias == "pc"):
            return f"'{board.name}'"
    return "unknown"


def _accelerator(domain: Domain, facts: Facts, qemu: QemuFacts) -> Iterator[Problem]:
    if domain.type is not DomainType.KVM:
        if "tcg" not in qemu.accels:
            yield Problem("@type", f"Emulator '{qemu.path}' does not support virt type 'qemu'", hint="use type='kvm'")
        return
    support = facts.host.kvm
    if not facts.kvm_for(qemu):
        support = Support(False, f"'{qemu.path}' cannot use it")
    if not support:
        slower = "use <domain type='qemu'>, which needs no KVM and is slower"
        if support.hint is None or "<domain type='qemu'>" in support.hint:
            hint = support.hint or slower
        else:
            hint = f"{support.hint}; or {slower}"
        yield Problem("@type", f"KVM does not work here: {support.reason}", hint=hint)


def _cpu(domain: Domain, facts: Facts, qemu: QemuFacts) -> Iterator[Problem]:
    cpu = domain.cpu
    if cpu is None:
        return
    if cpu.mode not in (None, CpuMode.CUSTOM):
        if cpu.mode is CpuMode.HOST_PASSTHROUGH and domain.type is not DomainType.KVM:
            yield Problem(
                "cpu/@mode",
                "CPU mode 'host-passthrough' is only supported with KVM",
                hint="use <cpu mode='maximum'/>",
            )
        return
    name = cpu.model.name if cpu.model is not None else None
    if name is None or not qemu.cpus:
        return
    model = qemu.cpus.get(name)
    if model is None:
        yield Problem("cpu/model", f"CPU model '{name}' is unknown to {qemu.path}", hint=f"see {qemu.path} -cpu help")


def _interfaces(domain: Domain, facts: Facts, qemu: QemuFacts, registry: Registry) -> Iterator[Problem]:
    for nic, env in environments(domain, facts, qemu):
        yield from refuse_at_start(nic, env.path)
        yield from choose(nic, env, registry).problems


def environments(domain: Domain, facts: Facts, qemu: QemuFacts) -> Iterator[tuple[Interface, Env]]:
    """Each interface of *domain* with what its backend may depend on, but for directories."""
    buses = bus_ids(domain)
    for number, nic in enumerate(domain.devices.interfaces, 1):
        path = f"devices/interface[{number}]"
        kvm = domain.type is DomainType.KVM
        known = facts.with_passt(nic.passt.path if nic.passt is not None else None)
        yield nic, Env(known, qemu, _NOWHERE, _NOWHERE, path, domain.shares_memory, buses, kvm)


def _own_words(domain: Domain) -> Iterator[Problem]:
    """QEMU is watched by its process, and spoken to from its first moment on."""
    own = domain.qemu_commandline
    for number, arg in enumerate(own.args if own is not None else (), 1):
        why = _UNWATCHABLE.get(arg.value.removeprefix("-").removeprefix("-")) if arg.value.startswith("-") else None
        if why is not None:
            yield Problem(
                f"qemu:commandline/qemu:arg[{number}]/@value",
                f"QEMU cannot be given '{arg.value}': {why}",
                hint="leave it out: virlet runs QEMU in the background, and guests outlive the daemon",
            )


_UNWATCHABLE = {
    "daemonize": "it would leave the process that is watched",
    "preconfig": "it would wait for a machine that is set up by hand",
    "incoming": "it would wait for another QEMU in the place of booting",
}


def _acpi_indexes(domain: Domain) -> Iterator[Problem]:
    """QEMU's own rules, which libvirt leaves to it."""
    seen: set[int] = set()
    for number, nic in enumerate(domain.devices.interfaces, 1):
        index, path = nic.acpi_index, f"devices/interface[{number}]/acpi/@index"
        if index is None:
            continue
        if index > _HIGHEST_ACPI_INDEX:
            yield Problem(path, f"acpi index {index} is too large", hint=f"use 1 to {_HIGHEST_ACPI_INDEX}")
        elif index in seen:
            yield Problem(path, f"acpi index {index} is used twice")
        seen.add(index)
