"""An address for every device that has none: PCI slots, drive units, USB ports, virtio-serial ports."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TypeVar

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import BadConfig, ConfigUnsupported, InternalError, Problem
from virlet.model.address import Address, PciAddress, SerialAddress, UsbAddress
from virlet.model.chardev import Channel
from virlet.model.controller import Controller, ControllerTarget, ControllerType
from virlet.model.disk import DiskBus
from virlet.model.elements import Devices, Domain
from virlet.model.peripherals import InputBus
from virlet.plan.board import board_of
from virlet.plan.drives import drive_of
from virlet.plan.pci import Board, BridgeKind, Bus, NoRoom, Place, Plug, Want, lay_out
from virlet.xml.declare import replace

__all__ = ["place_all"]

T = TypeVar("T")

_LEGACY_CARDS = (
    "rtl8139",
    "e1000",
    "vmxnet3",
    "pcnet",
    "ne2k_pci",
    "i82551",
    "i82557b",
    "i82559er",
    "virtio-transitional",
)
_EXPRESS_USB = ("qemu-xhci", "nec-xhci")
_ICH9_USB = {"ich9-ehci1": 7, "ich9-uhci1": 0, "ich9-uhci2": 1, "ich9-uhci3": 2}
_USB_PORTS = {
    "piix3-uhci": 2,
    "piix4-uhci": 2,
    "qemu-xhci": 4,
    "nec-xhci": 4,
    "ich9-ehci1": 6,
    "ehci": 6,
    "pci-ohci": 3,
}
_NO_TARGET = ControllerTarget()
_PCI_KINDS = {kind.value: kind for kind in BridgeKind}
_PORT_MODEL = {"pcie-root-port": "pcie-root-port", "pcie-to-pci-bridge": "pcie-pci-bridge", "pci-bridge": "pci-bridge"}


def place_all(domain: Domain) -> Domain:
    """*domain* with every address; those that are there stay.

    Raises XmlError when two devices name the same address, BadConfig for a device that has no room on PCI,
    InternalError when USB is full, ConfigUnsupported for a machine type that has no PCI while a device needs it.
    """
    # Devices is wide, so a step that changes nothing copies nothing: that halves the time.
    return _pci(domain, _usb(_channels(_drives(domain.devices))))


def _drives(devices: Devices) -> Devices:
    if all(disk.address is not None or disk.bus is DiskBus.VIRTIO for disk in devices.disks):
        return devices
    disks = tuple(
        replace(disk, address=drive_of(disk)) if disk.address is None and disk.bus is not DiskBus.VIRTIO else disk
        for disk in devices.disks
    )
    return replace(devices, disks=disks)


def _channels(devices: Devices) -> Devices:
    """Port 0 is the console's, so channels begin at 1."""
    if not devices.channels:
        return devices
    addresses = [item.address for item in devices.channels] + [item.address for item in devices.consoles]
    used = {(item.controller or 0, item.port) for item in addresses if isinstance(item, SerialAddress)}
    out: list[Channel] = []
    for channel in devices.channels:
        if channel.target_type == "virtio" and channel.address is None:
            port = next(n for n in range(1, len(used) + 2) if (0, n) not in used)
            used.add((0, port))
            channel = replace(channel, address=SerialAddress(controller=0, bus=0, port=port))
        out.append(channel)
    return replace(devices, channels=tuple(out))


def _usb(devices: Devices) -> Devices:
    if not any(_on_usb(devices)):
        return devices
    ports = _UsbPorts(devices)
    disks = tuple(
        replace(item, address=ports.next()) if item.bus is DiskBus.USB and item.address is None else item
        for item in devices.disks
    )
    nics = tuple(
        replace(item, address=ports.next()) if item.model == "usb-net" and item.address is None else item
        for item in devices.interfaces
    )
    serials = tuple(
        replace(item, address=ports.next())
        if item.target and item.target.type == "usb-serial" and item.address is None
        else item
        for item in devices.serials
    )
    inputs = tuple(
        replace(item, address=ports.next()) if item.bus is InputBus.USB and item.address is None else item
        for item in devices.inputs
    )
    return replace(devices, disks=disks, interfaces=nics, serials=serials, inputs=inputs)


def _on_usb(devices: Devices) -> Iterator[bool]:
    """For every device that may be: whether it is plugged into USB."""
    yield from (item.bus is DiskBus.USB for item in devices.disks)
    yield from (item.model == "usb-net" for item in devices.interfaces)
    yield from (item.target is not None and item.target.type == "usb-serial" for item in devices.serials)
    yield from (item.bus is InputBus.USB for item in devices.inputs)


class _UsbPorts:
    """Free ports, controller by controller."""

    def __init__(self, devices: Devices) -> None:
        addresses = [item.address for item in devices.disks] + [item.address for item in devices.interfaces]
        addresses += [item.address for item in devices.serials] + [item.address for item in devices.inputs]
        self._used = {
            (address.bus or 0, address.port)
            for address in addresses
            if isinstance(address, UsbAddress) and address.port
        }
        self._ports = [
            (item.index or 0, str(port))
            for item in devices.controllers
            if item.type is ControllerType.USB and item.model != "none" and item.master_startport is None
            for port in range(1, 1 + (item.ports or _USB_PORTS.get(item.model or "", 2)))
        ]

    def next(self) -> UsbAddress:
        for port in self._ports:
            if port not in self._used:
                self._used.add(port)
                return UsbAddress(bus=port[0], port=port[1])
        if not self._ports:
            raise ConfigUnsupported(
                "a USB device needs a USB controller", hint="remove <controller type='usb' model='none'/>"
            )
        raise InternalError(
            "No free USB ports", hint="add a <controller type='usb'/> or give the one there more 'ports'"
        )


def _pci(domain: Domain, devices: Devices) -> Domain:
    board = board_of(domain)
    if board is None:
        return domain if devices is domain.devices else replace(domain, devices=devices)
    devices = replace(devices, controllers=tuple(_built_in(item, board) for item in devices.controllers))
    buses = [_bus(item) for item in devices.controllers if item.type is ControllerType.PCI]
    wants = [Want(key, plug, _first(board, key)) for key, plug, address in _asking(devices) if address is None]
    taken = [_place(address) for address in _addresses(devices) if isinstance(address, PciAddress)]
    try:
        layout = lay_out(board, buses, taken, wants)
    except NoRoom as error:
        raise BadConfig([_no_room(error.key, error.detail)]) from None
    answers = {key: _address(place) for key, place in layout.places.items()}
    controllers = _with_buses(devices.controllers, layout.buses)
    return replace(domain, devices=_answered(devices, controllers, answers))


def _no_room(key: str, text: str) -> Problem:
    """Keys count from 0, by the names of :class:`Devices`."""
    name, _, number = key.partition("/")
    path = f"devices/{name.removesuffix('s')}[{int(number) + 1}]" if number else f"devices/{name}".rstrip("/")
    hint = "use fewer devices, as <disk> on a <controller type='scsi' model='virtio-scsi'/>, which has room for many"
    return Problem(path, text, hint, code=ErrorCode.INTERNAL_ERROR, domain=ErrorDomain.QEMU)


def _by_kind(controllers: tuple[Controller, ...]) -> tuple[Controller, ...]:
    """Kinds in the order of their first appearance, PCI controllers by number."""
    kinds = list(dict.fromkeys(item.type for item in controllers))

    def rank(item: Controller) -> tuple[int, int]:
        return kinds.index(item.type), (item.index or 0) if item.type is ControllerType.PCI else 0

    return tuple(sorted(controllers, key=rank))


def _built_in(item: Controller, board: Board) -> Controller:
    """Controllers that are part of the chip set have their place."""
    if item.address is not None:
        return item
    spot: Place | None = None
    multifunction: bool | None = None
    if board is Board.PC and item.type is ControllerType.IDE and item.index == 0:
        spot = Place(0, 1, 1)
    elif board is Board.PC and item.type is ControllerType.USB and item.index == 0 and item.model == "piix3-uhci":
        spot = Place(0, 1, 2)
    elif board is Board.Q35 and item.type is ControllerType.SATA and item.index == 0:
        spot = Place(0, 0x1F, 2)
    elif item.type is ControllerType.USB and item.model in _ICH9_USB and item.index == 0:
        slot = 0x1D if board is Board.Q35 else 0x1E
        spot, multifunction = Place(0, slot, _ICH9_USB[item.model]), True if item.model == "ich9-uhci1" else None
    if spot is None:
        return item
    return replace(item, address=_address(spot, multifunction))


def _bus(item: Controller) -> Bus:
    address = item.address if isinstance(item.address, PciAddress) else None
    return Bus(
        item.index or 0,
        _PCI_KINDS.get(item.model or "", BridgeKind.OTHER),
        None if address is None else _place(address),
        bool(address and address.multifunction),
    )


def _place(address: PciAddress) -> Place:
    if address.domain:
        raise ConfigUnsupported("Only PCI domain 0 is available")
    return Place(address.bus or 0, address.slot or 0, address.function or 0)


def _address(place: Place, multifunction: bool | None = None) -> PciAddress:
    return PciAddress(domain=0, bus=place.bus, slot=place.slot, function=place.function, multifunction=multifunction)


def _first(board: Board, key: str) -> Place | None:
    """The card that the firmware uses has a slot of its own."""
    if key != "videos/0":
        return None
    return {Board.PC: Place(0, 2), Board.Q35: Place(0, 1)}.get(board)


def _asking(devices: Devices) -> Iterator[tuple[str, Plug, Address | None]]:
    """Every PCI device that can be placed, in libvirt's order, with how it is plugged in."""
    if devices.videos and devices.videos[0].model and devices.videos[0].model.type not in ("none", "ramfb"):
        yield "videos/0", Plug.ROOT, devices.videos[0].address
    for n, nic in enumerate(devices.interfaces):
        if nic.model != "usb-net":
            yield f"interfaces/{n}", Plug.LEGACY if nic.model in _LEGACY_CARDS else Plug.ENDPOINT, nic.address
    for n, sound in enumerate(devices.sounds):
        if sound.model not in ("usb", "sb16", "pcspk"):
            yield f"sounds/{n}", Plug.ENDPOINT if sound.model == "virtio" else Plug.LEGACY, sound.address
    for n, controller in enumerate(devices.controllers):
        plug = _controller_plug(controller)
        if plug is not None:
            yield f"controllers/{n}", plug, controller.address
    for n, disk in enumerate(devices.disks):
        if disk.bus is DiskBus.VIRTIO:
            yield f"disks/{n}", _virtio(disk.model), disk.address
    if devices.memballoon is not None and devices.memballoon.model != "none":
        yield "memballoon", _virtio(devices.memballoon.model), devices.memballoon.address
    for n, rng in enumerate(devices.rngs):
        yield f"rngs/{n}", _virtio(rng.model), rng.address
    for n, watchdog in enumerate(devices.watchdogs):
        if watchdog.model == "i6300esb":
            yield f"watchdogs/{n}", Plug.LEGACY, watchdog.address
    for n, video in enumerate(devices.videos[1:], 1):
        yield (
            f"videos/{n}",
            Plug.ENDPOINT if video.model and video.model.type == "virtio" else Plug.LEGACY,
            video.address,
        )
    for n, item in enumerate(devices.inputs):
        if item.bus is InputBus.VIRTIO:
            yield f"inputs/{n}", _virtio(item.model), item.address
    if devices.vsock is not None:
        yield "vsock", _virtio(devices.vsock.model), devices.vsock.address
    for n, panic in enumerate(devices.panics):
        if panic.model == "pvpanic":
            yield f"panics/{n}", Plug.LEGACY, panic.address


def _virtio(model: str | None) -> Plug:
    return Plug.LEGACY if model == "virtio-transitional" else Plug.ENDPOINT


def _controller_plug(item: Controller) -> Plug | None:
    match item.type:
        case ControllerType.USB:
            if item.model == "none":
                return None
            return Plug.ENDPOINT if item.model in _EXPRESS_USB else Plug.LEGACY
        case ControllerType.SCSI:
            return _virtio(item.model) if (item.model or "").startswith("virtio") else Plug.LEGACY
        case ControllerType.VIRTIO_SERIAL:
            return _virtio(item.model)
        case ControllerType.SATA:
            return Plug.LEGACY
        case _:
            return None


def _addresses(devices: Devices) -> Iterator[Address | None]:
    """The addresses named in the XML, those of PCI controllers excepted."""
    for _, _, address in _asking(devices):
        yield address
    for controller in devices.controllers:
        if controller.type is not ControllerType.PCI and _controller_plug(controller) is None:
            yield controller.address


def _with_buses(present: tuple[Controller, ...], buses: tuple[Bus, ...]) -> tuple[Controller, ...]:
    known = {item.index: item for item in present if item.type is ControllerType.PCI}
    placed = {bus.index: _bridge(bus, known.get(bus.index)) for bus in buses}
    controllers = [
        placed.pop(item.index) if item.type is ControllerType.PCI and item.index in placed else item for item in present
    ]
    # Keys of the answers count controllers, so new ones go to the end for now.
    return (*controllers, *placed.values())


def _bridge(bus: Bus, item: Controller | None) -> Controller:
    return _new_bridge(bus) if item is None else _known_bridge(bus, item)


@lru_cache(maxsize=64)  # Values can be shared, and every guest of a board has the same ports.
def _new_bridge(bus: Bus) -> Controller:
    return _known_bridge(bus, Controller(type=ControllerType.PCI, index=bus.index, model=bus.kind.value))


def _known_bridge(bus: Bus, made: Controller) -> Controller:
    if bus.place is None:
        return made
    address = made.address or _address(bus.place, True if bus.multifunction else None)
    target = made.target or _NO_TARGET
    if bus.kind is BridgeKind.ROOT_PORT:
        port = bus.place.slot << 3 | bus.place.function
        target = replace(
            target,
            chassis=bus.index if target.chassis is None else target.chassis,
            port=port if target.port is None else target.port,
        )
    elif bus.kind is BridgeKind.PCI_BRIDGE:
        target = replace(target, chassis_nr=bus.index if target.chassis_nr is None else target.chassis_nr)
    else:
        target = made.target or target
    return replace(
        made,
        pci_model=made.pci_model or _PORT_MODEL.get(bus.kind.value),
        target=None if target == _NO_TARGET else target,
        address=address,
    )


def _answered(devices: Devices, controllers: tuple[Controller, ...], answers: dict[str, PciAddress]) -> Devices:
    kinds = {key.partition("/")[0] for key in answers}

    def given(name: str, items: tuple[T, ...]) -> tuple[T, ...]:
        if name not in kinds:
            return items
        return tuple(
            replace(item, address=answers[f"{name}/{n}"]) if f"{name}/{n}" in answers else item  # type: ignore[type-var]
            for n, item in enumerate(items)
        )

    balloon, vsock = devices.memballoon, devices.vsock
    if balloon is not None and "memballoon" in answers:
        balloon = replace(balloon, address=answers["memballoon"])
    if vsock is not None and "vsock" in answers:
        vsock = replace(vsock, address=answers["vsock"])
    return replace(
        devices,
        disks=given("disks", devices.disks),
        controllers=_by_kind(given("controllers", controllers)),
        interfaces=given("interfaces", devices.interfaces),
        inputs=given("inputs", devices.inputs),
        sounds=given("sounds", devices.sounds),
        videos=given("videos", devices.videos),
        watchdogs=given("watchdogs", devices.watchdogs),
        rngs=given("rngs", devices.rngs),
        panics=given("panics", devices.panics),
        memballoon=balloon,
        vsock=vsock,
    )
