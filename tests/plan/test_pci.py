"""PCI slots: nothing twice, nothing moves, and libvirt's own layout."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.errors import XmlError
from virlet.plan.pci import Board, BridgeKind, Bus, Layout, NoRoom, Place, Plug, Want, lay_out

BOARDS = st.sampled_from(list(Board))


@st.composite
def wants(draw: st.DrawFn) -> list[Want]:
    plugs = draw(st.lists(st.sampled_from([Plug.ENDPOINT, Plug.LEGACY]), max_size=20))
    return [Want(f"d{n}", plug) for n, plug in enumerate(plugs)]


def _everywhere(layout: Layout) -> list[Place]:
    return [bus.place for bus in layout.buses if bus.place is not None] + list(layout.places.values())


@given(BOARDS, wants())
def test_every_want_has_a_place_of_its_own_on_a_bus_that_exists(board: Board, asked: list[Want]) -> None:
    layout = lay_out(board, [], [], asked)
    assert set(layout.places) == {want.key for want in asked}
    everywhere = _everywhere(layout)
    assert len(set(everywhere)) == len(everywhere)
    buses = {bus.index for bus in layout.buses}
    assert all(place.bus in buses for place in everywhere)
    assert sorted(buses) == list(range(len(buses)))


@given(st.sampled_from([Board.Q35, Board.VIRT]), wants())
def test_a_device_is_alone_behind_a_root_port_or_with_its_like_behind_a_bridge(board: Board, asked: list[Want]) -> None:
    layout = lay_out(board, [], [], asked)
    kinds = {bus.index: bus.kind for bus in layout.buses}
    for want in asked:
        behind = BridgeKind.ROOT_PORT if want.plug is Plug.ENDPOINT else BridgeKind.TO_PCI
        assert kinds[layout.places[want.key].bus] is behind


@given(BOARDS, wants())
def test_asking_again_with_the_answer_changes_nothing(board: Board, asked: list[Want]) -> None:
    first = lay_out(board, [], [], asked)
    again = lay_out(board, first.buses, list(first.places.values()), [])
    assert again.buses == first.buses
    assert again.places == {}


@given(BOARDS, wants(), wants())
def test_a_new_device_moves_no_other(board: Board, asked: list[Want], more: list[Want]) -> None:
    first = lay_out(board, [], [], asked)
    if len(asked) + len(more) > 25 and board is Board.PC:
        return
    later = lay_out(board, first.buses, list(first.places.values()), [Want(f"n{w.key}", w.plug) for w in more])
    assert {bus.index: bus.place for bus in first.buses}.items() <= {
        bus.index: bus.place for bus in later.buses
    }.items()
    assert not set(later.places.values()) & set(first.places.values())


@given(wants())
def test_one_root_port_is_kept_free_for_hotplug(asked: list[Want]) -> None:
    layout = lay_out(Board.Q35, [], [], asked)
    if asked:
        used = {place.bus for place in _everywhere(layout)}
        free = [bus for bus in layout.buses if bus.kind is BridgeKind.ROOT_PORT and bus.index not in used]
        assert len(free) == 1


def test_the_layout_of_a_q35_guest_is_libvirts() -> None:
    """Measured with libvirt 12.8: the video card, two express cards, two conventional ones, a disk."""
    asked = [
        Want("video", Plug.ROOT, Place(0, 1)),
        Want("net0", Plug.ENDPOINT),
        Want("net1", Plug.ENDPOINT),
        Want("net2", Plug.LEGACY),
        Want("net3", Plug.LEGACY),
        Want("disk", Plug.ENDPOINT),
    ]
    layout = lay_out(Board.Q35, [], [Place(0, 0x1F, 2)], asked)
    assert {key: str(place) for key, place in layout.places.items()} == {
        "video": "0000:00:01.0",
        "net0": "0000:02:00.0",
        "net1": "0000:03:00.0",
        "net2": "0000:04:01.0",
        "net3": "0000:04:02.0",
        "disk": "0000:05:00.0",
    }
    assert [(bus.kind.value, str(bus.place)) for bus in layout.buses[1:]] == [
        ("pcie-root-port", "0000:00:02.0"),
        ("pcie-root-port", "0000:00:02.1"),
        ("pcie-root-port", "0000:00:02.2"),
        ("pcie-to-pci-bridge", "0000:01:00.0"),
        ("pcie-root-port", "0000:00:02.3"),
        ("pcie-root-port", "0000:00:02.4"),
    ]


def test_a_bus_that_an_address_presumes_is_made() -> None:
    layout = lay_out(Board.Q35, [], [Place(3, 0)], [])
    assert [bus.kind for bus in layout.buses] == [BridgeKind.PCIE_ROOT] + 3 * [BridgeKind.ROOT_PORT]


def test_a_place_that_is_named_twice_is_refused_with_libvirts_words() -> None:
    with pytest.raises(XmlError, match=r"Attempted double use of PCI Address 0000:01:00\.0"):
        lay_out(Board.Q35, [Bus(1, BridgeKind.ROOT_PORT)], [Place(1, 0), Place(1, 0)], [])


@pytest.mark.parametrize(("devices", "bridges"), [(30, 0), (31, 1), (60, 1), (61, 2), (90, 2), (91, 3), (270, 8)])
def test_a_full_bus_of_pc_gets_as_many_bridges_as_are_needed(devices: int, bridges: int) -> None:
    layout = lay_out(Board.PC, [], [], [Want(str(n), Plug.LEGACY) for n in range(devices)])
    added = layout.buses[1:]
    assert [bus.kind for bus in added] == bridges * [BridgeKind.PCI_BRIDGE]
    places = [*layout.places.values(), *(bus.place for bus in added)]
    assert len(set(places)) == devices + bridges
    again = lay_out(Board.PC, layout.buses, list(layout.places.values()), [])
    assert again.buses == layout.buses


def test_who_finds_no_room_is_named() -> None:
    with pytest.raises(NoRoom, match="No more available PCI slots") as caught:
        lay_out(Board.PC, [], [], [Want(str(n), Plug.LEGACY) for n in range(271)])
    assert caught.value.key == "270"
