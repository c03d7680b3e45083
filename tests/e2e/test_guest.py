"""The test guest itself, under a QEMU started by hand: other end-to-end tests may rely on what is proved here."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from domains import free_ports
from guest import Console, GuestSilent, Lease

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


class Raw:
    """A QEMU of our own with a socket for the serial line and one for the monitor."""

    def __init__(self, process: subprocess.Popen[bytes], serial: socket.socket, monitor: socket.socket) -> None:
        self.process = process
        self.serial = serial
        self.monitor = monitor
        self.console = Console(serial)

    def press_power_button(self) -> None:
        self.monitor.sendall(b"system_powerdown\n")


Boot = Callable[..., Raw]


@pytest.fixture
def boot(guest_dir: Path) -> Iterator[Boot]:
    """Start QEMU with the guest; whatever still runs at the end of the test is killed."""
    with ExitStack() as undo:

        def start(*extra: str, machine: str = "pc", cmdline: str = "", memory: int = 128) -> Raw:
            serial, serial_there = socket.socketpair()
            monitor, monitor_there = socket.socketpair()
            undo.callback(serial.close)
            undo.callback(monitor.close)
            with serial_there, monitor_there:
                argv = (
                    "qemu-system-x86_64", "-machine", machine, "-accel", "tcg", "-m", str(memory), "-nodefaults",
                    "-display", "none", "-no-reboot",
                    "-kernel", str(guest_dir / "vmlinuz"), "-initrd", str(guest_dir / "initramfs.img"),
                    "-append", f"console=ttyS0 quiet {cmdline}",
                    "-chardev", f"socket,id=serial,fd={serial_there.fileno()}", "-serial", "chardev:serial",
                    "-chardev", f"socket,id=monitor,fd={monitor_there.fileno()}", "-mon", "chardev=monitor",
                    *extra,
                )  # fmt: skip
                process = subprocess.Popen(argv, pass_fds=(serial_there.fileno(), monitor_there.fileno()))
            undo.callback(process.wait)
            undo.callback(process.kill)
            return Raw(process, serial, monitor)

        yield start


SLIRP = ("-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net")


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_it_boots_gets_a_lease_answers_and_obeys_the_power_button(boot: Boot, machine: str) -> None:
    raw = boot(*SLIRP, machine=machine)
    raw.console.ready()
    lease = raw.console.lease
    assert lease == Lease("eth0", ip="10.0.2.15", prefix=24, gateway="10.0.2.2", dns=("10.0.2.3",))
    assert raw.console.run("echo hello; echo oops >&2; exit 3") == (3, "hello\noops\n")
    raw.press_power_button()
    raw.console.ended()
    assert raw.process.wait(10) == 0


def test_without_a_network_it_is_ready_at_once(boot: Boot) -> None:
    raw = boot(cmdline="virlet.nonet")
    raw.console.ready()
    assert raw.console.leases == {}


def test_a_network_where_nobody_answers_does_not_keep_it_from_being_ready(boot: Boot) -> None:
    raw = boot("-netdev", "hubport,hubid=0,id=net", "-device", "virtio-net-pci,netdev=net")
    raw.console.ready()
    assert raw.console.lease == Lease("eth0")


def test_who_comes_late_is_answered_too(boot: Boot) -> None:
    raw = boot(*SLIRP)
    raw.console.ready()
    late = Console(raw.serial)
    late.ready(timeout=30)
    assert late.lease == raw.console.lease


def test_long_commands_and_long_answers_arrive_whole(boot: Boot) -> None:
    raw = boot(cmdline="virlet.nonet")
    raw.console.ready()
    text = "é" * 10_000
    assert raw.console.check(f"echo {text}") == text + "\n"


def test_a_person_can_type_commands(boot: Boot) -> None:
    raw = boot(cmdline="virlet.nonet")
    raw.console.ready()
    raw.serial.sendall(b"cd /etc\recho I am in $PWD\r")
    # What is typed shows where it comes in between, be it behind the prompt of the line before.
    raw.console.until("I am in /etc$", timeout=30)
    assert any("/etc # " in line for line in raw.console.said)


def test_a_guest_that_says_nothing_is_reported_with_its_last_words(boot: Boot) -> None:
    raw = boot(cmdline="virlet.nonet")
    raw.console.ready()
    with pytest.raises(GuestSilent, match="VIRLET-READY"):
        raw.console.until("never said", timeout=0.2)


def test_its_services_answer_on_their_ports(boot: Boot) -> None:
    first = free_ports(27000).first
    to = dict(zip((22, 1000, 1099, 7, 9, 19), range(first, first + 6), strict=True))
    forwards = ",".join(f"hostfwd=tcp:127.0.0.1:{host}-:{inside}" for inside, host in to.items())
    raw = boot("-netdev", f"user,id=net,{forwards}", "-device", "virtio-net-pci,netdev=net")
    raw.console.ready()

    def talk(inside: int, data: bytes = b"") -> bytes:
        with socket.create_connection(("127.0.0.1", to[inside]), timeout=10) as sock:
            sock.sendall(data)
            if data:
                sock.shutdown(socket.SHUT_WR)
            with sock.makefile("rb") as answer:
                return answer.read(100_000)

    assert talk(22) == b"SSH-2.0-virlet-guest\r\n"
    assert talk(1000) == b"1000\n"
    assert talk(1099) == b"1099\n"
    blob = os.urandom(50_000)
    assert talk(7, blob) == blob
    assert talk(9, blob) == b"50000\n"
    assert talk(19) == bytes(100_000)


def test_the_services_are_clean_perl() -> None:
    script = Path(__file__).parents[2] / "guest/services"
    argv = ["perl", "-Mstrict", "-Mwarnings=FATAL,all", "-c", str(script)]
    assert subprocess.run(argv, capture_output=True, check=False).stderr.endswith(b"syntax OK\n")
