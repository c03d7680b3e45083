"""What a definition leaves open and only a QEMU or a board can answer: machine type, CPU, implied devices.

What needs neither is settled when the XML is read (:mod:`virlet.model.defaults`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from virlet.model.chardev import Console, ConsoleTarget, Serial, SerialTarget
from virlet.model.controller import Controller, ControllerType
from virlet.model.disk import DiskBus
from virlet.model.elements import Devices, Domain, DomainType
from virlet.model.graphics import Audio, Video, VideoModel
from virlet.model.machine import (
    Cpu,
    CpuMode,
    CpuModelName,
    Os,
)
from virlet.model.peripherals import Input, InputBus, InputType, MemBalloon, Watchdog, WatchdogAction
from virlet.plan.board import board_of, is_x86
from virlet.plan.drives import drive_of
from virlet.plan.facts import QemuFacts
from virlet.plan.pci import Board
from virlet.xml.declare import replace

__all__ = ["fill"]

_Changes: TypeAlias = Mapping[str, object]
"""Fields of :class:`Devices` that are not as they were; each step looks at fields that no other step changes."""

_DEFAULT_USB = {Board.PC: "piix3-uhci", Board.Q35: "qemu-xhci", Board.VIRT: "qemu-xhci"}
_VIDEO_MEMORY = {"vga": 16_384, "cirrus": 16_384, "bochs": 16_384, "qxl": 65_536}


def fill(domain: Domain, qemu: QemuFacts) -> Domain:
    """*domain* with everything but addresses; idempotent."""
    os = _machine(domain, qemu)
    if os != domain.os:
        domain = replace(domain, os=os)
    # Domain and Devices are wide: they are copied once, with all changes.
    changes: dict[str, object] = {}
    for step in _STEPS:
        changes |= step(domain.devices, domain, qemu)
    return replace(domain, cpu=_cpu(domain, qemu), devices=replace(domain.devices, **changes))


def _machine(domain: Domain, qemu: QemuFacts) -> Os:
    """The versioned machine type is written down, so that the guest keeps its board when QEMU is upgraded."""
    named = domain.os.machine
    machine = qemu.default_machine if named is None else qemu.machine(named)
    return replace(
        domain.os,
        arch=domain.os.arch or qemu.arch,
        machine=named if machine is None else machine.name,
    )


def _cpu(domain: Domain, qemu: QemuFacts) -> Cpu | None:
    cpu = domain.cpu
    check = "none" if domain.type is DomainType.QEMU else "partial"
    if cpu is None or (cpu.mode is None and cpu.model is None):
        machine = qemu.machine(domain.os.machine or "")
        if machine is None or machine.default_cpu is None or not is_x86(domain):
            return cpu
        model = machine.default_cpu.removesuffix("-x86_64-cpu").removesuffix("-i386-cpu")
        cpu = replace(cpu or Cpu(), mode=CpuMode.CUSTOM, model=CpuModelName(fallback="forbid", name=model))
        check = "none"
    if cpu.mode is None:
        cpu = replace(cpu, mode=CpuMode.CUSTOM)
    if cpu.mode is CpuMode.CUSTOM:
        model_name = cpu.model and replace(cpu.model, fallback=cpu.model.fallback or "allow")
        cpu = replace(cpu, match=cpu.match or "exact", check=cpu.check or check, model=model_name)
    elif cpu.check is None:
        cpu = replace(cpu, check="partial" if cpu.mode is CpuMode.HOST_MODEL else "none")
    return cpu


def _emulator(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    return {"emulator": devices.emulator or qemu.path}


def _serials(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    """The first console is the first serial port under another name; either one brings the other."""
    serials, consoles = devices.serials, devices.consoles
    if consoles and not serials and _is_serial(consoles[0]):
        first = consoles[0]
        serials = (Serial(type=first.type, sources=first.sources, protocol=first.protocol, log=first.log),)
    kind = "isa-serial" if is_x86(domain) else "system-serial"
    serials = tuple(_serial(serial, n, kind) for n, serial in enumerate(serials))
    if serials:
        others = consoles[1:] if consoles and _is_serial(consoles[0]) else consoles
        consoles = (_twin(serials[0]), *others)
    numbered = tuple(_console(console, n) for n, console in enumerate(consoles))
    return {"serials": serials, "consoles": numbered}


def _is_serial(console: Console) -> bool:
    return console.target is None or console.target.type in (None, "serial")


def _serial(serial: Serial, number: int, kind: str) -> Serial:
    target = serial.target or SerialTarget()
    if target.type is None:
        target = replace(target, type=kind)
    if target.model is None:
        target = replace(target, model="pl011" if target.type == "system-serial" else target.type)
    return replace(serial, target=replace(target, port=number if target.port is None else target.port))


def _twin(serial: Serial) -> Console:
    return Console(
        type=serial.type,
        tty=serial.tty,
        sources=serial.sources,
        protocol=serial.protocol,
        log=serial.log,
        target=ConsoleTarget(type="serial", port=0),
        alias=serial.alias,
    )


def _console(console: Console, number: int) -> Console:
    target = console.target or ConsoleTarget(type="serial")
    return replace(console, target=replace(target, port=number))


def _inputs(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    inputs = devices.inputs
    if is_x86(domain):
        for kind in (InputType.MOUSE, InputType.KEYBOARD):
            if not any(item.type is kind and item.bus is InputBus.PS2 for item in inputs):
                inputs = (*inputs, Input(type=kind, bus=InputBus.PS2))
    return {"inputs": inputs}


def _displays(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    videos = devices.videos
    if devices.graphics and not videos:
        videos = (Video(),)
    videos = tuple(_video(video, n == 0, domain, qemu) for n, video in enumerate(videos))
    audios = devices.audios or (Audio(id=1, type="none"),)
    return {"videos": videos, "audios": audios}


def _video(video: Video, first: bool, domain: Domain, qemu: QemuFacts) -> Video:
    model = video.model
    if model is None:
        x86 = "cirrus" if qemu.has_device("cirrus-vga") else "vga"
        model = VideoModel(type=x86 if is_x86(domain) else "virtio")
    if model.type == "none":
        return replace(video, model=model)
    if model.type == "qxl":
        model = replace(model, ram=model.ram or 65_536, vgamem=model.vgamem or 16_384)
    return replace(
        video,
        model=replace(
            model,
            vram=model.vram or _VIDEO_MEMORY.get(model.type),
            heads=model.heads or 1,
            primary=True if first and model.primary is None else model.primary,
        ),
    )


def _watchdogs(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    watchdogs = devices.watchdogs
    if board_of(domain) is Board.Q35 and not any(item.model == "itco" for item in watchdogs):
        # The chip set has it whether or not the XML says so.
        action = watchdogs[0].action if watchdogs else WatchdogAction.RESET
        watchdogs = (*watchdogs, Watchdog(model="itco", action=action))
    return {"watchdogs": watchdogs}


def _balloon(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    if devices.memballoon is not None:
        return {}
    model = "none" if board_of(domain) is None else "virtio"
    return {"memballoon": MemBalloon(model=model)}


def _controllers(devices: Devices, domain: Domain, qemu: QemuFacts) -> _Changes:
    """Numbers for those given, then those that the board or a device implies, in libvirt's order."""
    board = board_of(domain)
    found = _numbered(devices.controllers)
    if board is None:
        return {"controllers": found}
    found = tuple(_modelled(item, board, qemu) for item in found)
    wanted: list[tuple[ControllerType, int]] = [(ControllerType.USB, 0)]
    if board is Board.Q35:
        wanted.append((ControllerType.SATA, 0))
    wanted.append((ControllerType.PCI, 0))
    wanted += _implied(devices)
    have = {(item.type, item.index) for item in found}
    for kind, index in wanted:
        if (kind, index) not in have:
            have.add((kind, index))
            found = (*found, _modelled(Controller(type=kind, index=index), board, qemu))
    return {"controllers": found}


def _numbered(controllers: tuple[Controller, ...]) -> tuple[Controller, ...]:
    used = {(item.type, item.index) for item in controllers if item.index is not None}
    out = []
    for item in controllers:
        if item.index is None:
            index = next(n for n in range(len(used) + 1) if (item.type, n) not in used)
            used.add((item.type, index))
            item = replace(item, index=index)
        out.append(item)
    return tuple(out)


def _modelled(item: Controller, board: Board, qemu: QemuFacts) -> Controller:
    if item.type is ControllerType.USB and item.model is None:
        return replace(item, model=_DEFAULT_USB[board])
    if item.type is ControllerType.SCSI and item.model in (None, "auto"):
        lsi = board is not Board.VIRT and qemu.has_device("lsi53c895a")
        return replace(item, model="lsilogic" if lsi else "virtio-scsi")
    if item.type is ControllerType.PCI and item.index == 0 and item.model is None:
        return replace(item, model="pcie-root" if board.express else "pci-root")
    return item


_DRIVE_CONTROLLER = {
    DiskBus.IDE: ControllerType.IDE,
    DiskBus.SATA: ControllerType.SATA,
    DiskBus.SCSI: ControllerType.SCSI,
    DiskBus.FDC: ControllerType.FDC,
}


def _implied(devices: Devices) -> list[tuple[ControllerType, int]]:
    """Controllers that disks, channels and consoles need."""
    found: list[tuple[ControllerType, int]] = []
    for disk in devices.disks:
        kind = None if disk.bus is None else _DRIVE_CONTROLLER.get(disk.bus)
        drive = drive_of(disk)
        if kind is not None and drive is not None:
            found += [(kind, n) for n in range((drive.controller or 0) + 1)]
    virtio = [console for console in devices.consoles if console.target and console.target.type == "virtio"]
    if virtio or any(channel.target_type == "virtio" for channel in devices.channels):
        found.append((ControllerType.VIRTIO_SERIAL, 0))
    return found


_STEPS: tuple[Callable[[Devices, Domain, QemuFacts], _Changes], ...] = (
    _emulator,
    _serials,
    _inputs,
    _displays,
    _watchdogs,
    _balloon,
    _controllers,
)
