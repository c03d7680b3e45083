"""The real helper around the real libslirp: what a guest on the wire sees, and what the process may still do."""

from __future__ import annotations

import ctypes.util
import errno
import json
import os
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from virlet.proc.confine import landlock_version
from virlet.slirp.complaints import BURST

pytestmark = pytest.mark.skipif(not ctypes.util.find_library("slirp"), reason="libslirp is not installed")

FIN, SYN, PSH, ACK = 1, 2, 8, 16
COOKIE = bytes.fromhex("63825363")


def checksum(data: bytes) -> int:
    """RFC 1071, of an even number of bytes."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    return ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF


def run(*options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "virlet.slirp", *options], capture_output=True, text=True, timeout=20, check=False
    )


def test_it_says_what_it_can_do_as_json() -> None:
    said = json.loads(run("--print-capabilities").stdout)
    assert said["type"] == "slirp-helper"
    assert {"ipv4", "ipv6", "tftp", "restrict", "exit-with-parent"} <= set(said["features"])


def test_a_wrong_option_is_named_and_ends_it() -> None:
    done = run("--fd", "3", "--mtu", "70000")
    assert done.returncode == 2
    assert "--mtu 70000" in done.stderr


def test_a_descriptor_that_is_no_datagram_socket_is_refused(tmp_path: Path) -> None:
    done = run("--fd", "0")
    assert done.returncode == 1
    assert "--fd 0" in done.stderr


def dhcp_options(frame: bytes) -> dict[int, bytes]:
    rest, found = frame[frame.index(COOKIE) + 4 :], {}
    while rest and rest[0] != 255:
        found[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[2 + rest[1] :]
    return found


def ask_dhcp(wire, kind: int, *options: bytes) -> dict[int, bytes]:  # type: ignore[no-untyped-def]
    head = struct.pack("!BBBBIHH4s4s4s4s", 1, 1, 6, 0, 7, 0, 0, *[bytes(4)] * 4)
    body = head + bytes.fromhex("525400123456") + bytes(10 + 192) + COOKIE + bytes((53, 1, kind)) + b"".join(options)
    wire.udp(68, 67, body + b"\xff", IPv4Address("255.255.255.255"), IPv4Address("0.0.0.0"))
    frame = wire.receive(lambda frame: frame[12:14] == b"\x08\x00" and frame[36:38] == b"\0\x44")
    return {0: frame[58:62], **dhcp_options(frame)}


def test_dhcp_gives_the_addresses_of_qemus_user_network(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire("--hostname", "guest1", "--domainname", "example.org", "--dns-suffixes", "a.example")
    offer = ask_dhcp(one, 1)
    assert offer[53] == b"\x02"
    lease = ask_dhcp(one, 3, bytes((50, 4)) + offer[0])
    assert IPv4Address(lease[0]) == IPv4Address("10.0.2.15")
    assert lease[1] == bytes((255, 255, 255, 0))
    assert IPv4Address(lease[3]) == IPv4Address("10.0.2.2")
    assert IPv4Address(lease[6]) == IPv4Address("10.0.2.3")
    assert lease[12] == b"guest1"
    assert lease[15] == b"example.org"
    assert b"example" in lease[119]


def test_another_network_moves_every_address(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire("--net", "172.17.1.1/16")
    lease = ask_dhcp(one, 1)
    assert IPv4Address(lease[0]) == IPv4Address("172.17.2.15")
    assert IPv4Address(lease[3]) == IPv4Address("172.17.2.2")


def test_the_gateway_answers_arp_and_ping(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire()
    assert one.resolve() == bytes.fromhex("52550a000202")
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1) + b"ping"
    total = ~sum(struct.unpack("!6H", echo)) & 0xFFFFFFFF
    folded = ~((~total & 0xFFFF) + (~total >> 16 & 0xFFFF)) & 0xFFFF
    one.ip(1, echo[:2] + folded.to_bytes(2, "big") + echo[4:])
    answer = one.receive(lambda frame: frame[12:14] == b"\x08\x00" and frame[23] == 1)
    assert answer[34] == 0
    assert answer[42:46] == b"ping"


def test_a_guest_talks_tcp_to_the_host_at_the_gateways_address(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire()
    one.resolve()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        port = server.getsockname()[1]
        one.tcp(4000, port, 100, 0, SYN)
        _, seq, ack, _ = one.receive_tcp(4000, SYN | ACK)
        assert ack == 101
        one.tcp(4000, port, 101, seq + 1, ACK)
        one.tcp(4000, port, 101, seq + 1, ACK | PSH, b"hello")
        peer, _ = server.accept()
        with peer:
            peer.settimeout(10)
            assert peer.recv(100) == b"hello"
            peer.sendall(b"world" * 8000)
            got = b""
            while len(got) < 40_000:
                _, number, _, data = one.receive_tcp(4000, ACK)
                if number == (seq + 1 + len(got)) & 0xFFFFFFFF:
                    got += data
                one.tcp(4000, port, 106, (seq + 1 + len(got)) & 0xFFFFFFFF, ACK)
            assert got == b"world" * 8000


def test_a_restricted_guest_reaches_nobody(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire("--restrict")
    one.resolve()
    free = wire()
    free.resolve()
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(10)
        one.tcp(4000, server.getsockname()[1], 100, 0, SYN)
        assert one.resolve()  # Frames are taken in turn: the one before has been looked at.
        free.tcp(4001, server.getsockname()[1], 100, 0, SYN)
        server.accept()[0].close()  # As would have been seen, and before.
        free.receive_tcp(4001, SYN | ACK)
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()


def test_a_guest_that_misbehaves_at_full_speed_fills_no_log(wire) -> None:  # type: ignore[no-untyped-def]
    """Router advertisements (RFC 4861) are the gateway's to send: libslirp complains of each."""
    one = wire()
    one.resolve()
    source, everybody = bytes.fromhex("fe80" + "00" * 13 + "09"), bytes.fromhex("ff02" + "00" * 13 + "01")
    said = struct.pack("!BBHBBHII", 134, 0, 0, 64, 0, 0, 0, 0)
    pseudo = source + everybody + struct.pack("!II", len(said), 58)
    said = said[:2] + checksum(pseudo + said).to_bytes(2, "big") + said[4:]
    packet = struct.pack("!IHBB", 6 << 28, len(said), 58, 255) + source + everybody + said
    for _ in range(200):
        one.send(0x86DD, packet)
    assert one.resolve()  # Frames are taken in turn.
    one.process.kill()
    assert one.process.stderr is not None
    lines = one.process.stderr.read().splitlines()
    assert len(lines) == BURST
    assert all(line.startswith("guest: ") for line in lines)


def free_port(host: str = "127.0.0.1") -> int:
    """A port that is free and stays so: from below those that the kernel gives to whoever asks for any."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for port in range(30_000 + os.getpid() % 100 * 20, 32_768):
        with socket.socket(family) as stream, socket.socket(family, socket.SOCK_DGRAM) as datagrams:
            try:
                stream.bind((host, port))
                datagrams.bind((host, port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return port
    raise AssertionError("no port is free")


def test_a_forwarded_port_reaches_the_guest(wire) -> None:  # type: ignore[no-untyped-def]
    port = free_port()
    one = wire("--hostfwd", f"tcp:127.0.0.1:{port}-:22")
    ask_dhcp(one, 1)
    with socket.create_connection(("127.0.0.1", port), 10):
        source, _, _, _ = one.receive_tcp(22, SYN)
        assert source


def test_a_forwarded_udp_port_reaches_the_guest(wire) -> None:  # type: ignore[no-untyped-def]
    port = free_port()
    one = wire("--hostfwd", f"udp:127.0.0.1:{port}-:5353")
    ask_dhcp(one, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"datagram", ("127.0.0.1", port))
        frame = one.receive(lambda frame: frame[12:14] == b"\x08\x00" and frame[36:38] == (5353).to_bytes(2, "big"))
        assert frame[42:50] == b"datagram"


def test_a_forward_of_ipv6_listens_there_and_looks_for_the_guest(wire) -> None:  # type: ignore[no-untyped-def]
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("this host has no IPv6")
    one = wire("--guest-mac", "52:54:00:12:34:56", "--hostfwd", f"tcp:[::1]:{port}-:22")
    assert one.ready
    with socket.create_connection(("::1", port), 10):
        # A neighbour solicitation for the address that the guest makes of its MAC.
        identifier = bytes.fromhex("505400fffe123456")
        one.receive(lambda frame: frame[12:14] == b"\x86\xdd" and frame[54] == 135 and frame[70:78] == identifier)


def ask_service(one, port: int, to: bytes = b"hello\n") -> bytes:  # type: ignore[no-untyped-def]
    """What answers at 10.0.2.100 when the guest says *to*."""
    there = IPv4Address("10.0.2.100")
    one.resolve()
    one.tcp(4000, port, 100, 0, SYN, there=there)
    _, seq, _, _ = one.receive_tcp(4000, SYN | ACK)
    one.tcp(4000, port, 101, seq + 1, ACK, there=there)
    one.tcp(4000, port, 101, seq + 1, ACK | PSH, to, there=there)
    while True:
        _, _, _, data = one.receive_tcp(4000, ACK)
        if data:
            return bytes(data)


def test_a_command_answers_the_guest(wire) -> None:  # type: ignore[no-untyped-def]
    assert ask_service(wire("--guestfwd", "tcp:10.0.2.100:7-cmd:cat -"), 7) == b"hello\n"


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
def test_a_command_may_read_and_write_nothing(wire, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    tmp_path.chmod(0o777)
    command = f"sh -c 'read x; (echo no >{tmp_path}/file) 2>/dev/null && echo written || echo refused'"
    assert ask_service(wire("--guestfwd", f"tcp:10.0.2.100:7-cmd:{command}"), 7) == b"refused\n"


def test_a_unix_socket_answers_the_guest(wire, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        server.listen()
        with answering_once(server):
            assert ask_service(wire("--guestfwd", f"tcp:10.0.2.100:7-unix:{tmp_path}/socket"), 7) == b"HELLO\n"


def test_an_address_of_the_host_answers_a_restricted_guest(wire) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as server:
        target = f"tcp:127.0.0.1:{server.getsockname()[1]}"
        with answering_once(server):
            assert ask_service(wire("--restrict", "--guestfwd", f"tcp:10.0.2.100:7-{target}"), 7) == b"HELLO\n"


@contextmanager
def answering_once(server: socket.socket) -> Iterator[None]:
    """Say what the first client says, in capitals."""
    server.settimeout(20)

    def serve() -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(peer.recv(100).upper())

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def test_an_address_for_guestfwd_that_is_the_hosts_is_refused_by_name() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "virlet.slirp",
                "--fd",
                str(theirs.fileno()),
                "--guestfwd",
                "tcp:10.0.2.2:7-cmd:cat",
            ],
            pass_fds=[theirs.fileno()],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    assert done.returncode == 1
    assert "10.0.2.2 port 7" in done.stderr


def test_ports_listen_before_it_says_that_it_is_ready(wire) -> None:  # type: ignore[no-untyped-def]
    port = free_port()
    assert wire("--hostfwd", f"tcp:127.0.0.1:{port}-:22").ready
    with socket.socket() as sock, pytest.raises(OSError):
        sock.bind(("127.0.0.1", port))


def test_a_port_that_is_taken_ends_it_and_is_named(wire) -> None:  # type: ignore[no-untyped-def]
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        one = wire("--hostfwd", f"tcp:127.0.0.1:{port}-:22")
        assert not one.ready
        assert one.process.wait(10) == 1
        assert f"TCP port {port} on 127.0.0.1: Address already in use" in one.process.stderr.read()


def test_it_ends_when_the_descriptor_that_it_was_told_to_watch_is_closed(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire()
    one.life.close()
    assert one.process.wait(10) == 0


def test_it_ends_with_its_parent_when_told_so() -> None:
    words = ["import os, socket, subprocess, sys, time",
             "a, b = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)",
             "r, w = os.pipe()",
             "p = subprocess.Popen([sys.executable, '-m', 'virlet.slirp', '--exit-with-parent', '--fd',"
             " str(b.fileno()), '--ready-fd', str(w)], pass_fds=[b.fileno(), w], stdout=subprocess.DEVNULL)",
             "os.close(w); os.read(r, 8); print(p.pid, flush=True); os.kill(os.getpid(), 9)"]  # fmt: skip
    done = subprocess.run([sys.executable, "-c", "\n".join(words)], stdout=subprocess.PIPE, timeout=20, check=False)
    pid = int(done.stdout)
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([fd], [], [], 10)[0]
    finally:
        os.close(fd)


def test_it_has_given_up_what_it_does_not_need(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire()
    status = Path(f"/proc/{one.process.pid}/status").read_text()
    assert re.search(r"^NoNewPrivs:\t1$", status, re.MULTILINE)
    maps = Path(f"/proc/{one.process.pid}/maps").read_text()
    assert not re.search(r"^\S+ .wx", maps, re.MULTILINE)


@pytest.mark.skipif(shutil.which("strace") is None, reason="strace is not installed")
def test_it_lets_a_later_daemon_trace_it_where_only_ancestors_may(tmp_path: Path) -> None:
    """No kernel with Yama is at hand; what it has to be told (PR_SET_PTRACER, any) is."""
    log = tmp_path / "calls"
    frames, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    life, held = socket.socketpair()
    words = ("--fd", str(theirs.fileno()), "--exit-with-fd", str(held.fileno()))
    with frames, theirs, life, held:
        life.shutdown(socket.SHUT_WR)
        done = subprocess.run(
            ["strace", "-e", "trace=prctl", "-o", str(log), sys.executable, "-m", "virlet.slirp", *words],
            pass_fds=[theirs.fileno(), held.fileno()],
            stdin=subprocess.DEVNULL,
            timeout=30,
            check=False,
        )
    assert done.returncode == 0
    assert re.search(r"prctl\((PR_SET_PTRACER|0x59616d61)[^,]*, (PR_SET_PTRACER_ANY|0xf{16}|-1)", log.read_text())


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
def test_tftp_reads_its_directory_and_not_what_a_link_in_it_leads_to(wire, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    shared, secret = tmp_path / "tftp", tmp_path / "secret"
    shared.mkdir()
    (shared / "pxe").write_bytes(b"boot me")
    secret.write_bytes(b"keep me")
    (shared / "link").symlink_to(secret)
    one = wire("--tftp", str(shared))
    one.resolve()
    assert b"boot me" in ask_tftp(one, b"pxe", 3000)
    assert b"keep me" not in ask_tftp(one, b"link", 3001)


def ask_tftp(one, name: bytes, port: int) -> bytes:  # type: ignore[no-untyped-def]
    one.udp(port, 69, b"\0\1" + name + b"\0octet\0", IPv4Address("10.0.2.2"))
    frame: bytes = one.receive(lambda frame: frame[12:14] == b"\x08\x00" and frame[36:38] == port.to_bytes(2, "big"))
    return frame


def test_a_guest_that_takes_nothing_costs_frames_and_not_the_helper(wire) -> None:  # type: ignore[no-untyped-def]
    port = free_port()
    one = wire("--hostfwd", f"udp:127.0.0.1:{port}-:5353")
    ask_dhcp(one, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for number in range(200):
            sock.sendto(b"%d" % number, ("127.0.0.1", port))
        one.receive(lambda frame: frame[36:38] == (5353).to_bytes(2, "big"))
    assert one.resolve()
    one.process.send_signal(signal.SIGTERM)
    assert one.process.wait(10) == -signal.SIGTERM


def test_garbage_from_the_guest_does_not_end_it(wire) -> None:  # type: ignore[no-untyped-def]
    one = wire()
    for size in (1, 13, 14, 15, 34, 60, 1514, 70_000):
        one.sock.send(os.urandom(size))
    assert one.resolve()
