"""Taps, macvtaps and bridge ports that come into a running guest and leave it, in the namespace of script/netns."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import CMDLINE, domain
from session import Session, console_of, session, until
from test_taps import MACVTAP, banner, bridge, described, nic
from test_wires import pings

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(240)]

CASES = {
    "tap": ("vtap0", nic("vtap0"), "10.77.0"),
    "tap-queues": ("vtap1", nic("vtap1", more="<driver queues='2'/>"), "10.77.1"),
    "macvtap": ("vmac0", nic("vmac0", MACVTAP), "10.77.2"),
    "bridge": ("vbr0", bridge("vbr0"), "10.77.3"),
}


@pytest.fixture(scope="module")
def one() -> Iterator[Session]:
    with session() as made:
        made.start_daemon()
        made.define(domain("hot", machine="pc", cmdline=f"{CMDLINE} virlet.nonet"))
        made.virsh("start", "hot")
        yield made


def as_it_is(device: str) -> object:
    """What must be the same afterwards: the settings; of a bridge, whose address is that of a port, its ports."""
    ports = Path(f"/sys/class/net/{device}/brif")
    return sorted(port.name for port in ports.iterdir()) if ports.exists() else described(device)


@pytest.mark.usefixtures("leaks_allowed")
@pytest.mark.parametrize("case", CASES)
def test_a_device_comes_talks_and_goes_as_it_was(one: Session, case: str) -> None:
    device, xml, net = CASES[case]
    console = console_of(one, "hot")
    console.ready(90)
    console.check("modprobe -a virtio_pci virtio_net")  # It loads what it finds while it boots.
    path = one.base / "card.xml"
    path.write_text(xml)
    before = as_it_is(device)
    for _ in range(2):
        one.virsh("attach-device", "hot", str(path), "--live")
        console.check("until ls -d /sys/class/net/e*; do usleep 50000; done", 20)
        name = os.path.basename(console.check("ls -d /sys/class/net/e*").strip())
        console.check(f"ip link set {name} up && ip address add {net}.2/24 dev {name}")
        assert pings(console, f"{net}.1")
        assert banner(f"{net}.2") == "SSH-2.0-virlet-guest"
        one.virsh("detach-device", "hot", str(path), "--live")
        # A busy machine's guest may need longer than the call waits.
        until(lambda: "<interface" not in one.virsh("dumpxml", "hot"), "the card goes")
        assert as_it_is(device) == before


@pytest.mark.usefixtures("leaks_allowed")
def test_a_device_of_somebody_elses_is_refused_and_the_guest_runs_on(one: Session) -> None:
    path = one.base / "card.xml"
    path.write_text(nic("vother"))
    said = one.virsh("attach-device", "hot", str(path), "--live", check=False)
    assert "vother" in said
    assert "line 1" in said
    assert one.virsh("domstate", "hot") == "running"
    assert "<interface" not in one.virsh("dumpxml", "hot")
