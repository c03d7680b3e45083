"""Where PCI devices go: free slots, root ports and bridges as libvirt lays them out.  Plain values only.

On q35 (and other PCI Express boards) a device sits alone behind its own root port, so that it can be unplugged;
conventional PCI devices share a bridge; one root port more than needed is kept for hotplug.  On pc everything sits on
bus 0, and what has no room there behind a bridge.  The order in which devices ask decides, so the same definition
always gets the same addresses.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from types import MappingProxyType

from virlet.errors import InternalError, XmlError

__all__ = ["Board", "BridgeKind", "Bus", "Layout", "NoRoom", "Place", "Plug", "Want", "lay_out"]

_MOST_BRIDGES = 8
"""Bridges that are added for devices on pc, each with 31 slots: the firmware has I/O ports for no more than 16."""


class NoRoom(InternalError):
    """The device called *key* (empty: a bridge) finds no free slot; libvirt's words."""

    def __init__(self, key: str = "") -> None:
        super().__init__("No more available PCI slots")
        self.key = key


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """A PCI address in domain 0."""

    bus: int
    slot: int
    function: int = 0

    def __str__(self) -> str:
        return f"0000:{self.bus:02x}:{self.slot:02x}.{self.function:x}"


class Board(Enum):
    """How a machine type's PCI is built."""

    PC = "pc"
    Q35 = "q35"
    VIRT = "virt"
    """A PCI Express root and nothing on it: ``virt`` of aarch64 and riscv64."""

    @property
    def express(self) -> bool:
        """Is bus 0 PCI Express?"""
        return self is not Board.PC


class Plug(Enum):
    """What a device wants to be plugged into."""

    ENDPOINT = "PCI Express endpoint"
    LEGACY = "conventional PCI"
    ROOT = "the root bus"
    """Its place is known: the primary video of a board."""


class BridgeKind(Enum):
    """A PCI controller, by libvirt's model name."""

    PCI_ROOT = "pci-root"
    PCIE_ROOT = "pcie-root"
    ROOT_PORT = "pcie-root-port"
    TO_PCI = "pcie-to-pci-bridge"
    PCI_BRIDGE = "pci-bridge"
    OTHER = "other"

    @property
    def slots(self) -> range:
        """The slots that a device may be given on the bus behind it without being asked for by number."""
        return _SLOTS[self]

    @property
    def takes(self) -> Plug | None:
        """What may be put behind it without being asked for by number."""
        return _TAKES.get(self)


_SLOTS: Mapping[BridgeKind, range] = {
    BridgeKind.PCI_ROOT: range(1, 32),
    BridgeKind.PCIE_ROOT: range(1, 32),
    BridgeKind.ROOT_PORT: range(1),
    BridgeKind.TO_PCI: range(1, 32),
    BridgeKind.PCI_BRIDGE: range(1, 32),
    BridgeKind.OTHER: range(0),
}
_TAKES: Mapping[BridgeKind, Plug] = {
    BridgeKind.PCI_ROOT: Plug.LEGACY,
    BridgeKind.ROOT_PORT: Plug.ENDPOINT,
    BridgeKind.TO_PCI: Plug.LEGACY,
    BridgeKind.PCI_BRIDGE: Plug.LEGACY,
}


@dataclass(frozen=True, slots=True)
class Bus:
    """A PCI controller: its index is the number of the bus behind it."""

    index: int
    kind: BridgeKind
    place: Place | None = None
    multifunction: bool = False


@dataclass(frozen=True, slots=True)
class Want:
    """A device without an address."""

    key: str
    """How the answer names it."""
    plug: Plug
    first: Place | None = None
    """Where it goes when that is free."""


@dataclass(frozen=True, slots=True)
class Layout:
    """The answer: every PCI controller with its place, and a place for each :class:`Want`."""

    buses: tuple[Bus, ...]
    places: Mapping[str, Place]


_FIXED = {
    Board.PC: frozenset({0, 1}),  # host bridge; PIIX3 with ISA, IDE, USB and power management
    Board.Q35: frozenset({0, 0x1F}),  # host bridge; ICH9 with ISA, SATA and SMBus
    Board.VIRT: frozenset({0}),
}


def lay_out(board: Board, buses: Iterable[Bus], taken: Iterable[Place], wants: Iterable[Want]) -> Layout:
    """Give every want a place, adding PCI controllers as needed; *taken* are the places that the XML names.

    Raises XmlError when a place is named twice, :class:`NoRoom` when there is no room, both with libvirt's words.
    """
    return _laid_out(board, tuple(buses), tuple(taken), tuple(wants))


@lru_cache(maxsize=32)  # The guests of a host are mostly alike, and this is a third of what their defaults cost.
def _laid_out(board: Board, buses: tuple[Bus, ...], named: tuple[Place, ...], wants: tuple[Want, ...]) -> Layout:
    _refuse_doubles([*named, *(bus.place for bus in buses if bus.place is not None)])
    known = _known(board, buses, named)
    if board.express:
        planned = _enough(board, known, named, wants)
        state = _placed(board, planned, named, wants)
        if len(planned) > len(known):
            state.spare()
    else:
        state = _with_bridges(board, known, named, wants)
    return Layout(tuple(state.buses.values()), MappingProxyType(state.answers))


def _placed(board: Board, buses: Iterable[Bus], named: Sequence[Place], wants: Sequence[Want]) -> _State:
    state = _State(board, buses, set(named))
    state.settle(want for want in wants if want.first is not None)
    state.place_bridges()
    state.settle(want for want in wants if want.first is None)
    return state


def _with_bridges(board: Board, known: Sequence[Bus], named: Sequence[Place], wants: Sequence[Want]) -> _State:
    """As many bridges as are needed, each of which takes a slot itself."""
    more: list[Bus] = []
    while True:
        try:
            return _placed(board, (*known, *more), named, wants)
        except NoRoom:
            if len(more) == _MOST_BRIDGES:
                raise
        more.append(Bus(max(bus.index for bus in (*known, *more)) + 1, BridgeKind.PCI_BRIDGE))


def _refuse_doubles(places: Iterable[Place]) -> None:
    seen: set[Place] = set()
    for place in places:
        if place in seen:
            raise XmlError(f"Attempted double use of PCI Address {place}")
        seen.add(place)


def _known(board: Board, buses: Sequence[Bus], named: Sequence[Place]) -> list[Bus]:
    """Those that the XML names, and those that *named* presumes."""
    root = BridgeKind.PCIE_ROOT if board.express else BridgeKind.PCI_ROOT
    known = {bus.index: bus for bus in buses}
    known.setdefault(0, Bus(0, root))
    presumed = BridgeKind.ROOT_PORT if board.express else BridgeKind.PCI_BRIDGE
    for number in range(1, max([*known, *(place.bus for place in named)]) + 1):
        known.setdefault(number, Bus(number, presumed))
    return list(known.values())


def _enough(board: Board, known: Sequence[Bus], named: Sequence[Place], wants: Sequence[Want]) -> list[Bus]:
    """The controllers needed for *wants* on a board with PCI Express; new ones have no place yet."""
    dry = _State(board, known, set(named), grow=True)
    dry.settle(want for want in wants if want.first is not None)
    dry.settle(want for want in wants if want.first is None)
    return list(dry.buses.values())


@dataclass
class _State:
    """Slots given away so far, in one pass."""

    board: Board
    start: Iterable[Bus]
    used: set[Place]
    grow: bool = False
    """A dry run: controllers are added where room is missing, and only whole slots behind them are counted."""
    buses: dict[int, Bus] = field(init=False)
    """By index, and in that order."""
    answers: dict[str, Place] = field(default_factory=dict)
    slots: set[tuple[int, int]] = field(init=False)
    """(bus, slot) of every place in *used*."""

    def __post_init__(self) -> None:
        self.buses = {bus.index: bus for bus in sorted(self.start, key=lambda bus: bus.index)}
        self.used |= {bus.place for bus in self.buses.values() if bus.place is not None}
        self.slots = {(place.bus, place.slot) for place in self.used}

    def _use(self, place: Place) -> None:
        self.used.add(place)
        self.slots.add((place.bus, place.slot))

    def settle(self, wants: Iterable[Want]) -> None:
        """Give each want its place."""
        for want in wants:
            place = want.first if want.first is not None and self._free(want.first.bus, want.first.slot) else None
            if place is None:
                place = self._slot_of(want)
            self._use(place)
            self.answers[want.key] = place

    def _slot_of(self, want: Want) -> Place:
        try:
            return self._slot(Plug.ENDPOINT if want.plug is Plug.ROOT else want.plug)
        except NoRoom:
            raise NoRoom(want.key) from None

    def place_bridges(self) -> None:
        """Controllers that have no place get one, in the order of their numbers."""
        for bus in tuple(self.buses.values()):
            if bus.index == 0 or bus.place is not None:
                continue
            if bus.kind is BridgeKind.ROOT_PORT:
                self._place_port(bus)
            else:
                self._put(bus, self._slot(Plug.ENDPOINT if self.board.express else Plug.LEGACY, below=bus.index))

    def spare(self) -> None:
        """One free root port more, for hotplug."""
        self._place_port(self._new(BridgeKind.ROOT_PORT))

    def _put(self, bus: Bus, place: Place, *, multifunction: bool = False) -> None:
        self._use(place)
        self.buses[bus.index] = Bus(bus.index, bus.kind, place, multifunction)

    def _place_port(self, bus: Bus) -> None:
        """Root ports share slots of the root bus, eight to a slot."""
        ports = {port.place: port for port in self.buses.values() if port.kind is BridgeKind.ROOT_PORT and port.place}
        for place, port in sorted(ports.items()):
            if place.function or place.bus or not port.multifunction:
                continue
            mates = [other for other in self.used if (other.bus, other.slot) == (0, place.slot)]
            free = [n for n in range(8) if Place(0, place.slot, n) not in mates]
            if free and all(mate in ports for mate in mates):
                self._put(bus, Place(0, place.slot, free[0]))
                return
        self._put(bus, Place(0, self._root_slot()), multifunction=True)

    def _root_slot(self) -> int:
        for slot in self.buses[0].kind.slots:
            if self._free(0, slot):
                return slot
        raise NoRoom

    def _free(self, bus: int, slot: int) -> bool:
        return (bus, slot) not in self.slots and not (bus == 0 and slot in _FIXED[self.board])

    def _slot(self, plug: Plug, *, below: int | None = None) -> Place:
        if not self.board.express:
            plug = Plug.LEGACY
        for index, bus in self.buses.items():
            if bus.kind.takes is not plug or index == below:
                continue
            for slot in bus.kind.slots:
                if self._free(index, slot):
                    return Place(index, slot)
        if not self.grow:
            raise NoRoom
        return self._grown(plug)

    def _grown(self, plug: Plug) -> Place:
        if plug is Plug.ENDPOINT:
            return Place(self._new(BridgeKind.ROOT_PORT).index, 0)
        self._use(self._slot(Plug.ENDPOINT))
        return Place(self._new(BridgeKind.TO_PCI).index, 1)

    def _new(self, kind: BridgeKind) -> Bus:
        bus = Bus(max(self.buses) + 1, kind)
        self.buses[bus.index] = bus
        return bus
