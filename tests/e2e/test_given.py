"""A connection that somebody else has opened, given to a guest by its descriptor (virDomainFDAssociate).

The passt at its other end is the test's own: virletd starts none.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from domains import domain, free_ports
from session import Session, console_of, session
from traffic import answer

from virlet.client import aio
from virlet.client.sync import connect
from virlet.errors import InvalidArg

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

QUIET = "console=ttyS0 quiet panic=1 virlet.nonet"
NIC = """<interface type='user' xmlns:virlet='https://virlet.dev/schemas/domain/1'>
  <mac address='52:54:00:fd:00:01'/><model type='virtio'/>
  <virlet:backend name='socket' fdgroup='net0'/>
</interface>"""


@pytest.fixture
def one(networks_end: None) -> Iterator[Session]:
    del networks_end
    with session() as made:
        made.start_daemon()
        yield made


_networks: list[subprocess.Popen[bytes]] = []
"""They end when nobody has their connections any more, which is after the guest."""


@pytest.fixture(autouse=True)
def networks_end() -> Iterator[None]:
    yield
    while _networks:
        _networks.pop().wait(30)


@contextmanager
def network(port: int) -> Iterator[socket.socket]:
    """The end of a connection at whose other end a passt forwards *port* to 22."""
    ours, theirs = socket.socketpair()
    addresses = ["--address", "10.9.0.15", "--netmask", "24", "--gateway", "10.9.0.2"]
    words = ["passt", "--foreground", "--quiet", *addresses, "--tcp-ports", f"127.0.0.1/{port}:22"]
    passt = subprocess.Popen(
        [*words, "--fd", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    theirs.close()
    try:
        with ours:
            yield ours
    finally:
        _networks.append(passt)


def open_files(pid: int) -> set[str]:
    """What a process has open: sockets and pipes by their numbers."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(entry))
        except FileNotFoundError:
            continue
    return found


def inode(sock: socket.socket) -> str:
    return f"socket:[{os.fstat(sock.fileno()).st_ino}]"


def until(reached: Callable[[], bool], what: str) -> None:
    """Wait for what the daemon does when it sees that a client has gone, which is later than the client's own end."""
    deadline = time.monotonic() + 30
    while not reached():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def forgotten(daemon: int, *socks: socket.socket) -> None:
    until(
        lambda: open_files(daemon).isdisjoint(map(inode, socks)),
        "the daemon keeps what was given by a connection that has ended",
    )


def nothing_left(daemon: int, before: set[str]) -> None:
    until(lambda: open_files(daemon) <= before, "the daemon has more files open than before")


def test_a_guest_talks_over_what_it_was_given_cold_and_hot(one: Session) -> None:
    one.define(domain("given", NIC, cmdline=QUIET))
    port, other = free_ports().ssh, free_ports().first
    assert one.process is not None
    with connect(one.uri) as conn:
        given = conn.lookup_by_name("given")
        with pytest.raises(InvalidArg, match="file descriptor group 'net0' was not associated"):
            given.start()
        with network(port) as end:
            given.fd_associate("net0", [end.fileno()])
            assert inode(end) in open_files(one.process.pid)
            given.start()
            console = console_of(one, "given")
            console.ready(90)
            console.check("net-up eth0")
            console.ready()
            assert console.lease.ip == "10.9.0.15"
            assert answer(port) == "SSH-2.0-virlet-guest"
            assert one.virlet_json("info", "given")["details"]["helpers"] == []

            given.detach_device(NIC)
            console.check("until [ ! -e /sys/class/net/eth0 ]; do usleep 50000; done", 20)
            until(lambda: "<interface" not in given.xml(), "the card is gone")
        with network(other) as end:
            given.fd_associate("net0", [end.fileno()])
            given.attach_device(NIC)
            console.check("until [ -e /sys/class/net/eth0 ]; do usleep 50000; done", 20)
            console.check("net-up eth0")
            assert answer(other) == "SSH-2.0-virlet-guest"
            conn.close()
            forgotten(one.process.pid, end)
    assert answer(other) == "SSH-2.0-virlet-guest", "the guest has its own"
    one.virsh("destroy", "given")


@contextmanager
def management(*words: str, env: dict[str, str], fds: list[int]) -> Iterator[Callable[[], str]]:
    """associate.py with *fds*; each call has it take a step."""
    argv = ["/usr/bin/python3", str(Path(__file__).with_name("associate.py")), *words]
    with subprocess.Popen(
        argv, env=env, pass_fds=fds, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as layer:
        assert layer.stdin is not None
        assert layer.stdout is not None
        said, go = layer.stdout, layer.stdin

        def step() -> str:
            go.write("\n")
            return said.readline().strip()

        yield step
    assert layer.returncode == 0


def test_a_management_layer_on_libvirt_python_gives_them_cold_and_hot(one: Session) -> None:
    one.define(domain("given", NIC, cmdline=QUIET))
    assert one.process is not None
    before = open_files(one.process.pid)
    second = NIC.replace("fd:00:01", "fd:00:02").replace("net0", "net1")
    port, other = free_ports().ssh, free_ports().first
    with network(port) as cold, network(other) as hot:
        fds = [cold.fileno(), hot.fileno()]
        with management(one.uri, "given", *map(str, fds), second, env=one.env, fds=fds) as step:
            assert step().startswith("8 invalid argument: file descriptor group 'net0' was not associated")
            assert step() == "started"
            console = console_of(one, "given")
            console.ready(90)
            console.check("net-up eth0")
            console.ready()
            assert console.lease.ip == "10.9.0.15"
            assert answer(port) == "SSH-2.0-virlet-guest"
            assert step() == "attached"
            console.check("until [ -e /sys/class/net/eth1 ]; do usleep 50000; done", 20)
            console.check("ip link set eth0 down && net-up eth1")
            assert answer(other) == "SSH-2.0-virlet-guest"
            assert step() == "closed"
        forgotten(one.process.pid, cold, hot)
    assert answer(other) == "SSH-2.0-virlet-guest", "the guest has its own"
    one.virsh("destroy", "given")
    nothing_left(one.process.pid, before)


@pytest.mark.skipif(shutil.which("virsh") is None, reason="needs virsh")
def test_unmodified_virsh_gives_one(one: Session) -> None:
    one.define(domain("given", NIC, cmdline=QUIET))
    assert one.process is not None
    before = open_files(one.process.pid)
    with network(free_ports().ssh) as end:
        done = subprocess.run(
            ["virsh", "-c", one.uri, f"dom-fd-associate given net0 {end.fileno()}; start given --paused"],
            env=one.env,
            pass_fds=[end.fileno()],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr + one.log()
        forgotten(one.process.pid, end)
    one.virsh("destroy", "given")
    nothing_left(one.process.pid, before)


def test_what_cannot_carry_a_network_is_refused_and_nothing_is_left_open(one: Session) -> None:
    one.define(domain("given", NIC, cmdline=QUIET))
    assert one.process is not None

    async def tried() -> None:
        async with await aio.connect(one.uri) as conn:
            given = await conn.lookup_by_name("given")
            reading, writing = os.pipe()
            listener = socket.create_server(("127.0.0.1", 0))
            unconnected = socket.socket()
            pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for fds, why in (
                ([reading], "it is no socket"),
                ([listener.fileno()], "it listens"),
                ([unconnected.fileno()], "it is not connected"),
                ([each.fileno() for each in pair], "has 2 descriptors"),
            ):
                await given.fd_associate("net0", fds)
                with pytest.raises(InvalidArg, match=why):
                    await given.start()
            await given.fd_associate("net0", [pair[0].fileno()])
            await given.start()
            await given.destroy()
            for fd in (reading, writing):
                os.close(fd)
            for each in (listener, unconnected, *pair):
                each.close()

    before = open_files(one.process.pid)
    asyncio.run(tried())
    nothing_left(one.process.pid, before)
