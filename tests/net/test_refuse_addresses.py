"""Addresses and names that nobody could have are refused by name, and those that somebody has are not."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable

import pytest

from virlet.enums import ErrorCode
from virlet.model.domain import parse_domain
from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.net.refuse import refuse
from virlet.plan.check import check_define

NicOf = Callable[..., Interface]
PATH = "devices/interface[1]"
PASST = "<virlet:passt xmlns:virlet='" + VIRLET + "'"


def more(inside: str = "", attributes: str = "") -> str:
    return f"{PASST}{attributes}>{inside}</virlet:passt>"


def told(name: str, *addresses: str) -> str:
    """passt's option *name*, once for each address."""
    return more("".join(f"<virlet:{name} address='{address}'/>" for address in addresses))


NOBODYS = [
    ("0.0.0.0", "means no address"),
    ("127.0.0.1", "is every host's own loopback"),
    ("127.1.2.3", "is every host's own loopback"),
    ("224.0.0.1", "is a group's"),
    ("239.255.255.250", "is a group's"),
    ("255.255.255.255", "is everybody's"),
    ("::", "means no address"),
    ("::1", "is every host's own loopback"),
    ("ff02::1", "is a group's"),
    ("::ffff:10.0.2.15", "is the IPv4 address 10.0.2.15 in the form of IPv6"),
]
SOMEBODYS = [
    "10.0.2.15",
    "192.168.1.254",
    "169.254.1.1",
    "172.17.2.0",
    "240.0.0.1",
    "fec0::15",
    "fd00::1",
    "2001:db8::5",
]


@pytest.mark.parametrize(("address", "said"), NOBODYS)
def test_no_guest_has_an_address_that_nobody_has(address: str, said: str, nic_of: NicOf) -> None:
    (problem,) = refuse(nic_of(f"<ip address='{address}'/>", passt=True), PATH)
    assert problem.path == f"{PATH}/ip[1]/@address"
    assert said in problem.message
    assert problem.hint is not None
    assert "leave <ip> out" in problem.hint
    assert problem.code is ErrorCode.XML_ERROR


@pytest.mark.parametrize("address", SOMEBODYS)
def test_other_addresses_are_a_guests(address: str, nic_of: NicOf) -> None:
    prefix = " prefix='24'" if "." in address else ""
    assert not list(refuse(nic_of(f"<ip address='{address}'{prefix}/>", passt=True), PATH))


@pytest.mark.parametrize(
    ("inside", "below", "said"),
    [
        ("<ip address='fe80::15'/>", "ip[1]/@address", "is link-local"),
        ("<ip address='10.0.2.255' prefix='24'/>", "ip[1]/@address", "the broadcast address of 10.0.2.0/24"),
        ("<ip address='10.0.2.7' prefix='29'/>", "ip[1]/@address", "the broadcast address of 10.0.2.0/29"),
        ("<route gateway='0.0.0.0'/>", "route[1]/@gateway", "means no address"),
        ("<route gateway='127.0.0.1'/>", "route[1]/@gateway", "loopback"),
        ("<route gateway='224.0.0.5'/>", "route[1]/@gateway", "a group's"),
        ("<route family='ipv6' gateway='::1'/>", "route[1]/@gateway", "loopback"),
        ("<ip address='10.0.2.15'/><route gateway='10.0.2.15'/>", "route[1]/@gateway", "the guest's own address"),
        ("<portForward proto='tcp' address='224.0.0.1'/>", "portForward[1]/@address", "a group's"),
        ("<portForward proto='udp' address='255.255.255.255'/>", "portForward[1]/@address", "everybody's"),
        ("<portForward proto='tcp' address='::ffff:127.0.0.1'/>", "portForward[1]/@address", "the IPv4 address"),
        ("<backend type='passt' hostname='a b'/>", "backend/@hostname", "no host name"),
        ("<backend type='passt' fqdn='ä.example'/>", "backend/@fqdn", "no host name"),
        (f"<backend type='passt' hostname='{'a' * 255}'/>", "backend/@hostname", "at most 254 bytes"),
        (told("outbound", "255.255.255.255"), "virlet:passt/virlet:outbound[1]/@address", "everybody's"),
        (told("dns", "10.0.0.1", "127.0.0.53"), "virlet:passt/virlet:dns[2]/@address", "loopback"),
        (told("dns-forward", "127.0.0.53"), "virlet:passt/virlet:dns-forward[1]/@address", "loopback"),
        (told("dns-host", "0.0.0.0"), "virlet:passt/virlet:dns-host[1]/@address", "means no address"),
        (told("map-host-loopback", "::1"), "virlet:passt/virlet:map-host-loopback[1]/@address", "loopback"),
        (told("map-guest-addr", "224.0.0.1"), "virlet:passt/virlet:map-guest-addr[1]/@address", "a group's"),
        (told("dns", *(f"10.0.0.{n}" for n in range(1, 5))), "virlet:passt/virlet:dns[4]", "3 nameservers"),
        (more("<virlet:search domain='a.example'/>" * 7), "virlet:passt/virlet:search[7]", "6 search domains"),
        (more(attributes=" mac='00:00:00:00:00:00'"), "virlet:passt/@mac", "a MAC address of zeros"),
        (more(attributes=" mac='52:54:00:12:34:56'"), "virlet:passt/@mac", "the guest's own MAC address"),
    ],
)  # fmt: skip
def test_what_could_never_work_is_refused_with_its_place(inside: str, below: str, said: str, nic_of: NicOf) -> None:
    (problem,) = refuse(nic_of(inside, passt="<backend" not in inside), PATH)
    assert problem.path == f"{PATH}/{below}"
    assert said in problem.message


@pytest.mark.parametrize(
    "inside",
    [
        "<route gateway='10.0.2.2'/><route family='ipv6' gateway='fe80::1'/>",
        "<portForward proto='tcp' address='127.0.0.1'/><portForward proto='udp' address='::1'/>",
        "<portForward proto='tcp' address='0.0.0.0'/><portForward proto='tcp' address='::'/>",
        "<ip address='10.0.2.1' prefix='31'/>",
        "<ip address='10.0.2.255'/>",
        "<backend type='passt' hostname='a_b-c.d' fqdn='x.example.'/>",
        more("<virlet:dns-host address='127.0.0.53'/><virlet:outbound address='127.0.0.2'/>"),
        more("<virlet:dns address='none'/><virlet:map-host-loopback address='none'/>", " mac='52:54:00:12:34:57'"),
    ],
)
def test_what_can_work_is_not_refused(inside: str, nic_of: NicOf) -> None:
    assert not list(refuse(nic_of(inside, passt="<backend" not in inside), PATH))


@pytest.mark.parametrize("address", ["0.0.0.0", "127.0.0.0", "224.0.0.0", "255.255.255.255", "::1", "fe80::"])
def test_a_network_of_nobodys_addresses_is_none_for_any_backend(address: str, nic_of: NicOf) -> None:
    prefix = " prefix='24'" if "." in address else ""
    (problem,) = refuse(nic_of(f"<ip address='{address}'{prefix}/>"), PATH)
    assert problem.path == f"{PATH}/ip[1]/@address"


@pytest.mark.parametrize(
    "inside", ["<ip address='10.9.0.0' prefix='16'/>", "<ip address='172.17.2.255'/>", "<ip address='fd00::'/>"]
)
def test_without_passts_name_an_address_is_a_networks(inside: str, nic_of: NicOf) -> None:
    assert not list(refuse(nic_of(inside), PATH))


def test_the_line_is_told() -> None:
    nic = "<interface type='user'>\n<ip address='127.0.0.1'/>\n<backend type='passt'/></interface>"
    head = "<name>x</name><memory>1024</memory><os><type>hvm</type></os>"
    domain, source = parse_domain(f"<domain type='qemu'>{head}<devices>\n{nic}</devices></domain>")
    (problem,) = map(source.locate, check_define(domain))
    assert problem.line == 3


def said_by_passt(*words: str) -> tuple[int, str]:
    """Started for a guest that has hung up already."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.shutdown(socket.SHUT_RDWR)
        argv = ["passt", "--foreground", *words, "--fd", str(theirs.fileno())]
        ended = subprocess.run(
            argv, pass_fds=(theirs.fileno(),), capture_output=True, text=True, timeout=10, check=False
        )
        return ended.returncode, ended.stderr


@pytest.mark.e2e
@pytest.mark.skipif(shutil.which("passt") is None, reason="no passt here")
@pytest.mark.skipif(os.getuid() == 0, reason="run this as an ordinary user")
@pytest.mark.parametrize(
    ("option", "xml"),
    [
        ("address", "<ip address='{}'/>"),
        ("gateway", "<route family='{family}' gateway='{}'/>"),
        ("dns", told("dns", "{}")),
        ("dns-forward", told("dns-forward", "{}")),
        ("dns-host", told("dns-host", "{}")),
        ("map-host-loopback", told("map-host-loopback", "{}")),
        ("map-guest-addr", told("map-guest-addr", "{}")),
    ],
)
def test_nothing_that_the_passt_of_this_host_refuses_gets_as_far_as_passt(option: str, xml: str, nic_of: NicOf) -> None:
    for address in [address for address, _ in NOBODYS] + SOMEBODYS:
        status, said = said_by_passt(f"--{option}", address)
        if f"unrecognized option '--{option}'" in said:
            return
        family = "ipv6" if ":" in address else "ipv4"
        if status:
            assert list(refuse(nic_of(xml.format(address, family=family), passt=True), PATH)), said
