from __future__ import annotations

import os
import socket
from ipaddress import ip_address

import pytest

from virlet.proc import sockets
from virlet.proc.sockets import Listeners, ListeningSocket, PortRange, holder, listeners

LOOPBACK = ip_address("127.0.0.1")


def find(found: list[ListeningSocket], sock: socket.socket) -> ListeningSocket | None:
    return next((each for each in found if each.inode == os.fstat(sock.fileno()).st_ino), None)


def asked(proto: str, port: int) -> Listeners:
    return listeners([PortRange(proto, port, port)])


def test_a_listening_tcp_socket_is_found_with_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = find(asked("tcp", port).on("tcp", port), server)
        assert found is not None
        assert (found.address, found.port, found.uid) == (LOOPBACK, port, os.getuid())
        assert str(os.getpid()) in holder(found)
        assert os.fstat(server.fileno()).st_ino in asked("tcp", port).inodes


def test_a_bound_udp_socket_is_found() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", 0))
        assert find(asked("udp", sock.getsockname()[1]).on("udp", sock.getsockname()[1]), sock)


def test_a_socket_that_only_is_bound_or_connected_does_not_listen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as client:
        port = client.getsockname()[1]
        assert not asked("tcp", port).on("tcp", port)


def test_only_what_was_asked_for_is_kept() -> None:
    with socket.create_server(("127.0.0.1", 0)) as wanted, socket.create_server(("127.0.0.1", 0)) as other:
        ports = wanted.getsockname()[1], other.getsockname()[1]
        for way in (sockets._diag, sockets._proc_net):
            found = list(way("tcp", socket.AF_INET, sockets._wanted([PortRange("tcp", ports[0], ports[0])])["tcp"]))
            assert find(found, wanted)
            assert {each.port for each in found} == {ports[0]}
        with pytest.raises(ValueError, match=f"asked about tcp port {ports[0]}"):
            asked("udp", ports[0]).on("tcp", ports[0])
        with pytest.raises(ValueError, match="asked about tcp port 1"):
            asked("tcp", ports[0]).on("tcp", 1)
        both = listeners([PortRange("tcp", min(ports), max(ports)), PortRange("udp", 1, 65535)])
        assert all(find(both.on("tcp", port), sock) for port, sock in zip(ports, (wanted, other), strict=True))


def test_nobody_is_asked_about_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_diag", None)
    assert not listeners([]).inodes


@pytest.mark.skipif(not socket.has_ipv6, reason="elsewhere: this Python has no IPv6")
def test_ipv6_is_found_too() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as server:
        found = find(asked("tcp", server.getsockname()[1]).on("tcp", server.getsockname()[1]), server)
        assert found is not None
        assert found.address == ip_address("::1")


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
@pytest.mark.parametrize("proto", ["tcp", "udp"])
def test_the_kernel_and_the_files_tell_the_same(proto: str, family: socket.AddressFamily) -> None:
    host = "127.0.0.1" if family == socket.AF_INET else "::1"
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as sock:
        sock.bind((host, 0))
        if proto == "tcp":
            sock.listen()
        wanted = sockets._wanted([PortRange(proto, sock.getsockname()[1], sock.getsockname()[1])])[proto]
        told, read = (find(list(way(proto, family, wanted)), sock) for way in (sockets._diag, sockets._proc_net))
        assert told is not None
        assert told == read


def entry(address: str) -> ListeningSocket:
    return ListeningSocket("tcp", ip_address(address), 80, 0, 1)


@pytest.mark.parametrize(
    ("held", "wanted", "in_the_way"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "127.0.0.2", False),
        ("127.0.0.1", None, True),
        ("0.0.0.0", "127.0.0.1", True),
        ("::", "127.0.0.1", True),
        ("0.0.0.0", "::1", False),
        ("127.0.0.1", "0.0.0.0", True),
        ("127.0.0.1", "::", True),
        ("::1", "0.0.0.0", False),
        ("::1", "127.0.0.1", False),
    ],
)
def test_who_is_in_whose_way(held: str, wanted: str | None, in_the_way: bool) -> None:
    assert entry(held).takes(ip_address(wanted) if wanted else None) is in_the_way


def test_a_holder_of_another_user_is_named_by_the_user() -> None:
    uid = 0 if os.getuid() else 1
    assert holder(ListeningSocket("tcp", LOOPBACK, 80, uid, 1)).startswith("a process of user '")
    assert holder(ListeningSocket("tcp", LOOPBACK, 80, 4_000_000_000, 1)) == "a process of user 'uid 4000000000'"


def test_a_holder_that_hides_is_at_least_ours() -> None:
    assert holder(ListeningSocket("tcp", LOOPBACK, 80, os.getuid(), 0)) == "another process of yours"
