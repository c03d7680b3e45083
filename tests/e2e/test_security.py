"""docs/security.md, on a guest that runs: what its QEMU is shut in by, and what of the host's loopback it reaches."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import domain, free_ports
from session import Session, console_of, session
from traffic import answer

from virlet.proc.confine import landlock_version

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(180),
    pytest.mark.usefixtures("leaks_allowed"),  # The guest outlives the tests that share it.
]

NIC = """<interface type='user' xmlns:virlet='https://virlet.dev/schemas/domain/1'><model type='virtio'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>
<virlet:backend name='passt'/><virlet:passt>{options}</virlet:passt></interface>"""
CLOSED = "<virlet:map-host-loopback address='none'/>"


class Running:
    """One guest."""

    def __init__(self, one: Session, name: str, options: str) -> None:
        self.session, self.name, self.port = one, name, free_ports(24600).ssh
        one.define(domain(name, NIC.format(options=options, port=self.port)))
        one.virsh("start", name)
        self.console = console_of(one, name)
        self.console.ready(120)

    def reaches(self, server: socket.socket) -> bool:
        """Whether the guest can say something to that server of the host, at its gateway's address."""
        gateway, port = self.console.lease.gateway, server.getsockname()[1]
        # Behind us: a passt that sends it out into the world gets no answer for minutes.
        self.console.check(f"(echo hello | nc -w 5 {gateway} {port} >/dev/null 2>&1 &)")
        try:
            server.accept()[0].close()
        except TimeoutError:
            return False
        return True


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    with session() as one:
        one.start_daemon()
        yield Running(one, "closed", CLOSED)


def test_the_hosts_loopback_is_out_of_reach_where_the_xml_says_so(running: Running) -> None:
    """That the gateway's address leads there otherwise is shown by test_matrix.py."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(6)  # A second more than the guest tries.
        assert not running.reaches(server)
    assert answer(running.port) == "SSH-2.0-virlet-guest", "its network works all the while"


def test_qemu_is_filtered_has_no_privileges_and_is_confined(running: Running) -> None:
    details = running.session.virlet_json("info", running.name)["details"]
    status = Path(f"/proc/{details['pid']}/status").read_text()
    assert "NoNewPrivs:\t1" in status
    assert "Seccomp:\t2" in status
    confined = "yes, to its own files" if landlock_version() else "no: this kernel has no landlock"
    assert details["confined"] == confined


def test_doctor_tells_of_landlock_and_of_other_peoples_profiles(running: Running) -> None:
    said = running.session.virlet_json("doctor")
    assert said["confinement"]["ok"] == bool(landlock_version())
    assert list(said["security"]) == ["user namespaces", "AppArmor", "SELinux", "Yama"]
    assert "QEMU confined to its files" in running.session.virlet("doctor")
