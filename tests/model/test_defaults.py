from __future__ import annotations

from uuid import UUID

import pytest

from virlet.model.defaults import mirror_console
from virlet.model.disk import DiskBus
from virlet.model.domain import Domain, format_domain, parse_device, parse_domain, parse_interface
from virlet.model.fresh import RandomFresh
from virlet.model.interface import Family, InterfaceSource
from virlet.model.machine import BootDevice


class Known:
    """Names that a test can foresee."""

    def uuid(self) -> UUID:
        return UUID(int=1)

    def mac(self) -> str:
        return "52:54:00:00:00:01"


def _domain(devices: str = "", more: str = "", os: str = "", live: bool = False) -> Domain:
    text = (
        f"<domain type='kvm'><name>x</name><memory>9</memory>{more}<os><type>hvm</type>{os}</os>"
        f"<devices>{devices}</devices></domain>"
    )
    return parse_domain(text, fresh=Known(), live=live)[0]


def test_what_a_definition_implies_is_said() -> None:
    domain = _domain("<interface/>")
    assert domain.uuid == UUID(int=1)
    assert domain.devices.interfaces[0].mac == "52:54:00:00:00:01"
    assert domain.devices.interfaces[0].model == "rtl8139"
    assert (domain.current_memory, domain.os.boot) == (9, (BootDevice.HD,))
    assert "<on_reboot>restart</on_reboot>" in format_domain(domain)


def test_defaults_are_settled_once() -> None:
    domain = _domain("<interface/><serial/><graphics type='vnc'/><disk><source file='/x'/><target dev='hda'/></disk>")
    assert parse_domain(format_domain(domain, inactive=True))[0] == domain


def test_more_than_all_memory_is_all_memory() -> None:
    assert _domain(more="<currentMemory>99</currentMemory>").current_memory == 9


def test_an_order_of_devices_replaces_the_boot_list() -> None:
    assert _domain("<interface><boot order='1'/></interface>").os.boot == ()
    assert _domain(os="<boot dev='network'/>").os.boot == (BootDevice.NETWORK,)


@pytest.mark.parametrize(
    ("name", "bus"), [("vda", DiskBus.VIRTIO), ("hdb", DiskBus.IDE), ("sda", DiskBus.SCSI), ("fda", DiskBus.FDC)]
)
def test_the_bus_of_a_disk_follows_from_its_name(name: str, bus: DiskBus) -> None:
    disk = _domain(f"<disk><source file='/x'/><target dev='{name}'/></disk>").devices.disks[0]
    assert disk.bus is bus
    assert disk.driver is not None
    assert (disk.driver.name, disk.driver.type) == ("qemu", "raw")


def test_a_cdrom_is_read_only() -> None:
    assert _domain("<disk device='cdrom'><target dev='sda' bus='sata'/></disk>").devices.disks[0].readonly


def test_a_console_and_the_first_serial_port_are_one() -> None:
    for devices in ("<console type='pty'/>", "<serial type='pty'/>"):
        found = _domain(devices).devices
        assert (len(found.consoles), len(found.serials)) == (1, 1)
        assert found.consoles[0].target is not None
        assert (found.consoles[0].target.type, found.consoles[0].target.port) == ("serial", 0)
    live = _domain(
        "<serial type='pty'><source path='/dev/pts/9'/><alias name='serial0'/></serial><console type='pty'/>", live=True
    ).devices
    assert (live.consoles[0].tty, live.consoles[0].alias) == ("/dev/pts/9", "serial0")
    assert mirror_console(live) == live


def test_serial_ports_without_a_number_get_the_next_free_one() -> None:
    serials = _domain("<serial/><serial><target port='0'/></serial><serial/>").devices.serials
    assert [serial.target.port for serial in serials if serial.target is not None] == [1, 0, 2]


@pytest.mark.parametrize(
    ("given", "printed"),
    [
        ("<graphics type='vnc'/>", "<graphics type='vnc' port='-1' autoport='yes'>"),
        ("<graphics type='vnc' port='5901'/>", "<graphics type='vnc' port='5901' autoport='no'>"),
        ("<graphics type='vnc' port='5901' autoport='yes'/>", "<graphics type='vnc' port='-1' autoport='yes'>"),
        (
            "<graphics type='vnc' port='5901' listen='::1'/>",
            "<graphics type='vnc' port='5901' autoport='no' listen='::1'>",
        ),
        ("<graphics type='vnc' socket='/s'/>", "<listen type='socket' socket='/s'/>"),
        ("<graphics type='vnc'><listen type='none'/></graphics>", "<listen type='none'/>"),
    ],
)
def test_displays_say_the_same_in_both_forms(given: str, printed: str) -> None:
    assert printed in format_domain(_domain(given), inactive=True)


def test_passwords_are_shown_on_request_only() -> None:
    domain = _domain("<graphics type='vnc' passwd='sekrit'/>")
    assert "sekrit" not in format_domain(domain)
    assert "sekrit" in format_domain(domain, secure=True)


def test_one_video_card_is_primary() -> None:
    videos = _domain("<video><model type='vga'/></video><video><model type='qxl'/></video>").devices.videos
    assert [video.model.primary for video in videos if video.model is not None] == [True, None]
    assert _domain("<video><model type='none'/></video>").devices.videos[0].model is not None


def test_upstream_is_the_source_device() -> None:
    nic, source = parse_interface("<interface type='user'><backend type='passt' upstream='eth0'/></interface>")
    assert nic.source == InterfaceSource(dev="eth0")
    assert nic.backend is not None
    assert nic.backend.upstream is None
    assert source.unknown == ()


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("<interface><mac address='00:00:00:00:00:00'/></interface>", "mac", "52:54:00:00:00:01"),
        ("<interface><model type='E1000'/></interface>", "model", "e1000"),
        ("<interface><model type='bogus'/></interface>", "model", "bogus"),
        ("<interface type='vhostuser'><source path='/x'/></interface>", "model", "virtio"),
        ("<interface><mtu size='0'/></interface>", "mtu", None),
        ("<interface managed='yes'/>", "managed", None),
        ("<interface><target dev='vnet4'/></interface>", "target", None),
        ("<interface type='ethernet'><target dev='vnet4' managed='no'/></interface>", "target", "vnet4"),
        ("<interface><target dev='mine'/></interface>", "target", "mine"),
        ("<interface><alias name='net0'/></interface>", "alias", None),
        ("<interface><alias name='ua-x'/></interface>", "alias", "ua-x"),
        ("<interface><source dev='eth0' path='/x'/></interface>", "source", InterfaceSource(dev="eth0")),
        ("<interface><driver queues='4'/></interface>", "driver", None),
        ("<interface><model type='virtio'/><driver queues='1'/></interface>", "driver", None),
        ("<interface><backend type='default'/></interface>", "backend", None),
        ("<interface><bandwidth/></interface>", "bandwidth", None),
        ("<interface><teaming/></interface>", "teaming", None),
        (
            "<interface type='vhostuser'><source path='/x'/></interface>",
            "source",
            InterfaceSource(type="unix", path="/x", mode="client"),
        ),
        (
            "<interface type='vhostuser'><backend type='passt'/><source path='/x' dev='e'/></interface>",
            "source",
            InterfaceSource(dev="e"),
        ),
    ],
)
def test_interfaces_are_kept_as_libvirt_keeps_them(text: str, field: str, value: object) -> None:
    nic, _ = parse_interface(text, fresh=Known())
    assert getattr(nic, field) == value


def test_who_names_a_filter_or_a_host_device_does_not_lose_it_in_silence() -> None:
    nic, source = parse_interface("<interface><source dev='eth0'/><filterref filter='x'/></interface>")
    assert nic.source == InterfaceSource(dev="eth0")
    assert nic.filterref is not None
    assert source.dropped == ()


def test_the_family_follows_from_the_address() -> None:
    nic, _ = parse_interface("<interface><ip address='10.0.2.15'/><ip address='fec0::15'/></interface>")
    assert [ip.family for ip in nic.ips] == [Family.IPV4, Family.IPV6]


def test_what_is_left_out_is_told() -> None:
    text = (
        "<domain type='qemu'><name>x</name><memory>1</memory><os><type>hvm</type></os><devices>\n"
        "<interface type='user'>\n<source path='/x'/>\n<driver queues='4'/></interface></devices></domain>"
    )
    _, source = parse_domain(text)
    assert [(one.path, one.line) for one in source.dropped] == [
        ("devices/interface[1]/source/@path", 3),
        ("devices/interface[1]/driver/@queues", 4),
    ]


def test_one_queue_is_what_a_card_has_anyway() -> None:
    for model, said in (("virtio", 0), ("e1000", 1)):
        _, source = parse_device(f"<interface><model type='{model}'/><driver queues='1'/></interface>")
        assert len(source.dropped) == said


def test_random_names_have_the_right_form() -> None:
    fresh = RandomFresh()
    assert fresh.mac().startswith("52:54:00:")
    assert len(fresh.mac()) == 17
    assert fresh.uuid() != fresh.uuid()
