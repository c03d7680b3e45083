"""The slirp helper's own: its MTU, its confinement, its life.  What it does for its guest is in test_matrix.py."""

from __future__ import annotations

import os
import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import domain, free_ports
from session import Session, console_of, gone, session, until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("leaks_allowed"),
]


def nic(port: int, udp: int) -> str:
    """An interface that names the helper, with a forward of each kind."""
    return f"""<interface type='user'>
      <mac address='52:54:00:a8:33:fd'/>
      <model type='virtio'/>
      <portForward proto='tcp'><range start='{port}' to='22'/></portForward>
      <portForward proto='tcp' address='127.0.0.1'>
        <range start='{port + 100}' end='{port + 102}' to='1000'/>
      </portForward>
      <portForward proto='udp'><range start='{udp}' to='10101'/></portForward>
      <virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/>
    </interface>"""


class Running:
    def __init__(self, one: Session) -> None:
        self.session = one
        ports = free_ports(23000)
        self.port, self.udp = ports.ssh, ports.udp
        one.define(domain("demo", nic(self.port, self.udp)))
        one.virsh("start", "demo")
        self.console = console_of(one, "demo")
        self.console.ready(90)

    @property
    def helper(self) -> int:
        return self.session.helper("virlet-slirp")

    def answers(self, host: str = "127.0.0.1", timeout: float = 10) -> bool:
        with socket.create_connection((host, self.port), timeout) as stream:
            stream.settimeout(timeout)
            stream.sendall(b"\n")
            return stream.makefile().readline().startswith("SSH-2.0-virlet-guest")

    def back(self) -> None:
        """The forward answers again."""
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                if self.answers(timeout=1):
                    return
            except OSError:
                continue
        raise AssertionError(f"no traffic within 20 s\n{self.session.log()}")


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with session() as one:
        one.start_daemon()
        yield Running(one)


def test_the_guest_has_a_large_mtu(running: Running) -> None:
    assert running.console.check("cat /sys/class/net/eth0/mtu").strip() == "65520"


def test_the_helper_is_confined(running: Running) -> None:
    status = Path(f"/proc/{running.helper}/status").read_text()
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    maps = Path(f"/proc/{running.helper}/maps").read_text()
    assert not re.search(r"^\S+ .wx", maps, re.MULTILINE)


def test_a_killed_helper_is_replaced_and_qemu_keeps_its_socket(running: Running) -> None:
    old = running.helper
    os.kill(old, signal.SIGKILL)
    running.back()
    assert running.helper != old


def test_a_helper_that_dies_under_the_next_daemon_is_replaced_as_well(running: Running) -> None:
    running.session.stop_daemon(signal.SIGKILL)
    running.session.start_daemon()
    os.kill(running.helper, signal.SIGKILL)
    running.back()


def test_a_helper_that_dies_while_no_daemon_runs_is_replaced_by_the_next(running: Running) -> None:
    running.session.stop_daemon(signal.SIGKILL)
    old = running.helper
    os.kill(old, signal.SIGKILL)
    assert gone([old])
    running.session.start_daemon()
    running.back()


def lose_socket(one: Session) -> None:
    """As under a kernel that lets nobody fetch it: what the status file tells of it is nobody's."""
    (path,) = (each for each in one.base.rglob("*.json") if '"inodes"' in each.read_text())
    path.write_text(re.sub(r'("inodes": ?)\[[^\]]*\]', r"\1[1, 2]", path.read_text()))


def test_one_whose_socket_is_lost_is_plugged_in_anew_under_the_running_guest(running: Running) -> None:
    one, old = running.session, running.helper
    one.stop_daemon(signal.SIGKILL)
    lose_socket(one)
    one.start_daemon()
    assert running.answers()
    before = one.virsh("domiflist", "demo")
    card = running.console.check("cat /sys/class/net/eth0/ifindex").strip()
    os.kill(old, signal.SIGKILL)
    # By its number, since who looks now and then may not see that it was away.
    another = f"cat /sys/class/net/eth0/ifindex 2>/dev/null | grep -vqx {card}"
    running.console.check(f"until {another}; do usleep 50000; done", 30)
    running.console.check("net-up eth0", 30)
    running.back()
    assert running.helper != old
    assert one.virsh("domiflist", "demo") == before
    assert "plugged in anew" in one.log()
    # The new pair is kept as the first one was.
    one.stop_daemon(signal.SIGKILL)
    one.start_daemon()
    os.kill(running.helper, signal.SIGKILL)
    running.back()


def test_a_guest_that_does_not_answer_keeps_its_card_until_it_does(running: Running) -> None:
    one, old = running.session, running.helper
    one.stop_daemon(signal.SIGKILL)
    lose_socket(one)
    one.start_daemon()
    one.virsh("suspend", "demo")
    os.kill(old, signal.SIGKILL)
    told(one, "as soon as the guest gives it back")
    assert "52:54:00:a8:33:fd" in one.virsh("domiflist", "demo")
    one.virsh("resume", "demo")
    told(one, "its interface was plugged in anew", 2)
    running.console.check("until grep -q 52:54:00:a8:33:fd /sys/class/net/*/address; do usleep 50000; done", 20)
    running.console.check("net-up eth0", 30)
    running.back()


def told(one: Session, words: str, times: int = 1) -> None:
    """virletd's log says *words* so many times."""
    until(lambda: (one.base / "virletd.out").read_text().count(words) >= times, one.log)


def test_the_helper_ends_with_qemu_though_no_daemon_runs(running: Running) -> None:
    one = running.session
    one.stop_daemon(signal.SIGKILL)
    helper, qemu = running.helper, one.helpers("qemu-system")
    os.kill(qemu[0], signal.SIGKILL)
    assert gone([helper])
    one.start_daemon()
    assert one.virsh("domstate", "demo") == "shut off"


def test_it_comes_and_goes_with_an_interface_of_a_running_guest() -> None:
    with session() as one:
        one.start_daemon()
        port = free_ports(26000).ssh
        one.define(domain("plug", "<interface type='user'><model type='virtio'/></interface>"))
        one.virsh("start", "plug")
        console = console_of(one, "plug")
        console.ready(90)
        path, mac = one.base / "nic.xml", "52:54:00:a8:33:fe"
        path.write_text(
            f"""<interface type='user'><mac address='{mac}'/><model type='virtio'/>
            <ip address='172.17.1.0' prefix='24'/>
            <portForward proto='tcp'><range start='{port}' to='22'/></portForward>
            <virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/></interface>"""
        )
        one.virsh("attach-device", "plug", str(path), "--live")
        console.check(f"until grep -q {mac} /sys/class/net/*/address; do usleep 50000; done", 20)
        console.check("net-up eth1", 30)
        assert "172.17.1.15" in console.check("ip addr show eth1")
        with socket.create_connection(("127.0.0.1", port), 10) as stream:
            stream.sendall(b"\n")
            assert stream.makefile().readline().startswith("SSH-2.0")
        helper = one.helper("virlet-slirp")
        one.virsh("detach-device", "plug", str(path), "--live")
        assert gone([helper])
        one.virsh("destroy", "plug")
