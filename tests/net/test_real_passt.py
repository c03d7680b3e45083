"""The passt of this machine does what its planned command line means: a guest is played over the socket."""

from __future__ import annotations

import os
import re
import shutil
import socket
import struct
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.net.base import Env
from virlet.net.passt import Passt
from virlet.plan.base import render
from virlet.plan.facts import PasstFacts, Support

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]
MAC = bytes.fromhex("525400123456")
pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(shutil.which("passt") is None, reason="no passt here"),
    pytest.mark.skipif(os.getuid() == 0, reason="run this as an ordinary user"),
]


def _facts() -> PasstFacts:
    found = shutil.which("passt") or ""
    said = subprocess.run([found, "--help"], capture_output=True, text=True, check=False)
    options = frozenset(re.findall(r"--([a-z0-9-]+)", said.stdout + said.stderr))
    return PasstFacts(found, options, Support(True))


@contextmanager
def _running(nic: Interface, env: Env) -> Iterator[socket.socket]:
    """passt as planned; the guest's end of its connection."""
    helper = Passt().plan(nic, env).helper
    assert helper is not None
    guest, theirs = socket.socketpair()
    argv = render(helper.argv, lambda source: theirs.fileno())
    with guest, theirs:
        passt = subprocess.Popen(argv, pass_fds=(theirs.fileno(),), stderr=subprocess.PIPE)
        theirs.close()
        guest.settimeout(10)
        try:
            yield guest
        finally:
            passt.terminate()
            _, said = passt.communicate(timeout=10)
    assert passt.returncode in (0, -15), said.decode()


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _discover() -> bytes:
    """A DHCPDISCOVER (RFC 2131) that asks for mask, router, nameservers, name and MTU, as an Ethernet frame."""
    head = struct.pack("!BBBBIHH16x16s192x", 1, 1, 6, 0, 0x1234, 0, 0x8000, MAC)
    bootp = head + b"\x63\x82\x53\x63" + bytes([53, 1, 1, 55, 5, 1, 3, 6, 12, 26, 255])
    udp = struct.pack("!HHHH", 68, 67, 8 + len(bootp), 0) + bootp
    ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, bytes(4), b"\xff" * 4)
    ip = ip[:10] + struct.pack("!H", _checksum(ip)) + ip[12:]
    return b"\xff" * 6 + MAC + b"\x08\x00" + ip + udp


def _who_has(address: str) -> bytes:
    """An ARP question (RFC 826) as an Ethernet frame; passt answers for every address but the guest's own."""
    head = struct.pack("!HHBBH", 1, 0x0800, 6, 4, 1)
    return b"\xff" * 6 + MAC + b"\x08\x06" + head + MAC + bytes([10, 0, 2, 15]) + bytes(6) + IPv4Address(address).packed


def _until_arp(guest: socket.socket) -> Iterator[bytes]:
    """The frames of IPv4 and ARP that come, to the first answer to an ARP question."""
    for frame in _frames(guest):
        if frame[12:14] in (b"\x08\x00", b"\x08\x06"):
            yield frame
        if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2":
            return


def _frames(guest: socket.socket) -> Iterator[bytes]:
    """Frames as QEMU's stream netdev reads them: each after its length."""
    data = b""
    while True:
        while len(data) >= 4 and len(data) >= 4 + (size := int.from_bytes(data[:4], "big")):
            yield data[4 : 4 + size]
            data = data[4 + size :]
        data += guest.recv(65_536)


def _lease(guest: socket.socket) -> tuple[str, dict[int, bytes]]:
    """The address that is offered, and the options of the offer."""
    frame = _discover()
    guest.sendall(struct.pack("!I", len(frame)) + frame)
    offer = next(frame for frame in _frames(guest) if frame[12:14] == b"\x08\x00" and frame[23] == 17)[42:]
    options, rest = {}, offer[240:]
    while rest and rest[0] != 255:
        if rest[0]:
            options[rest[0]] = rest[2 : 2 + rest[1]]
        rest = rest[1:] if not rest[0] else rest[2 + rest[1] :]
    return str(IPv4Address(offer[16:20])), options


def _address(option: bytes) -> str:
    return str(IPv4Address(option[:4]))


def test_an_interface_without_a_backend_gets_the_lease_of_qemus_user_network(nic_of: NicOf, env_of: EnvOf) -> None:
    facts = _facts()
    with _running(nic_of(), env_of(passt=facts, nameservers=("192.0.2.53",))) as guest:
        address, options = _lease(guest)
    assert address == "10.0.2.15"
    assert _address(options[1]) == "255.255.255.0"
    assert _address(options[3]) == "10.0.2.2"
    if facts.knows("dns-host"):
        assert _address(options[6]) == "10.0.2.3"


def test_a_named_passt_offers_the_address_and_the_mtu_of_the_xml(nic_of: NicOf, env_of: EnvOf) -> None:
    # With the host's gateway, a passt of 2023 widens the mask until that gateway is inside.
    inside = "<ip address='192.168.221.122' prefix='24'/><route gateway='192.168.221.1'/><mtu size='1400'/>"
    nic = nic_of(inside, passt=True)
    with _running(nic, env_of(passt=_facts())) as guest:
        address, options = _lease(guest)
    assert (address, _address(options[1])) == ("192.168.221.122", "255.255.255.0")
    assert int.from_bytes(options[26], "big") == 1400


OPTIONS = {
    "messages": "trace='yes'",
    "quiet": "quiet='yes'",
    "mac": "mac='52:55:0a:00:02:02'",
    "outbound": "<virlet:outbound address='192.0.2.7'/><virlet:outbound address='2001:db8::7'/>",
    "dns": "<virlet:dns address='192.0.2.53'/><virlet:dns address='2001:db8::53'/>",
    "no dns": "<virlet:dns address='none'/>",
    "search": "<virlet:search domain='a.example'/><virlet:search domain='b.example'/>",
    "no search": "<virlet:search domain='none'/>",
    "offers": "dhcp-dns='no' dhcp-search='no'",
    "loopback": "<virlet:map-host-loopback address='192.0.2.8'/><virlet:map-host-loopback address='2001:db8::8'/>",
    "no loopback": "<virlet:map-host-loopback address='none'/>",
    "guest address": "<virlet:map-guest-addr address='192.0.2.9'/>",
    "dns-forward": "<virlet:dns-forward address='192.0.2.3'/><virlet:dns-forward address='2001:db8::3'/>",
    "dns-host": "<virlet:dns-host address='127.0.0.53'/><virlet:dns-host address='::1'/>",
    "protocols": "tcp='no' udp='no' icmp='no'",
    "IPv6 services": "ndp='no' dhcpv6='no' ra='no'",
    "freebind": "freebind='yes'",
    "IPv4 alone": "ipv6='no'",
    "param": "<virlet:param value='--log-size'/><virlet:param value='4194304'/>",
}


@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_is_understood_or_refused_by_name(name: str, nic_of: NicOf, env_of: EnvOf) -> None:
    said = OPTIONS[name]
    attributes, inside = ("", said) if said.startswith("<") else (said, "")
    nic = nic_of(
        "<ip address='192.168.221.122' prefix='24'/><route gateway='192.168.221.1'/>"
        f"<virlet:passt xmlns:virlet='{VIRLET}' {attributes}>{inside}</virlet:passt>",
        passt=True,
    )
    env = env_of(passt=_facts())
    if problems := list(Passt().check(nic, env)):
        assert all("has no --" in problem.message for problem in problems)
        return
    with _running(nic, env) as guest:
        address, options = _lease(guest)
    assert address == "192.168.221.122"
    if name == "dns":
        assert _address(options[6]) == "192.0.2.53"
    elif name in ("no dns", "offers"):
        assert 6 not in options
    elif name == "search":
        assert b"example" in options[119]


def test_a_guest_without_dhcp_gets_no_offer_and_a_capture_holds_its_frames(
    nic_of: NicOf, env_of: EnvOf, tmp_path: Path
) -> None:
    said = f"dhcp='no' pcap-file='{tmp_path}/frames'"
    nic = nic_of(f"<virlet:passt xmlns:virlet='{VIRLET}' {said}/>", passt=True)
    with _running(nic, env_of(passt=_facts())) as guest:
        for frame in (_discover(), _who_has("192.0.2.77")):
            guest.sendall(struct.pack("!I", len(frame)) + frame)
        # Frames are taken in turn, and an offer would have come before the answer to the second one.
        kinds = [frame[12:14] for frame in _until_arp(guest)]
    assert set(kinds) == {b"\x08\x06"}  # A newer passt asks for the guest, too.
    assert (tmp_path / "frames").read_bytes()[:4] in (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4")


def test_exactly_the_planned_ports_are_listened_on(nic_of: NicOf, env_of: EnvOf) -> None:
    first = _three_free_ports()
    nic = nic_of(
        f"<portForward proto='tcp' address='127.0.0.1'><range start='{first}' end='{first + 2}' to='1000'/>"
        f"<range start='{first + 1}' exclude='yes'/></portForward>",
        passt=True,
    )
    with _running(replace(nic), env_of(passt=_facts())) as guest:
        _lease(guest)
        assert [_accepts(port) for port in range(first, first + 3)] == [True, False, True]


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _three_free_ports() -> int:
    for first in range(20_000, 30_000, 3):
        if not any(_accepts(port) for port in range(first, first + 3)):
            return first
    raise AssertionError("no three free ports")
