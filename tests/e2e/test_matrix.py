"""Each backend of a user network does the same for its guest: addresses, reach, forwards, bulk, and a life in between.

One guest a backend, whose tests run in this order; the backend is forced by ``<virlet:backend>``, so the addresses are
those of the contract (docs/network.md), equal on each.  VIRLET_MATRIX_MB says how much is sent each way and family.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_address

import pytest
from domains import domain, free_ports
from host_server import FAMILY, LOOPBACK, MEGABYTES, greet, serving, whole_each_way
from session import Session, console_of, session

from virlet.net.addressing import guest_view

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300), pytest.mark.usefixtures("leaks_allowed")]

MAC = "52:54:00:a8:33:fd"
VIEW = guest_view((), MAC)
GATEWAY = {4: str(VIEW.host4), 6: str(VIEW.host6)}
BACKENDS = ("passt-vhost-user", "passt", "qemu-passt", "slirp-helper", "slirp")
OF_SOME_GENERATIONS = ("passt-vhost-user", "qemu-passt")
"""The others are everywhere, and their absence is a failure."""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
ASK = "rm -f /tmp/said; (echo guest; n=0; until [ -s /tmp/said ] || [ $((n+=1)) = 400 ]; do usleep 50000; done)"
"""For the guest: say something, and hang up once the answer is in /tmp/said; passt of 2023-03 brings none later."""
VERSIONS = pytest.mark.parametrize("version", [4, 6], ids=["ipv4", "ipv6"])


class Running:
    """A guest on one backend, with a forward of each protocol."""

    def __init__(self, one: Session, backend: str) -> None:
        self.session, self.backend = one, backend
        ports = free_ports(24000)
        self.tcp, self.udp = ports.first, ports.udp
        # QEMU's own slirp connects to it when it starts, once; the helper for each connection of the guest's.
        self.service = socket.create_server(("127.0.0.1", 0))
        more = ""
        if backend in ("slirp", "slirp-helper"):
            to = f"host='127.0.0.1' hostPort='{self.service.getsockname()[1]}'"
            more = f"<virlet:guestForward address='10.0.2.100' port='7' {to}/>"
        nic = f"""<interface type='user'><mac address='{MAC}'/><model type='virtio'/>
          <portForward proto='tcp'><range start='{self.tcp}' to='22'/></portForward>
          <portForward proto='udp'><range start='{self.udp}' to='10101'/></portForward>
          <virlet:backend name='{backend}'/>{more}</interface>""".replace(
            "type='user'", "type='user' xmlns:virlet='https://virlet.dev/schemas/domain/1'"
        )
        memory = f"{192 + 2 * MEGABYTES}</memory>"  # what is sent lies in a tmpfs, which has half of the memory
        extra = SHARED if backend == "passt-vhost-user" else ""
        one.define(domain("m", nic, extra=extra).replace("192</memory>", memory))
        one.virsh("start", "m")
        self.console = console_of(one, "m")
        self.console.ready(120)
        self.addressed()

    def again(self) -> None:
        """Wait for a guest that was reset or reboots."""
        self.console.again(120)
        self.addressed()

    def addressed(self) -> None:
        """IPv6 comes a moment later than the lease."""
        self.console.check("until grep -q '^fec0.* eth0$' /proc/net/if_inet6; do usleep 50000; done", 30)

    def reaches_host(self, version: int) -> None:
        with serving(version, greet) as served:
            self.console.check(f"{ASK} | nc -w 20 {GATEWAY[version]} {served.port} >/tmp/said", 60)
        assert served.result == b"guest\n"
        assert self.console.check("cat /tmp/said") == "host\n"

    def banner(self, version: int) -> str:
        """The client speaks first: passt of 2023-03 leaves the guest's SYN,ACK unanswered until it has data to send."""
        with socket.create_connection((LOOPBACK[version], self.tcp), 20) as stream:
            stream.sendall(b"\n")
            return stream.makefile().readline().strip()

    def echo(self, version: int) -> bytes:
        with socket.socket(FAMILY[version], socket.SOCK_DGRAM) as sock:
            sock.settimeout(20)
            sock.sendto(b"ping", (LOOPBACK[version], self.udp))
            return sock.recv(100)

    def works(self) -> None:
        """In and out; for after something has happened to the guest."""
        for version in (4, 6):
            self.reaches_host(version)
        assert self.banner(4) == "SSH-2.0-virlet-guest"
        assert self.echo(4) == b"ping"


@pytest.fixture(scope="module", params=BACKENDS)
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    with session() as one:
        one.start_daemon()
        says = one.virlet_json("doctor")["qemu"][0]["networks"][request.param]
        if not says["ok"]:
            assert request.param in OF_SOME_GENERATIONS, says["reason"]
            pytest.skip(f"elsewhere: {says['reason']}")
        guest = Running(one, request.param)
        with guest.service:
            yield guest


def test_the_backend_is_the_one_that_was_asked_for(running: Running) -> None:
    (net,) = running.session.virlet_json("explain", "m")["interfaces"]
    assert net["backend"] == running.backend


def test_the_lease_is_the_contracts(running: Running) -> None:
    lease = running.console.lease
    assert (lease.ip, lease.prefix, lease.gateway) == (str(VIEW.guest4), VIEW.prefix4, str(VIEW.host4))


def test_the_nameserver_is_the_contracts_and_answers_as_the_hosts_does(running: Running) -> None:
    resolvers = [word for word in nameservers() if ip_address(word.partition("%")[0]).version == 4]
    for _ in range(3):  # A resolver may be slow, or remember the second time.
        before = bool(resolvers) and asked(resolvers[0])
        text = running.console.run(f"nslookup -timeout=5 virlet.invalid {VIEW.dns4}", 60)[1]
        answered = bool(resolvers) and asked(resolvers[0])
        if ("timed out" not in text) == answered == before:
            break
    assert ("timed out" not in text) == answered, text
    passt_says = running.session.run("passt", "--help", check=False)
    passt_of_2023 = "passt" in running.backend and "--dns-host" not in passt_says.stdout + passt_says.stderr
    # It answers on the contract's address as well, but cannot offer it (docs/network.md).
    assert running.console.lease.dns == (tuple(resolvers) if passt_of_2023 else (str(VIEW.dns4),))


def test_the_ipv6_address_and_route_are_the_contracts(running: Running) -> None:
    shown = running.console.check("ip -6 addr show dev eth0; ip -6 route")
    assert f"inet6 {VIEW.guest6}/64" in shown
    assert "default via fe80::" in shown


@VERSIONS
def test_the_guest_reaches_a_server_on_the_hosts_loopback_at_its_gateway(running: Running, version: int) -> None:
    running.reaches_host(version)


@VERSIONS
def test_forwards_of_tcp_and_udp_reach_the_guest(running: Running, version: int) -> None:
    if version == 6 and running.backend == "slirp":  # QEMU's has none
        with pytest.raises(ConnectionRefusedError):
            running.banner(6)
        return
    assert running.banner(version) == "SSH-2.0-virlet-guest"
    assert running.echo(version) == b"ping"


def test_an_address_of_the_network_leads_to_a_service_of_the_hosts(running: Running) -> None:
    if not running.backend.startswith("slirp"):
        return  # passt has no such thing, and says so: tests/net/test_guest_forwards.py
    running.console.check(f"{ASK} | nc -w 20 10.0.2.100 7 >/tmp/said &")
    running.service.settimeout(20)
    peer, _ = running.service.accept()
    with peer:
        peer.settimeout(20)
        assert peer.recv(100) == b"guest\n"
        peer.sendall(b"host\n")
        running.console.check("until grep -q host /tmp/said; do usleep 50000; done", 20)


@VERSIONS
def test_what_is_sent_arrives_whole_each_way(running: Running, version: int) -> None:
    into, out = whole_each_way(running.console, version, GATEWAY[version])
    print(f"{running.backend} IPv{version}: {MEGABYTES} MB in {into:.1f} s, out {out:.1f} s")


def test_the_network_survives_suspend_and_resume(running: Running) -> None:
    running.session.virsh("suspend", "m")
    running.session.virsh("resume", "m")
    running.works()


def test_the_network_survives_a_reset(running: Running) -> None:
    running.session.virsh("reset", "m")
    running.again()
    running.works()


def test_the_network_survives_a_reboot(running: Running) -> None:
    running.session.virsh("reboot", "m")
    running.console.until("reboot: Power down", 60)  # the guest's last words: virletd resets it instead
    running.again()
    running.works()
    assert running.console.lease.ip == str(VIEW.guest4)
    assert IPv6Address(VIEW.guest6).exploded.replace(":", "") in running.console.check("cat /proc/net/if_inet6")


def nameservers() -> list[str]:
    """The host's resolvers."""
    with open("/etc/resolv.conf") as file:
        words = [line.split() for line in file if line.startswith("nameserver")]
    return [line[1] for line in words if len(line) > 1]


def asked(resolver: str) -> bool:
    """Whether *resolver* answers at all, be it that there is no such name."""
    query = b"\x12\x34\x01\x00\0\1\0\0\0\0\0\0\x06virlet\x07invalid\0\0\1\0\1"
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        try:
            sock.sendto(query, (resolver, 53))
            return bool(sock.recv(512))
        except OSError:
            return False
