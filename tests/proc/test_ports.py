from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from virlet.errors import BadConfig, OperationFailed
from virlet.plan.base import Forward
from virlet.proc.ports import conflicts, wait_listening
from virlet.proc.process import Process
from virlet.proc.sockets import Listeners, Owner, PortRange, listeners
from virlet.proc.spawn import Command, spawn

PATH = "devices/interface[1]/portForward[1]"


def everybody(owner: Owner | None = None) -> Listeners:
    return listeners([PortRange("tcp", 0, 65535), PortRange("udp", 0, 65535)], owner)


def forward(start: int, end: int | None = None, proto: str = "tcp", address: str | None = "127.0.0.1") -> Forward:
    return Forward(proto, address, None, start, end or start, start, PATH)


@pytest.fixture
def free() -> int:
    """The first of ten free TCP and UDP ports, below those that the kernel gives out itself."""
    return next(_free_ranges())


def _free_ranges() -> Iterator[int]:
    table = everybody()
    for start in range(20_000 + os.getpid() % 500 * 20, 32_000, 10):
        if not any(table.on(proto, start + n) for proto in ("tcp", "udp") for n in range(10)):
            yield start


LISTEN = """
import socket, sys, time
kept = []
for word in sys.argv[1:]:
    proto, port = word.split(":")
    kept.append(socket.socket(type=socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM))
    kept[-1].setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    kept[-1].bind(("127.0.0.1", int(port)))
    if proto == "tcp":
        kept[-1].listen()
time.sleep(1000)
"""


async def listening(*words: str) -> Process:
    return await spawn(Command((sys.executable, "-S", "-c", LISTEN, *words)), "helper")


def test_free_ports_are_no_problem(free: int) -> None:
    assert conflicts([forward(free, free + 9), forward(free, proto="udp", address=None)], everybody()) == []


def test_a_port_in_the_middle_that_is_taken_is_named_with_its_holder(free: int) -> None:
    with socket.create_server(("127.0.0.1", free + 5)):
        (problem,) = conflicts([forward(free, free + 9)], everybody())
    assert problem.message.startswith(f"TCP port {free + 5} on 127.0.0.1 is taken by '")
    assert f"(pid {os.getpid()})" in problem.message
    assert problem.path == PATH


def test_ports_in_a_row_that_one_owner_has_are_one_problem(free: int) -> None:
    held = [socket.create_server(("127.0.0.1", free + number)) for number in (1, 2, 3, 5)]
    try:
        found = conflicts([forward(free, free + 9)], everybody(lambda _proto, _port: "guest 'a'"))
    finally:
        for each in held:
            each.close()
    assert [problem.message for problem in found] == [
        f"TCP ports {free + 1} to {free + 3} on 127.0.0.1 are taken by guest 'a'",
        f"TCP port {free + 5} on 127.0.0.1 is taken by guest 'a'",
    ]


def test_a_udp_port_that_is_taken_is_found(free: int) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind(("0.0.0.0", free))
        (problem,) = conflicts([forward(free, proto="udp")], everybody())
    assert problem.message.startswith(f"UDP port {free} on 127.0.0.1 is taken by ")


def test_a_port_that_is_bound_without_listening_is_taken_too(free: int) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", free))
        (problem,) = conflicts([forward(free)], everybody())
    assert problem.message == f"TCP port {free} on 127.0.0.1 is taken"


def test_a_low_port_says_what_root_could_change() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may bind it")
    start = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if start == 0:
        pytest.skip("elsewhere: on this host everybody may bind every port")
    (problem,) = conflicts([forward(start - 1)], everybody())
    assert "too low for an ordinary user" in problem.message
    assert f"ip_unprivileged_port_start={start - 1}" in (problem.hint or "")


def test_an_address_that_is_not_ours_says_so(free: int) -> None:
    (problem,) = conflicts([forward(free, address="192.0.2.1")], everybody())
    assert not conflicts([forward(free, address="192.0.2.1")], everybody(), freebind=True)
    assert "no such address" in problem.message


def test_an_interface_that_is_missing_says_so(free: int) -> None:
    (problem,) = conflicts([Forward("tcp", None, "nonesuch0", free, free, free, PATH)], everybody())
    assert "there is no interface 'nonesuch0'" in problem.message


def test_a_hundred_problems_are_a_few(free: int) -> None:
    with socket.create_server(("127.0.0.1", free)):
        assert len(conflicts([forward(free)] * 100, everybody())) == 8


async def test_it_is_ready_when_the_helper_listens_on_every_port(free: int) -> None:
    before = everybody()
    helper = await listening(*(f"tcp:{free + n}" for n in range(10)), f"udp:{free}")
    await wait_listening(helper, [forward(free, free + 9), forward(free, proto="udp")], before)
    await helper.terminate(5)


async def test_a_port_that_a_stranger_has_ends_the_wait_at_once(free: int) -> None:
    with socket.create_server(("127.0.0.1", free + 1)):
        before = everybody()
        helper = await listening(f"tcp:{free}")
        with pytest.raises(BadConfig, match=f"TCP port {free + 1} on 127.0.0.1 is taken by "):
            await wait_listening(helper, [forward(free, free + 1)], before)
        await helper.terminate(5)


async def test_a_helper_that_ends_ends_the_wait(free: int) -> None:
    helper = await spawn(Command(("sh", "-c", "exit 7")), "helper")
    with pytest.raises(OperationFailed, match="helper ended with exit status 7 before it listened"):
        await wait_listening(helper, [forward(free)], everybody())


async def test_a_port_left_out_is_told_in_the_end(free: int) -> None:
    before = everybody()
    helper = await listening(f"tcp:{free}")
    await wait_listening(helper, [forward(free)], before, timeout=30)
    with pytest.raises(BadConfig, match=f"TCP port {free + 1} on 127.0.0.1 is not listened on by helper") as caught:
        await wait_listening(helper, [forward(free, free + 1)], before, timeout=0.3)
    assert len(caught.value.problems) == 1
    await helper.terminate(5)
