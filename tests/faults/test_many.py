"""Many definitions, many guests, many clients: nobody waits long for a daemon's return, or for the other clients."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import socket
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from faultstand import DOMAIN, PASST, Nursery, Stand, free_ports
from test_points import POINTS

from virlet.client.sync import Connection, Domain, connect
from virlet.enums import Affect, CreateFlags
from virlet.errors import VirletError

pytestmark = [pytest.mark.faults]

DEFINED, RUNNING, CLIENTS = 1000, 50, 1000
ROUNDS = 300
"""Rounds in which the daemon reads the 28 000 bytes of a question at least, by 256 at a time."""


def define_many(stand: Stand, connection: Connection, ports: list[int]) -> None:
    for number in range(DEFINED):
        nic = PASST.format(n=number % 256, port=ports[number] if number < RUNNING else 1024 + number)
        connection.define(DOMAIN.format(name=f"guest{number}", uuid="", extra="", devices=nic))
    for number in range(RUNNING):
        connection.lookup_by_name(f"guest{number}").start()


def test_a_thousand_definitions_and_fifty_guests_are_there_again_in_two_seconds(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stand.begin()
    ports = free_ports(RUNNING)
    with stand.client() as connection:
        define_many(stand, connection, ports)
    walls, works = [], []
    for _ in range(3):
        stand.end(signal.SIGKILL)
        begun = time.monotonic()
        works.append(stand.begin_plainly())
        walls.append(time.monotonic() - begun)
        with stand.client() as connection:
            domains = connection.domains()
            assert len(domains) == DEFINED
            assert sum(domain.is_active() for domain in domains) == RUNNING
    with capsys.disabled():
        print(f"\n{DEFINED} definitions, {RUNNING} guests: ready after {min(walls):.2f} s ({min(works):.2f} s CPU)")
    assert min(works) < 2  # Work: on a machine that others use, too, a clock tells of them.
    assert all(stand.answers(port) for port in ports)
    with stand.client() as connection:
        for domain in connection.domains(1):
            domain.destroy()
    stand.until(lambda: not stand.files(), "no file")
    stand.reap()


@pytest.fixture
def room() -> Iterator[None]:
    """Descriptors for a thousand connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def resident(stand: Stand) -> int:
    return int(Path(f"/proc/{stand.pid}/status").read_text().split("VmRSS:")[1].split()[0])


def calls(connection: Connection) -> float:
    """Milliseconds of a call, the median of 100."""
    took = []
    for _ in range(100):
        begun = time.perf_counter()
        connection.hostname()
        took.append((time.perf_counter() - begun) * 1e3)
    return statistics.median(took)


@contextlib.contextmanager
def one_processor(*pids: int) -> Iterator[None]:
    """We and *pids* share one: whether the kernel puts two of us on one or on two makes a factor of two of its own."""
    before = os.sched_getaffinity(0)
    for pid in (0, *pids):
        os.sched_setaffinity(pid, {min(before)})
    yield
    for pid in (0, *pids):
        os.sched_setaffinity(pid, before)


def beside(lonely: Connection, crowded: Connection) -> tuple[float, float]:
    """Milliseconds of a call to each at one time: of 21 rounds, that with the median ratio."""
    rounds = [(calls(lonely), calls(crowded)) for _ in range(21)]
    return sorted(rounds, key=lambda pair: pair[1] / pair[0])[10]


class Deaf:
    """A client that asks and asks and never reads an answer."""

    def __init__(self, stand: Stand) -> None:
        self._connection = connect(stand.uri, start=False)
        self.sock = socket.socket(fileno=os.dup(self._connection.fileno()))
        self.sock.setblocking(False)
        self._rest = b""
        """Of a question that is half asked."""

    def ask(self, other: Connection) -> None:
        """Until the daemon reads no more, since nobody takes its answers; what it has read it is done with then.

        It takes from every client in each of its rounds, and a call of the *other* client's is one at least: after
        ROUNDS of them there would be room for another question.
        """
        while self._fill():
            for _ in range(ROUNDS):
                other.hostname()

    def _fill(self) -> bool:
        """As many questions as there is room for, if any."""
        # An unknown procedure: its answer is longer than the question.
        question = bytes.fromhex("0000001c 20008086 00000001 000fffff 00000000 00000001 00000000")
        filled = False
        with contextlib.suppress(BlockingIOError):
            while True:
                self._rest = self._rest or question * 1000
                self._rest = self._rest[self.sock.send(self._rest) :]
                filled = True
        return filled

    def close(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        self._connection.close()


@pytest.fixture
def other(nursery: Nursery, programs: Path, cache: Path) -> Iterator[Stand]:
    """Of another user, who has one client."""
    one = Stand(nursery, programs, cache)
    yield one
    one.close()


@pytest.mark.usefixtures("room")
def test_a_thousand_idle_clients_and_a_deaf_one_slow_nobody_down(
    stand: Stand, other: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    assert stand.begin()
    assert other.begin()
    stand.quiet = stand.descriptors()
    with stand.client() as connection, other.client() as lonely:
        memory = resident(stand)
        with contextlib.ExitStack() as stack:
            for _ in range(CLIENTS):
                stack.enter_context(stand.client())
            each = (resident(stand) - memory) / CLIENTS
            deaf = Deaf(stand)
            stack.callback(deaf.close)
            deaf.ask(connection)
            grown = resident(stand)
            deaf.ask(connection)
            assert resident(stand) < grown + 4096, "what a deaf client is told piles up"
            with one_processor(stand.pid, other.pid):
                alone, crowded = beside(lonely, connection)
        with capsys.disabled():
            print(f"\n{CLIENTS} idle clients: {each:.1f} KiB each; a call takes {crowded:.3f} ms, alone {alone:.3f}")
        assert crowded < 2 * alone
        assert each < 64
        assert connection.hostname()
    stand.flat()


HELD = "import os, signal, virlet.fault; virlet.fault._reached = lambda: os.kill(os.getpid(), signal.SIGSTOP)"
"""A daemon that stands still at its fault instead of dying there, until it gets SIGCONT."""


def held(stand: Stand) -> bool:
    return Path(f"/proc/{stand.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"


def dies_inside(stand: Stand, what: str, *args: object) -> None:
    """A client asks for *what* and is killed while the daemon is at work on it."""
    child = os.fork()
    if child == 0:
        with contextlib.suppress(BaseException), connect(stand.uri, start=False) as mine:
            getattr(mine.lookup_by_name("one"), what)(*args)
        os._exit(0)
    stand.until(lambda: held(stand), f"{what} comes to its fault")
    os.kill(child, signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL, "it had its answer already"
    os.kill(stand.pid, signal.SIGCONT)


def defined(connection: Connection, port: int) -> Domain:
    return connection.define(DOMAIN.format(name="one", uuid="", extra="", devices=PASST.format(n=1, port=port)))


@pytest.mark.parametrize(
    ("what", "fault"),
    [("start", at) for at in ("start.intended", "start.qemu", "start.ready", "start.owned", "start.told")]
    + [("destroy", at) for at in ("destroy.intended", "stop.helpers", "stop.noticed")],
)
def test_a_client_that_dies_inside_a_call_leaves_a_whole_guest(stand: Stand, what: str, fault: str) -> None:
    (port,) = free_ports(1)
    assert stand.begin(fault, before=HELD)
    stand.quiet = stand.descriptors()
    with stand.client() as connection:
        one = defined(connection, port)
        if what == "destroy":
            one.start()
        dies_inside(stand, what)
        # What it began goes on without it.
        stand.until(lambda: one.is_active() == (what == "start"), f"{what} is done")
        stand.consistent(connection)
        stand.nothing(connection)
    stand.flat()


@pytest.mark.parametrize("fault", [name for name in POINTS if name.startswith("start.")])
def test_a_client_that_dies_inside_the_start_of_its_own_guest_leaves_none(stand: Stand, fault: str) -> None:
    (port,) = free_ports(1)
    assert stand.begin(fault, before=HELD)
    stand.quiet = stand.descriptors()
    with stand.client() as connection:
        one = defined(connection, port)
        dies_inside(stand, "start", CreateFlags.AUTODESTROY)
        with contextlib.suppress(VirletError):
            one.suspend()  # Waits until the start is over.
        stand.until(lambda: not one.is_active(), "it has ended with its client")
        assert "Traceback" not in stand.log(), stand.log()
        stand.consistent(connection)
        stand.nothing(connection)
    stand.flat()


@pytest.mark.parametrize(
    ("what", "fault"),
    [("attach_device", f"attach.{at}") for at in ("intended", "netdev", "helper", "backed", "plugged", "there", "told")]
    + [("detach_device", f"detach.{at}") for at in ("asked", "answered", "given", "netdev", "helper", "written")],
)
def test_a_client_that_dies_inside_an_attachment_or_a_detachment_leaves_it_done(
    stand: Stand, what: str, fault: str
) -> None:
    first, second = free_ports(2)
    nic = PASST.format(n=2, port=second)
    assert stand.begin(fault, before=HELD)
    stand.quiet = stand.descriptors()
    with stand.client() as connection:
        one = defined(connection, first)
        one.start()
        if what == "detach_device":
            one.attach_device(nic, Affect.LIVE)
        dies_inside(stand, what, nic, Affect.LIVE)
        wanted = 2 if what == "attach_device" else 1
        stand.until(lambda: one.xml().count("<interface ") == wanted, f"{what} is done")
        assert stand.answers(second) == (what == "attach_device")
        stand.consistent(connection)
        stand.nothing(connection)
    stand.flat()


def test_children_get_the_limit_of_descriptors_that_the_daemon_was_started_with(stand: Stand) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert stand.begin(before=f"import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (512, {hard}))")
    soft, _ = resource.prlimit(stand.pid, resource.RLIMIT_NOFILE)
    assert soft > 512
    (port,) = free_ports(1)
    with stand.client() as connection:
        connection.define(DOMAIN.format(name="one", uuid="", extra="", devices=PASST.format(n=1, port=port))).start()
        for program in ("/qemu-system", "/passt"):
            (pid,) = stand.running(program)
            assert resource.prlimit(pid, resource.RLIMIT_NOFILE) == (512, hard), program
        stand.nothing(connection)
