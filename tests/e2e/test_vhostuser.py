"""vhost-user with a back end of somebody else's: there, absent, late."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import CMDLINE, domain, free_ports
from session import Session, console_of, session, until
from traffic import answer, traffic_back
from vhost_backend import Backend

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

HELP = subprocess.run(["passt", "--help"], capture_output=True, text=True, timeout=30, check=False)
VHOST_USER = "--vhost-user" in HELP.stdout + HELP.stderr
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


def nic(path: Path, mode: str = "client", inside: str = "", driver: str = "") -> str:
    return (
        f"<interface type='vhostuser'><mac address='52:54:00:77:00:01'/><source type='unix' path='{path}' mode='{mode}'"
        f">{inside}</source><model type='virtio'/>{driver}</interface>"
    )


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as made:
        made.start_daemon()
        yield made


def define(one: Session, xml: str, extra: str = SHARED) -> None:
    one.define(domain("switched", xml, extra=extra, cmdline=f"{CMDLINE} virlet.nonet"))


def starting(one: Session, *words: str) -> subprocess.Popen[str]:
    """``virsh start``, which will take its time."""
    argv = ["virsh", "-c", one.uri, "-q", "start", "switched", *words]
    return subprocess.Popen(argv, env=one.env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def appears(path: Path) -> None:
    """Somebody listens there, which is a moment later than the file."""
    until(lambda: any(_listened(line, path) for line in open_sockets()), f"{path} appears")


def open_sockets() -> list[list[str]]:
    return [line.split() for line in Path("/proc/net/unix").read_text().splitlines()]


def _listened(fields: list[str], path: Path) -> bool:
    """By SO_ACCEPTCON of include/linux/net.h, as proc(5) has it."""
    return fields[7:] == [str(path)] and bool(int(fields[3], 16) & 0x10000)


def test_queues_are_agreed_with_the_back_end(one: Session) -> None:
    """Only up to the start of the CPUs: the back end answers everything and carries nothing."""
    backend = Backend(queues=2).listen(one.base / "switch.sock")
    try:
        define(one, nic(one.base / "switch.sock", driver="<driver queues='2'/>"))
        one.virsh("start", "--paused", "switched")
        assert one.virsh("domstate", "switched") == "paused"
        one.virsh("destroy", "switched")
        assert backend.served == 1
    finally:
        backend.close()


def test_a_card_of_somebody_elses_back_end_comes_into_a_running_guest(one: Session) -> None:
    path, card = one.base / "switch.sock", one.base / "card.xml"
    card.write_text(nic(path))
    define(one, "")
    one.virsh("start", "--paused", "switched")
    before = one.runtime_files()
    said = one.virsh("attach-device", "switched", str(card), "--live", check=False, timeout=30)
    assert "No such file or directory" in said, said
    assert "52:54:00:77:00:01" not in one.virsh("domiflist", "switched")
    assert one.runtime_files() == before
    backend = Backend(queues=1).listen(path)
    try:
        one.virsh("attach-device", "switched", str(card), "--live", timeout=30)
        assert "52:54:00:77:00:01" in one.virsh("domiflist", "switched")
        assert "52:54:00:77:00:01" not in one.virsh("domiflist", "switched", "--inactive")
        assert backend.served  # By QEMU, and by us, who look before it is told to dial.
        one.virsh("destroy", "switched")
    finally:
        backend.close()
    until(lambda: one.runtime_files() == [], lambda: str(one.runtime_files()))


@pytest.mark.skipif(not VHOST_USER, reason="elsewhere: the passt of this host has no --vhost-user")
def test_a_guest_has_its_network_from_a_back_end_of_somebody_elses(one: Session) -> None:
    """Which is a passt here, started by hand; when it dies and another listens there, QEMU comes back by itself."""
    path, port = one.base / "switch.sock", free_ports(25000).ssh
    argv = ["passt", "--vhost-user", "-f", "-s", str(path), "-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2"]
    argv += ["-t", f"127.0.0.1/{port}:22"]

    def back_end() -> subprocess.Popen[bytes]:
        path.unlink(missing_ok=True)
        return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    with back_end() as first:
        appears(path)
        one.define(domain("switched", nic(path, inside="<reconnect enabled='yes' timeout='1'/>"), extra=SHARED))
        one.virsh("start", "switched")
        console = console_of(one, "switched")
        console.ready(90)
        assert console.lease.ip == "10.0.2.15"
        assert answer(port) == "SSH-2.0-virlet-guest"
        first.kill()
    with back_end() as second:
        traffic_back(port, time.monotonic())
        one.virsh("destroy", "switched")
        second.kill()


@pytest.mark.slow
def test_a_back_end_with_fewer_queues_is_reported_with_qemus_words(one: Session) -> None:
    """QEMU itself would try for ever."""
    backend = Backend(queues=2).listen(one.base / "switch.sock")
    try:
        define(one, nic(one.base / "switch.sock", driver="<driver queues='4'/>"))
        answer = one.virsh("start", "switched", check=False)
        assert "more queues than supported" in answer, answer
        assert one.virsh("domstate", "switched") == "shut off"
    finally:
        backend.close()


def test_nobody_there_is_said_at_once(one: Session) -> None:
    path = one.base / "nobody.sock"
    define(one, nic(path))
    answer = one.virsh("start", "switched", check=False)
    assert "No such file or directory" in answer, answer
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))  # and does not listen
        answer = one.virsh("start", "switched", check=False, timeout=30)  # QEMU itself would try for ever.
    assert "Connection refused" in answer, answer
    assert one.virsh("domstate", "switched") == "shut off"


@pytest.mark.parametrize(
    ("mode", "inside"), [("server", ""), ("client", "<reconnect enabled='yes' timeout='1'/>")], ids=["server", "client"]
)
def test_a_start_that_waits_is_ended_by_destroy(one: Session, mode: str, inside: str) -> None:
    define(one, nic(one.base / "late.sock", mode, inside))
    with starting(one) as start:
        until(lambda: "waits for the vhost-user back end" in one.log(), one.log)
        assert start.poll() is None
        one.virsh("destroy", "switched", timeout=30)
        assert start.wait(30) == 1  # which would wait for ever
        assert start.stdout is not None
        assert "given up while it waited" in start.stdout.read()
    until(lambda: one.helpers("qemu") == [], "QEMU ends")
    until(lambda: one.runtime_files() == [], lambda: str(one.runtime_files()))
    assert not (one.base / "late.sock").exists()


def test_a_start_that_waits_ends_with_the_client_that_its_guest_would_have_ended_with(one: Session) -> None:
    define(one, nic(one.base / "late.sock", "server"))
    with starting(one, "--autodestroy") as start:
        until(lambda: "waits for the vhost-user back end" in one.log(), one.log)
        start.kill()
    until(lambda: one.helpers("qemu") == [], "QEMU ends")
    until(lambda: one.runtime_files() == [], lambda: str(one.runtime_files()))
    assert one.virsh("domstate", "switched") == "shut off"
    assert "Traceback" not in one.log()


def test_a_back_end_that_comes_late_is_in_time(one: Session) -> None:
    path = one.base / "late.sock"
    define(one, nic(path, "server"))
    with starting(one) as start:
        appears(path)
        backend = Backend().dial(path)
        try:
            assert start.wait(30) == 0
            assert one.virsh("domstate", "switched") == "running"
            one.virsh("destroy", "switched")
        finally:
            backend.close()
    assert not path.exists()


def test_memory_has_to_be_shared(one: Session) -> None:
    path = one.base / "domain.xml"
    path.write_text(domain("switched", nic(one.base / "switch.sock")))
    answer = one.virsh("define", str(path), check=False) + one.virsh("start", "switched", check=False)
    assert "'interface' requires shared memory" in answer, answer
