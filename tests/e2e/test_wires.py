"""Two guests on one wire: sockets between their QEMUs, nothing else on the host."""

from __future__ import annotations

import time

import pytest
from domains import CMDLINE, domain, free_ports
from guest import Console
from session import Session, console_of, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

QUIET = f"{CMDLINE} virlet.nonet"


def wire(kind: str, mac: int, source: str) -> str:
    return (
        f"<interface type='{kind}'><mac address='52:54:00:77:00:{mac:02x}'/>{source}<model type='virtio'/></interface>"
    )


def addressed(one: Session, name: str, address: str) -> Console:
    """The guest's console, once its card has that address."""
    console = console_of(one, name)
    console.ready(90)
    console.check(f"ip link set eth0 up && ip address add {address}/24 dev eth0")
    return console


def pings(console: Console, address: str, within: float = 20) -> bool:
    """Frames go there and come back; the first may be lost while the other end comes up."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if console.run(f"ping -c 1 -W 1 {address}")[0] == 0:
            return True
    return False


def talk(one: Session, first: str, second: str) -> None:
    """Both boot, find each other, and do so again after a reset of one of them."""
    for name, nic in (("one", first), ("two", second)):
        one.define(domain(name, nic, cmdline=QUIET))
        one.virsh("start", name)
    here = addressed(one, "one", "10.76.0.1")
    there = addressed(one, "two", "10.76.0.2")
    assert pings(here, "10.76.0.2")
    assert pings(there, "10.76.0.1")
    # 300 kB through a TCP connection of the guests' own, counted at the other end.
    assert "300000" in here.check("head -c 300000 /dev/zero | nc -w 30 10.76.0.2 9 | head -n 1", 60)
    one.virsh("reset", "two")
    there.again(90)
    there.check("ip link set eth0 up && ip address add 10.76.0.2/24 dev eth0")
    assert pings(here, "10.76.0.2")
    for name in ("one", "two"):
        one.virsh("destroy", name)


def test_a_client_reaches_a_server() -> None:
    port = free_ports().ssh
    source = f"<source address='127.0.0.1' port='{port}'/>"
    with session() as one:
        one.start_daemon()
        talk(one, wire("server", 1, source), wire("client", 2, source))


def test_udp_in_both_directions() -> None:
    ports = free_ports()

    def source(ours: int, theirs: int) -> str:
        local = f"<local address='127.0.0.1' port='{ours}'/>"
        return f"<source address='127.0.0.1' port='{theirs}'>{local}</source>"

    with session() as one:
        one.start_daemon()
        first, second = ports.ssh, ports.first
        talk(one, wire("udp", 1, source(first, second)), wire("udp", 2, source(second, first)))


def test_a_client_without_a_server_is_told_so() -> None:
    with session() as one:
        one.start_daemon()
        one.define(domain("one", wire("client", 1, f"<source address='127.0.0.1' port='{free_ports().ssh}'/>")))
        said = one.virsh("start", "one", check=False)
        assert "Connection refused" in said, said
        assert one.virsh("domstate", "one") == "shut off"


def test_a_card_that_is_wired_to_nothing_is_there_and_silent() -> None:
    with session() as one:
        one.start_daemon()
        one.define(domain("one", wire("null", 1, ""), cmdline=QUIET))
        one.virsh("start", "one")
        console = addressed(one, "one", "10.76.0.1")
        assert not pings(console, "10.76.0.2", within=2)
        one.virsh("destroy", "one")
