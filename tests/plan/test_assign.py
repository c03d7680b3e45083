"""Definitions filled in: nothing is left open, nothing moves, nothing is used twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.errors import ConfigUnsupported, InternalError
from virlet.model.address import PciAddress, UsbAddress
from virlet.model.domain import Domain, format_domain, parse_domain
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import GuestDirs
from virlet.plan.facts import Facts, MachineType, QemuFacts

QEMU = QemuFacts(
    path="/usr/bin/qemu-system-x86_64",
    arch="x86_64",
    version=(7, 2, 0),
    machines={
        "pc-i440fx-7.2": MachineType("pc-i440fx-7.2", 255, alias="pc", default=True, default_cpu="qemu64-x86_64-cpu"),
        "pc-q35-7.2": MachineType("pc-q35-7.2", 288, alias="q35", default_cpu="qemu64-x86_64-cpu"),
    },
)
PIECES = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>",
    "<interface type='user'><mac address='52:54:00:00:00:02'/><model type='rtl8139'/></interface>",
    "<interface type='user'><mac address='52:54:00:00:00:03'/><model type='usb-net'/></interface>",
    "<disk><source file='/d'/><target dev='vd{n}'/></disk>",
    "<disk><source file='/d'/><target dev='sd{n}' bus='scsi'/></disk>",
    "<disk device='cdrom'><target dev='sd{n}' bus='sata'/></disk>",
    "<disk><source file='/d'/><target dev='sd{n}' bus='usb'/></disk>",
    "<input type='tablet' bus='usb'/>",
    "<input type='keyboard' bus='virtio'/>",
    "<rng model='virtio'><backend model='builtin'/></rng>",
    "<serial type='pty'/>",
    "<console type='pty'><target type='virtio'/></console>",
    "<channel type='unix'><target type='virtio' name='c{n}'/></channel>",
    "<watchdog model='i6300esb'/>",
    "<graphics type='vnc'/>",
    "<video><model type='virtio'/></video>",
)
devices = st.lists(st.sampled_from(PIECES), max_size=8)


def text_of(pieces: list[str], machine: str = "q35") -> str:
    inside = "".join(piece.replace("{n}", "abcdefgh"[n % 8]) for n, piece in enumerate(pieces))
    return (
        "<domain type='qemu'><name>d</name><uuid>11111111-1111-4111-8111-111111111111</uuid><memory>65536</memory>"
        f"<os><type machine='{machine}'>hvm</type></os><devices>{inside}</devices></domain>"
    )


def defined(text: str) -> Domain | None:
    """The stored domain, or None where the devices do not fit on their buses."""
    try:
        return assign_defaults(parse_domain(text)[0], QEMU)
    except InternalError as error:
        if "USB ports" not in error.detail:
            raise
        return None


def _devices(domain: Domain) -> Iterator[object]:
    found = domain.devices
    yield from (*found.disks, *found.controllers, *found.interfaces, *found.serials, *found.inputs, *found.videos)
    yield from (*found.watchdogs, *found.rngs, *found.channels)
    if found.memballoon is not None:
        yield found.memballoon


def places(domain: Domain) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    for device in _devices(domain):
        match getattr(device, "address", None):
            case PciAddress() as pci:
                found.append(("pci", pci.bus, pci.slot, pci.function))
            case UsbAddress() as usb:
                found.append(("usb", usb.bus, usb.port))
    return found


@settings(max_examples=60)
@given(devices, st.sampled_from(["pc", "q35"]))
def test_defining_again_what_was_printed_changes_nothing(pieces: list[str], machine: str) -> None:
    domain = defined(text_of(pieces, machine))
    if domain is not None:
        printed = format_domain(domain, inactive=True)
        again = defined(printed)
        assert again == domain
        assert again is not None
        assert format_domain(again, inactive=True) == printed


@settings(max_examples=60)
@given(devices, st.sampled_from(["pc", "q35"]))
def test_no_address_is_used_twice(pieces: list[str], machine: str) -> None:
    domain = defined(text_of(pieces, machine))
    if domain is not None:
        found = places(domain)
        assert len(set(found)) == len(found)


@settings(max_examples=60)
@given(devices, st.sampled_from(PIECES[:2]), st.sampled_from(["pc", "q35"]))
def test_a_device_more_moves_no_other(pieces: list[str], more: str, machine: str) -> None:
    before = defined(text_of(pieces, machine))
    if before is None:
        return
    printed = format_domain(before, inactive=True)
    card = more.replace("00:00:00", "00:00:99")
    after = defined(printed.replace("</devices>", card + "</devices>"))
    assert after is not None
    # A controller may have been added, and one that was free may now be used; nobody else's place changes.
    assert set(places(before)) <= set(places(after))
    assert after.devices.interfaces[: len(before.devices.interfaces)] == before.devices.interfaces
    assert after.devices.disks == before.devices.disks


@settings(max_examples=40)
@given(devices, st.sampled_from(["pc", "q35"]))
def test_aliases_are_unique_and_naming_again_changes_nothing(pieces: list[str], machine: str) -> None:
    domain = defined(text_of(pieces, machine))
    if domain is None:
        return
    live = assign_aliases(domain)
    aliases = [getattr(device, "alias", None) for device in _devices(live)]
    assert None not in aliases
    assert len(set(aliases)) == len(aliases)
    assert assign_aliases(live) == live


def test_the_versioned_machine_type_is_written_down(facts: Facts) -> None:
    qemu = next(iter(facts.qemu.values()))
    text = text_of([]).replace(" machine='q35'", "")
    domain = assign_defaults(parse_domain(text)[0], qemu)
    assert domain.os.machine is not None
    assert domain.os.machine.startswith("pc-i440fx-")
    assert domain.os.arch == "x86_64"


def test_a_machine_type_that_is_unknown_stays_for_the_check_to_name() -> None:
    domain = defined(text_of([], "nonsense"))
    assert domain is not None
    assert domain.os.machine == "nonsense"


def test_a_serial_port_and_the_first_console_are_one() -> None:
    one = defined(text_of(["<serial type='pty'/>"]))
    other = defined(text_of(["<console type='pty'/>"]))
    assert one is not None
    assert other is not None
    for domain in (one, other):
        live = assign_aliases(domain)
        assert (live.devices.serials[0].alias, live.devices.consoles[0].alias) == ("serial0", "serial0")
        assert len(live.devices.consoles) == 1


def test_a_virtio_console_comes_after_the_first_serial_port() -> None:
    domain = defined(text_of(["<serial type='pty'/>", "<console type='pty'><target type='virtio'/></console>"]))
    assert domain is not None
    assert [console.target and console.target.type for console in domain.devices.consoles] == ["serial", "virtio"]


def test_a_channel_without_a_path_gets_a_socket_of_ours_in_the_live_form() -> None:
    domain = defined(text_of(["<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>"]))
    assert domain is not None
    live = assign_aliases(domain, GuestDirs(Path("/run/v/1"), Path("/l"), Path("/s")))
    source = live.devices.channels[0].source
    assert source is not None
    assert (source.mode, source.path) == ("bind", "/run/v/1/channel0.sock")
    assert domain.devices.channels[0].source is None


def test_a_usb_device_without_a_controller_is_refused_with_the_way_out() -> None:
    text = text_of(["<controller type='usb' model='none'/>", "<input type='tablet' bus='usb'/>"])
    with pytest.raises(ConfigUnsupported, match="needs a USB controller"):
        assign_defaults(parse_domain(text)[0], QEMU)


@pytest.mark.parametrize(
    ("said", "memory", "current"),
    [
        ("<memory unit='GB'>1</memory>", 976_896, 976_896),
        ("<memory>1</memory>", 1024, 1024),
        ("<memory>65537</memory><currentMemory>65535</currentMemory>", 66_560, 65_535),
        ("<memory unit='MiB'>64</memory>", 65_536, 65_536),
    ],
)
def test_a_guest_has_whole_mebibytes_of_memory(said: str, memory: int, current: int) -> None:
    text = text_of([]).replace("<memory>65536</memory>", said)
    stored = assign_defaults(parse_domain(text)[0], QEMU)
    live = assign_aliases(stored)
    assert (live.memory, live.current_memory) == (memory, current)
    assert assign_aliases(live) == live
