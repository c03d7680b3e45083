"""passt over vhost-user: the guest's memory is the wire.  Where a host cannot do it, it is refused by name."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator

import pytest
from domains import domain, free_ports
from session import Session, console_of, gone, session, until
from traffic import answer, traffic_back

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.usefixtures("leaks_allowed")]

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
MAC = "52:54:00:a8:34:01"


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def nic(port: int, *, kind: str = "vhostuser", backend: str = "<backend type='passt'/>", mac: str = MAC) -> str:
    return f"""<interface type='{kind}'><mac address='{mac}'/><model type='virtio'/>{backend}
      <portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>
      <portForward proto='udp' address='127.0.0.1'><range start='{port + 1}' to='10101'/></portForward></interface>"""


# What the guest sees and moves, and how it lives through resets, test_matrix.py tries on each backend.
LATER = pytest.mark.skipif(
    "--vhost-user" not in said("passt", "--help"), reason="elsewhere: the passt of this host has no --vhost-user"
)


class Running:
    """A guest whose card is passt's by vhost-user."""

    def __init__(self, one: Session) -> None:
        self.session = one
        self.port = free_ports(24000).ssh
        one.define(domain("shared", nic(self.port), extra=SHARED))
        one.virsh("start", "shared")
        self.console = console_of(one, "shared")
        self.console.ready(90)

    @property
    def passt(self) -> int:
        return self.session.helper("passt")

    def kill(self) -> float:
        """Kill passt; when, once it is gone."""
        pid, since = self.passt, time.monotonic()
        os.kill(pid, signal.SIGKILL)
        assert gone([pid])
        return since


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with session() as one:
        one.start_daemon()
        yield Running(one)


@pytest.mark.skipif(LATER.args[0] is False, reason="elsewhere: the passt of this host can do it")
def test_a_passt_that_cannot_is_named() -> None:
    with session() as one:
        one.start_daemon()
        one.define(domain("shared", nic(free_ports(24000).ssh), extra=SHARED))
        answer = one.virsh("start", "shared", check=False)
        assert "the passt of this host (/usr/bin/passt) has no --vhost-user" in answer, answer
        assert one.helpers("qemu") == []


@LATER
def test_the_guest_has_its_lease_and_reaches_the_host(running: Running) -> None:
    assert running.console.lease.ip
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(20)
        port = server.getsockname()[1]
        running.console.check(f"(echo hello | nc -w 20 {running.console.lease.gateway} {port} >/dev/null 2>&1 &)")
        peer, _ = server.accept()
        with peer:
            assert peer.recv(100) == b"hello\n"


@LATER
def test_forwards_of_tcp_and_udp_answer(running: Running) -> None:
    assert answer(running.port) == "SSH-2.0-virlet-guest"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(b"ping", ("127.0.0.1", running.port + 1))
        assert sock.recv(100) == b"ping"


def restarts(running: Running) -> int:
    (helper,) = running.session.virlet_json("info", "shared")["details"]["helpers"]
    return int(helper["restarts"])


@LATER
def test_a_killed_passt_is_replaced(running: Running) -> None:
    for _ in range(3):
        traffic_back(running.port, running.kill())
    names = lambda: [name.rpartition("/")[2] for name in running.session.runtime_files()]  # noqa: E731
    until(lambda: names() == ["monitor.sock"], lambda: f"only the monitor's socket, not {names()}")
    until(lambda: restarts(running) == 3, lambda: f"three restarts, not {restarts(running)}")


@LATER
def test_one_that_dies_under_a_paused_guest_is_replaced_when_it_runs_again(running: Running) -> None:
    one = running.session
    one.virsh("suspend", "shared")
    running.kill()
    one.virsh("resume", "shared")
    traffic_back(running.port, time.monotonic())


@LATER
def test_one_that_dies_while_no_daemon_runs_is_replaced_by_the_next(running: Running) -> None:
    one = running.session
    one.stop_daemon(signal.SIGKILL)
    assert answer(running.port) == "SSH-2.0-virlet-guest"
    running.kill()
    one.start_daemon()
    traffic_back(running.port, time.monotonic())
    traffic_back(running.port, running.kill())  # and one that dies under the next daemon


@LATER
def test_a_cable_that_is_out_stays_out_when_passt_is_replaced(running: Running) -> None:
    one = running.session
    one.virsh("domif-setlink", "shared", MAC, "down")
    running.console.check("until [ $(cat /sys/class/net/eth0/carrier) = 0 ]; do usleep 20000; done", 30)
    pid = running.passt
    with one.events() as events:
        before = restarts(running)
        running.kill()
        until(lambda: restarts(running) > before, "another passt")
        assert running.passt != pid
        running.console.check("sleep 0.3")
        assert running.console.check("cat /sys/class/net/eth0/carrier").strip() == "0"
        assert not [line for line in events.lines if "lifecycle" in line]
    one.virsh("domif-setlink", "shared", MAC, "up")
    traffic_back(running.port, time.monotonic())


@LATER
def test_a_user_network_of_shared_memory_comes_by_vhost_user_is_replaced_and_goes(running: Running) -> None:
    one, mac = running.session, "52:54:00:a8:34:02"
    card = one.base / "card.xml"
    card.write_text(nic(running.port + 10, kind="user", backend="", mac=mac))
    before = one.helpers("passt")
    one.virsh("attach-device", "shared", str(card), "--live")
    running.console.check(f"until grep -q {mac} /sys/class/net/*/address; do usleep 50000; done", 20)
    running.console.check("net-up eth1", 30)
    assert "10.0.2.15" in running.console.check("ip -4 addr show eth1")
    assert answer(running.port + 10) == "SSH-2.0-virlet-guest"
    (pid,) = set(one.helpers("passt")) - set(before)
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    traffic_back(running.port + 10, time.monotonic())
    one.virsh("detach-device", "shared", str(card), "--live")
    until(lambda: mac not in one.virsh("domiflist", "shared"), "the card goes")
    until(lambda: one.helpers("passt") == before, "and its passt with it")


@LATER
def test_a_passt_that_refuses_its_options_is_quoted_and_the_guest_goes_on(running: Running) -> None:
    """QEMU would stand still for good with a back end that ends before it has answered."""
    one, card = running.session, running.session.base / "refused.xml"
    param = "<virlet:param value='--log-size'/><virlet:param value='1'/>"
    wrong = f"<virlet:passt xmlns:virlet='https://virlet.dev/schemas/domain/1'>{param}</virlet:passt></interface>"
    card.write_text(nic(running.port + 20, mac="52:54:00:a8:34:03").replace("</interface>", wrong))
    said = one.virsh("attach-device", "shared", str(card), "--live", check=False)
    assert "Invalid --log-size: 1" in said, said
    assert answer(running.port) == "SSH-2.0-virlet-guest"
    assert one.helper("passt")


@LATER
def test_a_guest_that_was_reset_while_passt_was_dead_has_its_network_again(running: Running) -> None:
    one = running.session
    one.virsh("suspend", "shared")
    running.kill()
    one.virsh("reset", "shared")
    one.virsh("resume", "shared")
    running.console.again(90)
    assert answer(running.port) == "SSH-2.0-virlet-guest"


@LATER
def test_destroy_leaves_nothing(running: Running) -> None:
    one = running.session
    guests = [*one.helpers("passt"), *one.helpers("qemu-system")]
    one.virsh("destroy", "shared")
    assert gone(guests)
    assert one.runtime_files() == []
