"""Helpers killed under a guest that has booted: one after the other, both at once, unseen, with their daemon.

The same for each backend that has a helper of ours.  script/soak multiplies the kills in a row by VIRLET_SOAK.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from statistics import median

import pytest
from domains import domain, free_ports
from session import Session, console_of, gone, session
from traffic import answer, traffic_back

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(0), pytest.mark.usefixtures("leaks_allowed")]

ROUNDS = 5 * int(os.environ.get("VIRLET_SOAK", "1"))
BACK_AGAIN = 30.0
"""Seconds within which traffic must be back; the figure itself is the benchmark's."""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
MACS = ("52:54:00:a8:35:01", "52:54:00:a8:35:02")


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


BACKENDS: dict[str, Callable[[], bool]] = {
    "passt": lambda: True,
    "slirp-helper": lambda: True,
    "passt-vhost-user": lambda: "--vhost-user" in said("passt", "--help"),
}
"""Those with a helper of ours, and whether this host has them; QEMU's own passt is in test_qemu_passt.py."""


class Running:
    """A guest with two cards, each with a helper."""

    def __init__(self, one: Session, name: str) -> None:
        self.session, self.name = one, name
        base = free_ports(25000).first
        self.ports = (base, base + 1)
        self.card = one.base / "card.xml"
        self.card.write_text(self.nic(1))
        extra = SHARED if name == "passt-vhost-user" else ""
        one.define(domain("loser", self.nic(0) + self.nic(1), extra=extra, machine="pc"))
        one.virsh("start", "loser")
        self.console = console_of(one, "loser")
        self.console.ready(90)
        self.files = one.runtime_files()

    def nic(self, number: int) -> str:
        # Two cards, two networks: the guest has one way back for each.
        address = "" if number == 0 else "<ip address='172.17.1.0' prefix='24'/>"
        return f"""<interface type='user'><mac address='{MACS[number]}'/>{address}<model type='virtio'/>
          <portForward proto='tcp' address='127.0.0.1'><range start='{self.ports[number]}' to='22'/></portForward>
          <virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='{self.name}'/></interface>"""

    def pids(self) -> list[int]:
        """Of the helpers that run, as virletd says."""
        return [each["pid"] for each in self.session.virlet_json("info", "loser")["details"]["helpers"] if each["pid"]]

    def kill(self, count: int = 2) -> float:
        """The first *count* helpers; the time when they were told."""
        pids = self.pids()[:count]
        assert len(pids) == count
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        since = time.monotonic()
        assert gone(pids)
        return since

    def descriptors(self) -> int:
        """How many the daemon has."""
        assert self.session.process is not None
        return len(os.listdir(f"/proc/{self.session.process.pid}/fd"))

    def back(self, since: float) -> float:
        """Seconds until both cards have traffic, and a helper each."""
        took = max(traffic_back(port, since) for port in self.ports)
        assert took < BACK_AGAIN
        until(lambda: len(self.pids()) == len(self.ports))
        return took

    def die(self, point: str, action: Callable[[], object]) -> None:
        """A daemon that is killed at *point* of *action*, and the one after it."""
        one = self.session
        one.stop_daemon()
        one.env["VIRLET_FAULT"] = point
        process = one.start_daemon()
        del one.env["VIRLET_FAULT"]
        action()
        assert process.wait(20) == -signal.SIGKILL
        one.process = None
        one.start_daemon()


def until(what: Callable[[], object], timeout: float = BACK_AGAIN) -> None:
    """Wait for what the daemon does after the guest has its traffic."""
    deadline = time.monotonic() + timeout
    while not what():
        assert time.monotonic() < deadline


@pytest.fixture(scope="module", params=BACKENDS)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    if not BACKENDS[request.param]():
        pytest.skip(f"elsewhere: this host has no {request.param}")
    with session() as one:
        one.start_daemon()
        yield Running(one, request.param)


def test_one_that_is_killed_again_and_again_is_replaced_each_time(
    running: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    took = []
    before = running.descriptors()
    for _ in range(ROUNDS):
        took.append(traffic_back(running.ports[0], running.kill(1)))
        until(lambda: len(running.pids()) == 2)
    until(lambda: running.descriptors() <= before)
    with capsys.disabled():
        print(f"\n{running.name}: {ROUNDS} kills, traffic back after {median(took):.3f} s, at most {max(took):.3f} s")
    assert max(took) < BACK_AGAIN
    assert running.session.runtime_files() == running.files


def test_two_at_once_are_both_replaced(running: Running) -> None:
    running.back(running.kill())


def test_those_of_a_paused_guest_are_replaced_when_it_runs_again(running: Running) -> None:
    running.session.virsh("suspend", "loser")
    running.kill()
    running.session.virsh("resume", "loser")
    running.back(time.monotonic())


def test_those_that_die_while_no_daemon_runs_are_replaced_by_the_next(running: Running) -> None:
    pids = running.pids()
    running.session.stop_daemon(signal.SIGKILL)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    assert gone(pids)
    running.session.start_daemon()
    running.back(time.monotonic())


@pytest.mark.parametrize("point", ["helper.dialled", "helper.written", "helper.proceeding"])
def test_a_daemon_that_is_killed_while_it_replaces_one_leaves_it_to_the_next(running: Running, point: str) -> None:
    running.die(point, lambda: running.kill(1))
    running.back(time.monotonic())
    running.back(running.kill())
    assert running.session.runtime_files() == running.files


@pytest.mark.parametrize("point", ["detach.asked", "detach.netdev"])
def test_a_daemon_that_is_killed_while_a_card_leaves_is_no_matter(running: Running, point: str) -> None:
    one, (first, second) = running.session, running.ports
    running.die(point, lambda: one.virsh("detach-device", "loser", str(running.card), "--live", check=False))
    until(lambda: MACS[1] not in one.virsh("domiflist", "loser"))
    assert running.console.run(f"grep -q {MACS[1]} /sys/class/net/*/address")[0] != 0
    until(lambda: len(running.pids()) == 1)
    with pytest.raises(ConnectionRefusedError):
        answer(second)
    assert answer(first) == "SSH-2.0-virlet-guest"
    one.virsh("attach-device", "loser", str(running.card), "--live")
    running.console.check(f"until grep -q {MACS[1]} /sys/class/net/*/address; do usleep 50000; done", 20)
    running.console.check(f"net-up $(cd /sys/class/net; grep -l {MACS[1]} */address | cut -d/ -f1)", 30)
    running.back(time.monotonic())
    assert len(one.runtime_files()) == len(running.files)


def test_destroy_leaves_nothing(running: Running) -> None:
    one = running.session
    pids = [*running.pids(), *one.helpers("qemu-system")]
    one.virsh("destroy", "loser")
    assert gone(pids)
    assert one.runtime_files() == []
