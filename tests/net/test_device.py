"""The card's JSON, member by member and in libvirt's order."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.net.device import card, driver_of

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]
ADDRESS = "<address type='pci' bus='0x01' slot='0x02' function='0x1'/>"


@pytest.mark.parametrize(
    ("model", "driver"),
    [
        ("virtio", "virtio-net-pci"),
        ("virtio-transitional", "virtio-net-pci-transitional"),
        ("virtio-non-transitional", "virtio-net-pci-non-transitional"),
        ("e1000e", "e1000e"),
        ("bogus", "bogus"),
    ],
)
def test_models_and_qemus_words_for_them(model: str, driver: str) -> None:
    assert driver_of(model) == driver


def test_every_member_in_order(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(
        "<model type='virtio'/><driver txmode='timer' ioeventfd='on' event_idx='off' queues='3' rx_queue_size='512' "
        "tx_queue_size='256' rss='on' rss_hash_report='off' iommu='on' ats='off' packed='on' page_per_vq='off'>"
        "<host csum='off' tso4='off' mrg_rxbuf='on'/><guest ufo='off'/></driver><mtu size='1400'/><boot order='3'/>"
        f"<teaming type='persistent'/><rom bar='on' file='/x'/><acpi index='5'/>{ADDRESS}",
        passt=True,
    )
    assert list(card(nic, env_of()).items()) == [
        ("driver", "virtio-net-pci"),
        ("iommu_platform", True),
        ("ats", False),
        ("packed", True),
        ("page-per-vq", False),
        ("tx", "timer"),
        ("ioeventfd", True),
        ("event_idx", False),
        ("csum", False),
        ("host_tso4", False),
        ("mrg_rxbuf", True),
        ("guest_ufo", False),
        ("mq", True),
        ("vectors", 8),
        ("rx_queue_size", 512),
        ("tx_queue_size", 256),
        ("rss", True),
        ("hash", False),
        ("host_mtu", 1400),
        ("failover", True),
        ("netdev", "hostnet0"),
        ("id", "net0"),
        ("mac", "52:54:00:12:34:56"),
        ("bootindex", 3),
        ("bus", "pci.1"),
        ("addr", "0x2.0x1"),
        ("rombar", 1),
        ("romfile", "/x"),
        ("acpi-index", 5),
    ]


def test_no_rom_at_all_is_an_empty_file(nic_of: NicOf, env_of: EnvOf) -> None:
    made = card(nic_of("<rom enabled='no'/>"), env_of())
    assert made["romfile"] == ""
    assert "rombar" not in made


def test_the_mtu_of_another_model_is_told_to_the_helper_alone(nic_of: NicOf, env_of: EnvOf) -> None:
    assert "host_mtu" not in card(nic_of("<mtu size='1400'/><model type='e1000'/>", passt=True), env_of())


def test_the_firmwares_order_counts_where_the_card_has_none_of_its_own(nic_of: NicOf, env_of: EnvOf) -> None:
    assert card(nic_of(), env_of(boot_index=2))["bootindex"] == 2
    assert card(nic_of("<boot order='4'/>"), env_of(boot_index=2))["bootindex"] == 4


def test_the_root_bus_has_the_boards_name_and_others_their_number(nic_of: NicOf, env_of: EnvOf) -> None:
    root = card(nic_of("<address type='pci' bus='0' slot='3'/>"), env_of())
    far = card(nic_of("<address type='pci' bus='0x09' slot='3'/>"), env_of())
    assert (root["bus"], far["bus"]) == ("pcie.0", "pci.9")


def test_a_usb_card_is_plugged_into_a_port(nic_of: NicOf, env_of: EnvOf) -> None:
    made = card(nic_of("<model type='usb-net'/><address type='usb' bus='1' port='2'/>"), env_of())
    assert (made["bus"], made["port"]) == ("usb1.0", "2")
