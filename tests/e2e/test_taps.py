"""Devices that root has prepared in a network namespace (script/netns), used by a daemon without any privilege."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import CMDLINE, domain
from guest import Console
from host_server import FAMILY, MEGABYTES, whole_each_way
from session import Session, console_of, session
from test_wires import pings, talk, wire

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(240)]

QUIET = f"{CMDLINE} virlet.nonet"
MAC = "52:54:00:77:00:01"
MACVTAP = "52:54:00:77:02:02"
"""The address that root gave vmac0."""
NETS = (0, 1, 2, 3)
"""10.77.N.0/24 and fd77:N::/64, on a tap, one with queues, a macvtap and a bridge."""
COUNTED = ("numqueues", "numdisabled", "usedbcqueuelen", "topology_change", "topology_change_detected")
PASSING = ("NO-CARRIER", "LOWER_UP")
"""Flags that say whether somebody has the device open."""


def nic(target: str, mac: str = MAC, more: str = "", model: str = "virtio", managed: str = " managed='no'") -> str:
    return (
        f"<interface type='ethernet'><mac address='{mac}'/><target dev='{target}'{managed}/><model type='{model}'/>"
        f"{more}</interface>"
    )


def bridge(name: str, mac: str = MAC) -> str:
    source = f"<source bridge='{name}'/>"
    return f"<interface type='bridge'><mac address='{mac}'/>{source}<model type='virtio'/></interface>"


def described(name: str) -> dict[str, Any]:
    """Everything that an administrator has set of a device, as iproute2 shows it."""
    said = subprocess.run(["ip", "-d", "-j", "link", "show", "dev", name], capture_output=True, text=True, check=True)
    (found,) = json.loads(said.stdout)
    found["flags"] = sorted(set(found["flags"]) - set(PASSING))
    for changing in ("operstate", "stats64", "qdisc", "tso_max_size"):
        found.pop(changing, None)
    info = found["linkinfo"].get("info_data", {})
    for counted in [name for name in info if name in COUNTED or name.endswith("_timer")]:
        del info[counted]
    addresses = subprocess.run(["ip", "-j", "address", "show", "dev", name], capture_output=True, text=True, check=True)
    found["addresses"] = [
        item["local"] for item in json.loads(addresses.stdout)[0]["addr_info"] if "." in item["local"]
    ]
    return dict(found)


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as made:
        made.start_daemon()
        yield made


@pytest.fixture(scope="module")
def refusing() -> Iterator[Session]:
    """One daemon for all that starts nothing."""
    with session() as made:
        made.start_daemon()
        yield made


def dressed(one: Session, *nets: int) -> Console:
    """The console of a guest whose cards have their addresses, 2 of each network; the host has 1."""
    console = console_of(one, "tapped")
    console.ready(90)
    dress(console, *nets)
    return console


def dress(console: Console, *nets: int) -> None:
    for net in nets:
        card = f"eth{net}"
        console.check(f"echo 0 >/proc/sys/net/ipv6/conf/{card}/accept_dad")  # Addresses without waiting for a rival.
        console.check(f"ip link set {card} up && ip address add 10.77.{net}.2/24 dev {card}")
        console.check(f"ip -6 address add fd77:{net}::2/64 dev {card}")


def works(console: Console, *nets: int) -> None:
    """Out and in, over both families."""
    for net in nets:
        for ours, guests in ((f"10.77.{net}.1", f"10.77.{net}.2"), (f"fd77:{net}::1", f"fd77:{net}::2")):
            assert pings(console, ours)
            assert banner(guests) == "SSH-2.0-virlet-guest"
            with socket.socket(FAMILY[6 if ":" in guests else 4], socket.SOCK_DGRAM) as sock:
                sock.settimeout(20)
                sock.sendto(b"ping", (guests, 7))
                assert sock.recv(100) == b"ping"


def banner(address: str) -> str:
    with socket.create_connection((address, 22), 20) as stream:
        stream.settimeout(20)
        stream.sendall(b"\n")
        return stream.makefile().readline().strip()


def test_a_guest_on_devices_of_roots_talks_through_each_and_leaves_them_as_they_were(one: Session) -> None:
    """A tap, one with queues, a macvtap and a port of a bridge, of one guest: booting costs more than talking."""
    before, links = [described(name) for name in ("vtap0", "vtap1", "vmac0")], sorted(os.listdir("/sys/class/net"))
    queues = nic("vtap1", "52:54:00:77:00:02", "<driver queues='2'/>")
    cards = (nic("vtap0"), queues, nic("vmac0", MACVTAP), bridge("vbr0", "52:54:00:77:00:03"))
    memory = f"{192 + 2 * MEGABYTES}</memory>"  # what is sent lies in a tmpfs, which has half of the memory
    one.define(domain("tapped", "".join(cards), cmdline=QUIET).replace("192</memory>", memory))
    one.virsh("start", "tapped")
    live = one.virsh("dumpxml", "tapped")
    for device in ("vtap0", "vtap1", "vmac0"):
        assert f"<target dev='{device}' managed='no'/>" in live
    console = dressed(one, *NETS)
    works(console, *NETS)
    for net in NETS:
        whole_each_way(console, 4, f"10.77.{net}.1", f"10.77.{net}.1")
        whole_each_way(console, 6, f"fd77:{net}::1", f"fd77:{net}::1")
    one.virsh("suspend", "tapped")
    one.virsh("resume", "tapped")
    works(console, *NETS)
    one.virsh("reset", "tapped")
    console.again(90)
    dress(console, *NETS)
    works(console, *NETS)
    one.virsh("reboot", "tapped")
    console.until("reboot: Power down", 60)  # the guest's last words: virletd resets it instead
    console.again(90)
    dress(console, *NETS)
    works(console, *NETS)
    one.virsh("destroy", "tapped")
    assert [described(name) for name in ("vtap0", "vtap1", "vmac0")] == before
    assert sorted(os.listdir("/sys/class/net")) == links


@pytest.mark.parametrize(("device", "mac"), [("vtap0", MAC), ("vmac0", MACVTAP)])
def test_a_card_that_is_not_virtios_gets_plain_frames(one: Session, device: str, mac: str) -> None:
    before = described(device)
    one.define(domain("tapped", nic(device, mac, model="e1000")))
    one.virsh("start", "tapped")
    assert described(device) == before
    one.virsh("destroy", "tapped")


def test_the_device_is_put_back_although_another_daemon_saw_the_end(one: Session) -> None:
    before = described("vtap0")
    one.define(domain("tapped", nic("vtap0"), cmdline=QUIET))
    one.virsh("start", "tapped")
    dressed(one, 0)
    one.stop_daemon()
    one.start_daemon()
    one.virsh("destroy", "tapped")
    assert described("vtap0") == before


def test_scripts_are_run_as_the_user_with_the_devices_name(one: Session) -> None:
    said = one.base / "said"
    script = one.base / "script"
    script.write_text(f'#!/bin/sh\necho "$(id -u) ${{0##*/}} $*" >> {said}\n')
    script.chmod(0o755)
    down = one.base / "down"
    down.symlink_to(script)
    one.define(domain("tapped", nic("vtap0", more=f"<script path='{script}'/><downscript path='{down}'/>")))
    one.virsh("start", "tapped")
    assert said.read_text() == f"{os.getuid()} script vtap0\n"
    one.virsh("destroy", "tapped")
    assert said.read_text().splitlines()[1:] == [f"{os.getuid()} down vtap0"]


@pytest.mark.usefixtures("leaks_allowed")
@pytest.mark.parametrize(
    ("xml", "said"),
    [
        (nic("vnone"), r"specified dev doesn't exist.*ip tuntap add dev vnone mode tap user \d+ vnet_hdr"),
        (nic("vother"), r"Unable to set tap device vother .*Operation not permitted.*ip tuntap add"),
        (nic("vdown"), r"vdown is down.*ip link set dev vdown up"),
        (nic("vtun"), r"vtun is a tun device"),
        (nic("veth0"), r"veth0 is a veth device.*type macvtap"),
        (nic("vbr0"), r"vbr0 is a bridge device.*type='bridge'"),
        (nic("vtap1"), r"created with multi_queue flag.*Invalid argument"),
        (nic("vtap0", more="<driver queues='2'/>"), r"without multi_queue flag.*Invalid argument.*multi_queue"),
        (nic("vmac0"), rf"has the address {MACVTAP}.*ip link set dev vmac0 address {MAC}"),
        (nic("vmac1", "52:54:00:77:02:03"), r"/dev/tap\d+ is not vmac1: a link of another network namespace"),
        (nic("vtap0", managed=""), r"The vtap0 interface already exists.*managed='no'"),
        (nic("vnew", managed=""), r"Unable to create tap device vnew: Operation not permitted.*ip tuntap add dev vnew"),
        (nic("vnew", managed="", model="e1000"), r"Operation not permitted"),
        (bridge("vbr9"), r"No such device.*ip link add vbr9 type bridge"),
        (bridge("vbr1"), r"failed to communicate with bridge helper.*acl.*echo 'allow vbr1'"),
        (bridge("vtap0"), r"no bridge"),
    ],
)
def test_what_would_carry_nothing_is_refused_with_the_command_that_helps(
    refusing: Session, xml: str, said: str
) -> None:
    links = sorted(os.listdir("/sys/class/net"))
    refusing.define(domain("tapped", xml))
    answer = " ".join(refusing.virsh("start", "tapped", check=False).split())
    state = refusing.virsh("domstate", "tapped")
    refusing.virsh("undefine", "tapped")
    assert re.search(said, answer), answer
    assert state == "shut off"
    assert refusing.helpers("qemu") == []
    assert sorted(os.listdir("/sys/class/net")) == links


def test_nobody_who_uses_a_device_of_roots_has_a_capability(one: Session) -> None:
    one.define(domain("tapped", nic("vtap0")))
    one.virsh("start", "tapped")
    (qemu,) = one.helpers("qemu")
    assert one.process is not None
    for pid in (one.process.pid, qemu):
        status = Path(f"/proc/{pid}/status").read_text()
        assert set(re.findall(r"^Uid:\s+(.*)$", status, re.MULTILINE)[0].split()) == {str(os.getuid())} != {"0"}
        assert re.findall(r"^Cap(Inh|Prm|Eff|Amb):\s0*([1-9a-f]+)$", status, re.MULTILINE) == []
    one.virsh("destroy", "tapped")


def test_a_tap_has_one_user_at_a_time(one: Session) -> None:
    one.define(domain("tapped", nic("vtap0")))
    one.virsh("start", "tapped")
    one.define(domain("second", nic("vtap0", "52:54:00:77:00:02")))
    answer = one.virsh("start", "second", check=False)
    assert "Device or resource busy" in answer, answer
    assert one.virsh("domstate", "tapped") == "running"
    one.virsh("destroy", "tapped")


def test_a_bridge_is_joined_by_the_helper_and_left(one: Session) -> None:
    links = sorted(os.listdir("/sys/class/net"))
    one.define(domain("tapped", bridge("vbr0")))
    one.virsh("start", "tapped")
    live = one.virsh("dumpxml", "tapped")
    found = re.search(r"<target dev='(\w+)'/>", live)
    assert found, live
    assert Path(f"/sys/class/net/{found[1]}/master").resolve().name == "vbr0"
    one.virsh("destroy", "tapped")
    assert sorted(os.listdir("/sys/class/net")) == links


def test_two_guests_meet_in_a_multicast_group() -> None:
    source = "<source address='239.192.77.1' port='27777'/>"
    with session() as one:
        one.start_daemon()
        talk(one, wire("mcast", 1, source), wire("mcast", 2, source))
