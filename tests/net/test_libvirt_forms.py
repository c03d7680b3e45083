"""The cards and netdevs of libvirt, member for member and in its order, for every type that needs no privilege.

What differs on purpose is in docs/network.md; here QEMU's own user network stands for it, which libvirt uses, too.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virlet.enums import ErrorCode
from virlet.errors import BadConfig
from virlet.model.domain import format_domain, parse_domain
from virlet.net.choose import Registry, registry
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import GuestDirs, NetPlan, render, render_json
from virlet.plan.launch import plan_launch
from virlet.testing.scene import example_facts, recorded_qemu

RECORDED = Path(__file__).parents[1] / "plan/facts/qemu-11.1.json"
DIRS = GuestDirs(Path("/run/v/1"), Path("/logs/1"), Path("/state/1"))
LIBVIRTS = Registry(
    tuple(each for each in registry().backends if each.name not in ("passt-vhost-user", "slirp-helper"))
)
MAC = "52:54:00:0a:0b:0c"
PLACE = "<address type='pci' domain='0x0000' bus='0x00' slot='0x07' function='0x0'/>"


def nets(interfaces: str, *, passt: bool = False) -> tuple[tuple[NetPlan, ...], str]:
    """The plans of *interfaces* on a pc, and the ``<interface>`` elements of the inactive XML."""
    facts = example_facts(qemu=recorded_qemu(json.loads(RECORDED.read_text())))
    facts = replace(facts, host=replace(facts.host, unprivileged_port_start=0))
    facts = facts if passt else replace(facts, passt=None)
    domain, _ = parse_domain(
        "<domain type='qemu'><name>n</name><memory unit='MiB'>64</memory><memoryBacking><source type='memfd'/>"
        "<access mode='shared'/></memoryBacking><os><type arch='x86_64' machine='pc'>hvm</type></os>"
        f"<devices>{interfaces}</devices></domain>"
    )
    domain = assign_defaults(domain, next(iter(facts.qemu.values())))
    plan = plan_launch(assign_aliases(domain, DIRS), facts, DIRS, LIBVIRTS)
    return plan.nets, format_domain(domain, inactive=True)


def number(_source: object) -> str:
    return "3"


def members(value: Any) -> list[tuple[str, object]]:
    rendered = render_json(value, number)
    assert isinstance(rendered, dict)
    return list(rendered.items())


def card(driver: str = "rtl8139", **more: object) -> dict[str, object]:
    return {
        "driver": driver,
        **more,
        "netdev": "hostnet0",
        "id": "net0",
        "mac": MAC,
        "bus": "pci.0",
        "addr": "0x7",
    }


OFFLOADS = ("csum", "gso", "host_tso4", "host_tso6", "host_ecn", "host_ufo", "mrg_rxbuf")
OFFLOADS_GUEST = ("guest_csum", "guest_tso4", "guest_tso6", "guest_ecn", "guest_ufo")
VIRTIO = "<model type='virtio'/>"

CASES = {
    "user": ("user", "", {"type": "user"}, card()),
    "user-model": ("user", "<model type='e1000e'/>", {"type": "user"}, card("e1000e")),
    "user-virtio": ("user", VIRTIO, {"type": "user"}, card("virtio-net-pci")),
    "user-address": (
        "user",
        "<ip address='172.30.5.0' family='ipv4' prefix='26'/><ip address='2001:db8:5::' family='ipv6' prefix='64'/>",
        {"type": "user", "net": "172.30.5.0/26", "ipv6-prefix": "2001:db8:5::", "ipv6-prefixlen": 64},
        card(),
    ),
    "user-txmode": (
        "user",
        f"{VIRTIO}<driver txmode='timer'/>",
        {"type": "user"},
        card("virtio-net-pci", tx="timer"),
    ),
    "user-iothread": (
        "user",
        f"{VIRTIO}<driver txmode='iothread'/>",
        {"type": "user"},
        card("virtio-net-pci", tx="bh"),
    ),
    "user-offloads": (
        "user",
        f"{VIRTIO}<driver><host csum='off' gso='off' tso4='off' tso6='off' ecn='off' ufo='off' mrg_rxbuf='off'/>"
        "<guest csum='off' tso4='off' tso6='off' ecn='off' ufo='off'/></driver>",
        {"type": "user"},
        card("virtio-net-pci", **dict.fromkeys((*OFFLOADS, *OFFLOADS_GUEST), False)),
    ),
    "user-boot-rom": (
        "user",
        "<boot order='1'/><rom bar='on' file='/rom'/>",
        {"type": "user"},
        {
            **{name: card()[name] for name in ("driver", "netdev", "id", "mac")},
            "bootindex": 1,
            "bus": "pci.0",
            "addr": "0x7",
            "rombar": 1,
            "romfile": "/rom",
        },
    ),
    "internal": ("internal", "<source name='x'/>", {"type": "user"}, card()),
    "server": (
        "server",
        "<source address='192.0.2.1' port='5600'/>",
        {"type": "socket", "listen": "192.0.2.1:5600"},
        card(),
    ),
    "server-any": ("server", "<source port='5600'/>", {"type": "socket", "listen": ":5600"}, card()),
    "client": (
        "client",
        "<source address='192.0.2.1' port='5600'/>",
        {"type": "socket", "connect": "192.0.2.1:5600"},
        card(),
    ),
    "mcast": (
        "mcast",
        "<source address='239.192.0.9' port='5600'/>",
        {"type": "socket", "mcast": "239.192.0.9:5600"},
        card(),
    ),
    "udp": (
        "udp",
        "<source address='192.0.2.1' port='5600'><local address='192.0.2.2' port='5601'/></source>",
        {"type": "socket", "udp": "192.0.2.1:5600", "localaddr": "192.0.2.2:5601"},
        card(),
    ),
    "ethernet": ("ethernet", "<target dev='tap0' managed='no'/>", {"type": "tap", "fd": "3"}, card()),
    "vhostuser": (
        "vhostuser",
        f"<source type='unix' path='/run/sw.sock' mode='client'/>{VIRTIO}",
        {"type": "vhost-user", "chardev": "charnet0"},
        card("virtio-net-pci"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_card_and_netdev_are_libvirts_and_the_definition_says_what_was_said(name: str) -> None:
    kind, inside, netdev, device = CASES[name]
    (net,), xml = nets(f"<interface type='{kind}'><mac address='{MAC}'/>{inside}{PLACE}</interface>")
    assert members(net.netdev) == list({**netdev, "id": "hostnet0"}.items())
    assert members(net.device) == list(device.items())
    printed = "".join(line.strip() for line in xml.splitlines())
    said = inside if "<model" in inside else inside + "<model type='rtl8139'/>"
    for element in said.replace("><", ">\n<").splitlines():
        if not element.startswith(("<driver>", "<model")):
            assert element in printed, printed
    assert f"<mac address='{MAC}'/>" in printed
    assert PLACE in printed


def test_two_cards_take_the_next_slots_and_a_link_that_is_down_is_no_member() -> None:
    two = "".join(
        f"<interface type='user'><mac address='52:54:00:00:00:0{n}'/>{VIRTIO}<link state='{state}'/></interface>"
        for n, state in enumerate(("up", "down"))
    )
    plans, xml = nets(two)
    assert [(plan.device["id"], plan.device["addr"], plan.link_up) for plan in plans] == [
        ("net0", "0x2", True),
        ("net1", "0x3", False),
    ]
    assert xml.count("<link state=") == 2


PASST = """<interface type='user'><mac address='52:54:00:0a:0b:0c'/>
  <source dev='eth0'/>
  <ip address='172.30.5.9' family='ipv4' prefix='24'/>
  <ip address='2001:db8:5::9' family='ipv6'/>
  <route gateway='172.30.5.1'/>
  <portForward proto='tcp' address='2001:db8:7::7'>
    <range start='2022' to='22'/>
    <range start='3000' end='3050'/>
    <range start='3020' exclude='yes'/>
    <range start='3030' end='3040' exclude='yes'/>
  </portForward>
  <portForward proto='udp' address='192.0.2.9' dev='eth0'>
    <range start='5000' end='5020' to='6000'/>
    <range start='5010' end='5015' exclude='yes'/>
  </portForward>
  <portForward proto='tcp'><range start='80'/></portForward>
  <portForward proto='tcp'><range start='443' to='344'/></portForward>
  <model type='rtl8139'/>
  <backend type='passt' logFile='/var/log/p.log' hostname='h' fqdn='h.example.org'/>
  %s
</interface>"""


def test_passt_is_told_what_libvirt_tells_it_but_for_who_connects() -> None:
    (net,), xml = nets(PASST % PLACE, passt=True)
    assert net.helper is not None
    assert render(net.helper.argv, number) == [
        *("/usr/bin/passt", "--foreground", "--fd", "3", "--interface", "eth0", "--hostname", "h"),
        *("--fqdn", "h.example.org", "--address", "172.30.5.9", "--netmask", "24", "--address", "2001:db8:5::9"),
        *("--gateway", "172.30.5.1"),
        *("--tcp-ports", "2001:db8:7::7/2022:22,3000-3050,~3020,~3030-3040"),
        *("--udp-ports", "192.0.2.9%eth0/5000-5020:6000-6020,~5010-5015"),
        *("--tcp-ports", "80", "--tcp-ports", "443:344"),
    ]
    assert members(net.device) == list(card().items())
    assert members(net.netdev)[0] == ("type", "stream")
    for line in PASST.splitlines()[1:-2]:
        assert "".join(line.split()) in "".join(xml.split()), line


@pytest.mark.parametrize(
    ("interface", "code", "said"),
    [
        ("type='user'><ip address='10.1.2.3' prefix='3'/>", ErrorCode.XML_ERROR, "4-27"),
        ("type='user'><ip address='2001:db8::' prefix='60'/>", ErrorCode.CONFIG_UNSUPPORTED, "must be 64"),
        ("type='user'><route gateway='10.0.2.2'/>", ErrorCode.CONFIG_UNSUPPORTED, "IP route"),
        ("type='user'><mtu size='9000'/>", ErrorCode.CONFIG_UNSUPPORTED, "setting MTU"),
        ("type='ethernet'><backend type='passt'/>", ErrorCode.CONFIG_UNSUPPORTED, "can only be used with"),
        ("type='udp'><source address='192.0.2.1' port='1'/>", ErrorCode.XML_ERROR, "<local>"),
        ("type='bridge'>", ErrorCode.XML_ERROR, "'source'"),
        ("type='vhostuser'><model type='e1000'/><source path='/s'/>", ErrorCode.CONFIG_UNSUPPORTED, "virtio"),
        ("type='null'><vlan><tag id='3'/></vlan>", ErrorCode.CONFIG_UNSUPPORTED, "vlan"),
        ("type='user'><link state='loose'/>", ErrorCode.CONFIG_UNSUPPORTED, "unknown interface link state"),
        ("type='direct'><source dev='eth0' mode='bridge'/>", ErrorCode.SYSTEM_ERROR, "needs root"),
    ],
)
def test_what_libvirt_refuses_is_refused_with_its_code(interface: str, code: ErrorCode, said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        nets(f"<interface {interface}</interface>", passt=True)
    assert caught.value.code == code
    assert said in str(caught.value)
