"""What libvirt adds to a domain when it is defined, as far as it needs no QEMU to know it.

Devices and addresses that a board implies are added by ``virlet.plan.assign``, which knows the board.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from virlet.model.chardev import ChardevType, Console, ConsoleTarget, Serial, SerialTarget
from virlet.model.defaults_interface import settle_interface
from virlet.model.disk import Disk, DiskBus, DiskDevice, DiskDriver
from virlet.model.elements import Devices, Domain, Placement
from virlet.model.fresh import Fresh
from virlet.model.graphics import Graphics, GraphicsListen, GraphicsType, ListenType, Video
from virlet.model.interface import Interface
from virlet.model.machine import BootDevice, Clock, Cpu, CpuMode, CrashAction, Os, PowerAction
from virlet.model.peripherals import Input, InputBus, InputType, Watchdog, WatchdogAction
from virlet.xml.declare import Element, replace

__all__ = ["mirror_console", "settle", "settle_device"]

E = TypeVar("E", bound=Element)

_BUS_BY_NAME = (
    ("vd", DiskBus.VIRTIO),
    ("hd", DiskBus.IDE),
    ("sd", DiskBus.SCSI),
    ("fd", DiskBus.FDC),
    ("ubd", DiskBus.UML),
    ("xvd", DiskBus.XEN),
    ("nvme", DiskBus.NVME),
)


def settle(domain: Domain, fresh: Fresh, *, live: bool = False) -> Domain:
    """*domain* as libvirt keeps it: nothing implied is left unsaid.  Idempotent but for what *fresh* makes."""
    devices = domain.devices
    return replace(
        domain,
        current_memory=min(domain.current_memory or domain.memory, domain.memory),
        vcpu_placement=domain.vcpu_placement or Placement.STATIC,
        os=_os(domain),
        cpu=_cpu(domain.cpu),
        clock=domain.clock or Clock(),
        on_poweroff=domain.on_poweroff or PowerAction.DESTROY,
        on_reboot=domain.on_reboot or PowerAction.RESTART,
        on_crash=domain.on_crash or CrashAction.DESTROY,
        devices=_with_consoles(
            replace(
                devices,
                disks=_each(devices.disks, fresh, live),
                interfaces=_each(devices.interfaces, fresh, live),
                inputs=_each(devices.inputs, fresh, live),
                graphics=_each(devices.graphics, fresh, live),
                videos=_videos(_each(devices.videos, fresh, live)),
                watchdogs=_each(devices.watchdogs, fresh, live),
            )
        ),
    )


def settle_device(device: E, fresh: Fresh, *, live: bool = False) -> E:
    """One device as libvirt keeps it."""
    settled: Element = device
    if isinstance(device, Interface):
        settled = settle_interface(device, fresh, live=live)
    elif isinstance(device, Disk):
        settled = _disk(device)
    elif isinstance(device, Graphics):
        settled = _graphics(device, live)
    elif isinstance(device, Watchdog):
        settled = replace(device, action=device.action or WatchdogAction.RESET)
    elif isinstance(device, Input):
        settled = _input(device)
    elif isinstance(device, Video):
        settled = _video(device)
    return settled  # type: ignore[return-value]


def _each(devices: Iterable[E], fresh: Fresh, live: bool) -> tuple[E, ...]:
    return tuple(settle_device(device, fresh, live=live) for device in devices)


def _os(domain: Domain) -> Os:
    """With neither kind of boot order the first hard disk is tried, also after a kernel."""
    devices = domain.devices
    ordered = any(disk.boot for disk in devices.disks) or any(nic.boot for nic in devices.interfaces)
    if domain.os.boot or ordered:
        return domain.os
    return replace(domain.os, boot=(BootDevice.HD,))


def _cpu(cpu: Cpu | None) -> Cpu | None:
    if cpu is None or cpu.mode is not CpuMode.HOST_PASSTHROUGH:
        return cpu
    migratable = True if cpu.migratable is None else cpu.migratable
    return replace(cpu, check=cpu.check or "none", migratable=migratable)


def _disk(disk: Disk) -> Disk:
    bus = disk.bus
    if bus is None and disk.target is not None:
        bus = next((bus for start, bus in _BUS_BY_NAME if disk.target.startswith(start)), None)
    driver = disk.driver or DiskDriver()
    driver = replace(driver, name=driver.name or "qemu", type=driver.type or "raw")
    readonly = disk.readonly or disk.device is DiskDevice.CDROM
    return replace(disk, bus=bus, driver=driver, readonly=readonly)


def _numbered(serials: tuple[Serial, ...]) -> tuple[Serial, ...]:
    """Ports without a number get the next free one."""
    taken = {serial.target.port for serial in serials if serial.target is not None}
    numbered = []
    for serial in serials:
        target = serial.target or SerialTarget()
        if target.port is None:
            port = next(number for number in range(len(serials) + len(taken) + 1) if number not in taken)
            taken.add(port)
            target = replace(target, port=port)
        numbered.append(replace(serial, target=target))
    return tuple(numbered)


def _with_consoles(devices: Devices) -> Devices:
    """The first console and the first serial port are one device: either implies the other; consoles are numbered."""
    consoles, serials = devices.consoles, devices.serials
    if not consoles and serials:
        consoles = (Console(type=serials[0].type),)
    numbered = []
    for number, console in enumerate(consoles):
        target = console.target or ConsoleTarget()
        numbered.append(replace(console, target=replace(target, type=target.type or "serial", port=number)))
    if numbered and not serials and _is_serial(numbered[0]):
        first = numbered[0]
        serials = (Serial(type=first.type, sources=first.sources, protocol=first.protocol, log=first.log),)
    return mirror_console(replace(devices, consoles=tuple(numbered), serials=_numbered(serials)))


def _is_serial(console: Console) -> bool:
    return console.target is not None and console.target.type == "serial"


def mirror_console(devices: Devices) -> Devices:
    """*devices* with the first console saying what the first serial port says; to be called when the latter changes."""
    if not devices.consoles or not devices.serials or not _is_serial(devices.consoles[0]):
        return devices
    serial, console = devices.serials[0], devices.consoles[0]
    tty = serial.source.path if serial.type is ChardevType.PTY and serial.source is not None else None
    same = replace(
        console,
        type=serial.type,
        tty=tty,
        sources=serial.sources,
        protocol=serial.protocol,
        log=serial.log,
        alias=serial.alias,
    )
    return devices if same == console else replace(devices, consoles=(same, *devices.consoles[1:]))


def _input(device: Input) -> Input:
    if device.bus is not None or device.type in (InputType.PASSTHROUGH, InputType.EVDEV):
        return device
    tablet = device.type is InputType.TABLET
    return replace(device, bus=InputBus.USB if tablet else InputBus.PS2)


def _graphics(graphics: Graphics, live: bool) -> Graphics:
    """Port and listen say the same in two places, as libvirt prints them."""
    if graphics.type is not GraphicsType.VNC:
        return graphics
    listens = graphics.listens
    if not listens:
        if graphics.socket is not None:
            listens = (GraphicsListen(type=ListenType.SOCKET, socket=graphics.socket),)
        else:
            listens = (GraphicsListen(type=ListenType.ADDRESS, address=graphics.listen),)
    first = listens[0]
    changes: dict[str, object] = {"listens": listens}
    if first.type is ListenType.ADDRESS:
        auto = graphics.autoport is True or graphics.port is None or graphics.port <= 0
        changes |= {"autoport": auto, "listen": graphics.listen or first.address}
        if auto and not (live and graphics.port is not None):
            changes["port"] = -1
    elif first.type is ListenType.SOCKET:
        changes |= {"socket": first.socket, "port": None, "autoport": None}
    return replace(graphics, **changes)


def _video(video: Video) -> Video:
    if video.model is None or video.model.type == "none" or video.model.heads is not None:
        return video
    return replace(video, model=replace(video.model, heads=1))


def _videos(videos: tuple[Video, ...]) -> tuple[Video, ...]:
    """One card is primary: the first when none says so."""
    first = videos[0] if videos else None
    if first is None or first.model is None or first.model.type == "none":
        return videos
    if any(video.model is not None and video.model.primary for video in videos):
        return videos
    return (replace(first, model=replace(first.model, primary=True)), *videos[1:])
