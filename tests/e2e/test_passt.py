"""The main job: a rootless guest on passt, defined and driven by unmodified virsh, reached through forwarded ports."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from domains import Ports, domain, free_ports, passt_nic
from session import Session, alive, console_of, gone, session, until
from traffic import answer, traffic_back

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("leaks_allowed"),  # The guest outlives the tests that share it; the last one looks.
]


class Running:
    """The issue's guest, up and running."""

    def __init__(self, one: Session, ports: Ports) -> None:
        self.session, self.ports = one, ports
        self.log = one.base / "passt.log"
        one.define(domain("demo", passt_nic(ports, self.log)))
        one.virsh("start", "demo")
        self.console = console_of(one, "demo")
        self.console.ready(90)

    def banner(self, timeout: float = 10) -> str:
        return answer(self.ports.ssh, timeout)


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with session() as one:
        one.start_daemon()
        yield Running(one, free_ports())


def test_the_guest_is_offered_the_address_that_the_xml_asks_for(running: Running) -> None:
    assert running.console.lease.ip == "192.168.221.122"


def test_every_forwarded_port_reaches_its_guest_port_and_no_other_one_listens(running: Running) -> None:
    assert running.banner() == "SSH-2.0-virlet-guest"
    for host, guest in running.ports.forwarded.items():
        if guest != 22 and guest % 7 == 0:
            assert str(guest) in answer(host)
    for port in running.ports.excluded:
        with pytest.raises(ConnectionRefusedError):
            answer(port)


def test_udp_arrives_and_comes_back(running: Running) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stream:
        stream.settimeout(10)
        stream.sendto(b"over and out\n", ("127.0.0.1", running.ports.udp))
        assert b"over and out" in stream.recv(100)


def test_passt_writes_into_the_log_file_of_the_xml(running: Running) -> None:
    assert "192.168.221.122" in running.log.read_text()


def test_virsh_shows_the_running_guest(running: Running) -> None:
    virsh = running.session.virsh
    assert virsh("domstate", "--reason", "demo") == "running (booted)"
    assert "demo" in virsh("list", "--all")
    assert virsh("domid", "demo").isdigit()
    assert virsh("domname", virsh("domuuid", "demo")) == "demo"
    assert "52:54:00:a8:33:fc" in virsh("domiflist", "demo")
    assert virsh("domif-getlink", "demo", "52:54:00:a8:33:fc").endswith("up")
    info = virsh("dominfo", "demo")
    assert "196608 KiB" in info
    assert "Persistent:     yes" in info
    live = virsh("dumpxml", "demo")
    assert "<alias name='net0'/>" in live
    assert "<alias name='net0'/>" not in virsh("dumpxml", "--inactive", "demo")


def test_suspend_stops_the_guest_and_resume_brings_its_traffic_back(running: Running) -> None:
    virsh = running.session.virsh
    virsh("suspend", "demo")
    assert virsh("domstate", "--reason", "demo") == "paused (user)"
    virsh("resume", "demo")
    assert virsh("domstate", "--reason", "demo") == "running (unpaused)"
    traffic_back(running.ports.ssh, time.monotonic())


def restarts(running: Running) -> int:
    (helper,) = running.session.virlet_json("info", "demo")["details"]["helpers"]
    return int(helper["restarts"])


def test_a_killed_passt_is_replaced_before_anybody_complains(running: Running) -> None:
    assert running.banner()
    for _ in range(3):
        pid = running.session.helper("passt")
        os.kill(pid, signal.SIGKILL)
        assert gone([pid])
        traffic_back(running.ports.ssh, time.monotonic())
    until(lambda: restarts(running) == 3, lambda: f"three restarts, not {restarts(running)}")


def test_the_guest_outlives_a_killed_daemon_and_is_adopted(running: Running) -> None:
    one = running.session
    guest, before = one.virsh("domid", "demo"), one.virsh("domstate", "--reason", "demo")
    assert before.startswith("running ")
    one.stop_daemon(signal.SIGKILL)
    assert running.banner()
    one.start_daemon()
    assert one.virsh("domstate", "--reason", "demo") == before
    assert one.virsh("domid", "demo") == guest
    pid = one.helper("passt")
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    traffic_back(running.ports.ssh, time.monotonic())


def test_a_passt_that_died_while_no_daemon_ran_is_replaced_when_one_returns(running: Running) -> None:
    one = running.session
    pid = one.helper("passt")
    one.stop_daemon(signal.SIGKILL)
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    one.start_daemon()
    traffic_back(running.ports.ssh, time.monotonic())


def test_a_reset_guest_boots_again_and_gets_its_address_again(running: Running) -> None:
    running.session.virsh("reset", "demo")
    running.console.again(90)
    assert running.console.lease.ip == "192.168.221.122"
    assert running.banner()


def test_a_reboot_goes_through_the_guest(running: Running) -> None:
    with running.session.events() as events:
        running.session.virsh("reboot", "demo")
        events.wait_for("reboot", timeout=60)
    running.console.again(90)
    assert running.banner()


def test_destroy_leaves_no_process_no_socket_and_no_file(running: Running) -> None:
    one = running.session
    before = one.processes()
    one.virsh("destroy", "demo")
    guests = [pid for pid, words in before.items() if words.startswith(("qemu", "passt"))]
    assert len(guests) >= 2
    assert gone(guests)
    assert one.runtime_files() == []
    for port in (running.ports.ssh, *running.ports.forwarded):
        with pytest.raises(ConnectionRefusedError):
            answer(port)
    assert one.virsh("domstate", "--reason", "demo") == "shut off (destroyed)"
    one.virsh("undefine", "demo")
    assert "demo" not in one.virsh("list", "--all")
    assert not [pid for pid in guests if alive(pid)]
