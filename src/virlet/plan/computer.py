"""The computer itself: name, machine, accelerator, CPU, memory, clock, firmware, kernel."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.model.elements import Domain, DomainType
from virlet.model.machine import (
    ClockOffset,
    Cpu,
    CpuMode,
    FeaturePolicy,
    MemoryAccess,
    MemorySource,
    PowerAction,
    Timer,
)
from virlet.plan.base import Access, FileNeed, Json, JsonValue, Word
from virlet.plan.board import is_x86
from virlet.plan.words import Piece, Scene, escape

__all__ = ["clock", "front", "hypervisor", "kernel", "power"]

_MEMORY_ID = "pc.ram"


def front(scene: Scene) -> Piece:
    """From the name to the UUID."""
    domain = scene.domain
    words: tuple[Word, ...] = (
        *("-name", f"guest={escape(domain.name)},debug-threads=on"),
        "-S",
        *("-machine", ",".join(_machine(scene))),
        *("-accel", hypervisor(domain)),
        *_cpu(scene),
        *("-m", f"size={domain.memory}k"),
        *("-object", Json(_memory(domain, _ram_id(scene)))),
        *("-overcommit", "mem-lock=off"),
        *("-smp", _smp(domain)),
        *("-uuid", str(domain.uuid)),
    )
    return Piece(words, files=tuple(_firmware_files(domain)))


def hypervisor(domain: Domain) -> str:
    """QEMU's accelerator for the domain's type."""
    return "kvm" if domain.type is DomainType.KVM else "tcg"


def _ram_id(scene: Scene) -> str:
    board = scene.qemu.machine(scene.domain.os.machine or "")
    return (board.default_ram_id if board is not None else None) or _MEMORY_ID


def _machine(scene: Scene) -> Iterator[str]:
    domain, os = scene.domain, scene.domain.os
    yield os.machine or "none"
    yield "usb=off"
    features = domain.features
    if features is not None:
        if features.vmport is not None:
            yield f"vmport={_on(features.vmport)}"
        if features.smm is not None:
            yield f"smm={_on(features.smm)}"
        if features.ioapic is not None:
            yield f"kernel_irqchip={'split' if features.ioapic == 'qemu' else 'on'}"
    yield "dump-guest-core=off"
    if domain.memory_backing is not None and domain.memory_backing.nosharepages:
        yield "mem-merge=off"
    yield f"memory-backend={_ram_id(scene)}"
    if is_x86(domain):
        hpet = next((timer.present for timer in _timers(domain) if timer.name == "hpet"), None)
        if hpet is not None:
            yield f"hpet={_on(hpet)}"
        yield f"acpi={_on(features is not None and features.acpi)}"


def _on(value: bool) -> str:
    return "on" if value else "off"


def _timers(domain: Domain) -> tuple[Timer, ...]:
    return () if domain.clock is None else domain.clock.timers


def _cpu(scene: Scene) -> Iterator[str]:
    cpu = scene.domain.cpu
    kvm = scene.domain.type is DomainType.KVM
    if cpu is None or (cpu.mode in (None, CpuMode.CUSTOM) and (cpu.model is None or cpu.model.name is None)):
        return
    yield "-cpu"
    yield ",".join(_cpu_words(scene.domain, cpu, kvm))


def _cpu_words(domain: Domain, cpu: Cpu, kvm: bool) -> Iterator[str]:
    match cpu.mode:
        case CpuMode.HOST_PASSTHROUGH | CpuMode.HOST_MODEL:
            # Without KVM there is no host CPU to show; the best that TCG has stands in for it, as in libvirt.
            yield "host" if kvm else "max"
            if kvm and (cpu.mode is CpuMode.HOST_MODEL or cpu.migratable is not None):
                yield f"migratable={_on(cpu.migratable is not False)}"
        case CpuMode.MAXIMUM:
            yield "max"
        case _:
            assert cpu.model is not None
            yield cpu.model.name or ""
    if cpu.model is not None and cpu.model.vendor_id:
        yield f"vendor={escape(cpu.model.vendor_id)}"
    for timer in _timers(domain):
        if timer.name == "kvmclock" and timer.present is not None:
            yield f"kvmclock={_on(timer.present)}"
        if timer.name == "tsc" and timer.frequency is not None:
            yield f"tsc-frequency={timer.frequency}"
    for feature in cpu.features:
        off = feature.policy in (FeaturePolicy.DISABLE, FeaturePolicy.FORBID)
        if feature.policy is not FeaturePolicy.OPTIONAL:
            yield f"{feature.name}={_on(not off)}"
    if domain.features is not None and domain.features.pmu is not None:
        yield f"pmu={_on(domain.features.pmu)}"


def _memory(domain: Domain, ram: str) -> dict[str, JsonValue]:
    backing = domain.memory_backing
    shared = backing is not None and backing.access is MemoryAccess.SHARED
    memfd = backing is not None and (backing.source is MemorySource.MEMFD or (shared and backing.source is None))
    members: dict[str, JsonValue] = {
        "qom-type": "memory-backend-memfd" if memfd else "memory-backend-ram",
        "id": ram,
    }
    if shared:
        members["share"] = True
    if memfd:
        # Without it the name of the memory block differs from that of other back ends, and a saved guest does not load.
        members["x-use-canonical-path-for-ramblock-id"] = False
    if backing is not None and backing.allocation == "immediate":
        members["prealloc"] = True
    members["size"] = domain.memory * 1024
    return members


def _smp(domain: Domain) -> str:
    total, now = domain.vcpus, domain.vcpus_at_start
    words = [str(now)] + ([f"maxcpus={total}"] if now != total else [])
    topology = domain.cpu.topology if domain.cpu is not None else None
    if topology is None:
        return ",".join([*words, f"sockets={total}", "cores=1", "threads=1"])
    words.append(f"sockets={topology.sockets}")
    words += [f"dies={topology.dies}"] if topology.dies is not None else []
    words += [f"clusters={topology.clusters}"] if topology.clusters is not None else []
    return ",".join([*words, f"cores={topology.cores}", f"threads={topology.threads}"])


def clock(scene: Scene) -> Piece:
    """``-rtc`` and what other timers need."""
    words: list[Word] = ["-rtc", _rtc(scene.domain)]
    for timer in _timers(scene.domain):
        if timer.name == "pit" and timer.tickpolicy in ("delay", "discard"):
            words += ["-global", f"kvm-pit.lost_tick_policy={timer.tickpolicy}"]
    return Piece(tuple(words))


def _rtc(domain: Domain) -> str:
    setting = domain.clock
    base = "utc"
    if setting is not None and setting.offset is ClockOffset.LOCALTIME:
        base = "localtime"
    rtc = next((timer for timer in _timers(domain) if timer.name == "rtc"), None)
    words = [f"base={base}"]
    if rtc is not None and rtc.track in ("guest", "wall", "realtime"):
        words.append("clock=" + {"guest": "vm", "wall": "host", "realtime": "rt"}[rtc.track])
    if rtc is not None and rtc.tickpolicy == "catchup":
        words.append("driftfix=slew")
    elif rtc is not None and rtc.tickpolicy == "delay":
        words.append("driftfix=none")
    return ",".join(words)


def power(scene: Scene) -> Piece:
    """What QEMU itself does when the guest powers off or reboots, and how the firmware boots.

    QEMU never ends by itself (``-no-shutdown``): it says SHUTDOWN and waits, so that the engine can do what
    ``on_poweroff`` says.  Where a reboot is to end the guest, ``-no-reboot`` turns it into the same event.
    """
    domain = scene.domain
    words: list[Word] = ["-no-shutdown"]
    if domain.on_reboot in (PowerAction.DESTROY, PowerAction.PRESERVE):
        words.append("-no-reboot")
    if domain.pm is not None and is_x86(domain):
        chip = "ICH9-LPC" if "q35" in (domain.os.machine or "") else "PIIX4_PM"
        for name, value in (("disable_s3", domain.pm.suspend_to_mem), ("disable_s4", domain.pm.suspend_to_disk)):
            if value is not None:
                words += ["-global", f"{chip}.{name}={int(not value)}"]
    return Piece((*words, "-boot", ",".join(_boot(domain))))


def _boot(domain: Domain) -> Iterator[str]:
    os = domain.os
    if os.bootmenu is not None:
        yield f"menu={_on(os.bootmenu)}"
        if os.bootmenu and os.bootmenu_timeout is not None:
            yield f"splash-time={os.bootmenu_timeout}"
    if os.bios is not None and os.bios.reboot_timeout is not None:
        yield f"reboot-timeout={os.bios.reboot_timeout}"
    yield "strict=on"


def kernel(scene: Scene) -> Piece:
    """A kernel that QEMU loads itself, and the firmware image."""
    os = scene.domain.os
    words: list[Word] = []
    files: list[FileNeed] = []
    if os.loader is not None and os.loader.path and os.loader.type != "pflash":
        words += ["-bios", os.loader.path]
    for option, path in (("kernel", os.kernel), ("initrd", os.initrd), ("dtb", os.dtb)):
        if path:
            words += [f"-{option}", path]
            files.append(FileNeed(Path(path), Access.READ, f"os/{option}", option))
        if option == "initrd" and os.cmdline:
            words += ["-append", os.cmdline]
    return Piece(tuple(words), files=tuple(files))


def _firmware_files(domain: Domain) -> Iterator[FileNeed]:
    if domain.os.loader is not None and domain.os.loader.path:
        yield FileNeed(Path(domain.os.loader.path), Access.READ, "os/loader", "firmware")
