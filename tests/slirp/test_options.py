"""The helper's command line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.slirp.forwards import eui64
from virlet.slirp.options import BadOption, HostForward, guest_forward, host_forward, parse_options


def network(*argv: str):  # type: ignore[no-untyped-def]
    options = parse_options(["--fd", "3", *argv])
    assert options is not None
    return options.network


def test_what_is_not_said_is_qemus_user_network() -> None:
    net = network()
    assert net.net == IPv4Network("10.0.2.0/24")
    assert [str(net.address(part)) for part in (0x0202, 0x0203, 0x020F)] == ["10.0.2.2", "10.0.2.3", "10.0.2.15"]
    assert net.address6(2) == IPv6Address("fec0::2")


@pytest.mark.parametrize(
    ("argv", "net"),
    [
        (("--net=192.168.7.9/24",), "192.168.7.0/24"),
        (("--net", "192.168.7.9", "--mask", "255.255.0.0"), "192.168.0.0/16"),
        (("--net=10.1.2.3",), "10.1.2.0/24"),
    ],
)
def test_a_network_is_named_with_a_prefix_a_mask_or_neither(argv: tuple[str, ...], net: str) -> None:
    assert network(*argv).net == IPv4Network(net)


def test_an_ipv6_network_is_named_in_both_ways() -> None:
    assert network("--net6=fd00:1::/64").prefix6 == IPv6Address("fd00:1::")
    assert network("--prefix-ipv6=fd00:2::", "--prefix-length-ipv6=64").prefix6 == IPv6Address("fd00:2::")


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ((), "--fd is missing"),
        (("--fd", "x"), "--fd"),
        (("--fd", "3", "--frobnicate"), "--frobnicate"),
        (("--fd", "3", "--mtu", "67"), "68 to 65520"),
        (("--fd", "3", "--disable-ipv4", "--disable-ipv6"), "nothing"),
        (("--fd", "3", "--net", "10.0.2.0/33"), "--net"),
        (("--fd", "3", "--mask", "24"), "--mask without --net"),
        (("--fd", "3", "--host", "10.0.3.2"), "not in 10.0.2.0/24"),
        (("--fd", "3", "--dns", "fec0::3"), "no IPv4 address"),
        (("--fd", "3", "--net6", "fd00::/56"), "64 alone"),
        (("--fd", "3", "--net6", "fd00::/x"), "no number"),
        (("--fd", "3", "--guest-mac", "52:54"), "no MAC address"),
        (("--fd", "3", "--hostfwd", "sctp::1-:1"), "PROTO"),
        (("--fd", "3", "--hostfwd", "tcp::0-:22"), "no port 0"),
        (("--fd", "3", "--hostfwd", "tcp::65536-:22"), "no port 65536"),
        (("--fd", "3", "--hostfwd", "tcp:[::1]:22-10.0.2.15:22"), "one family"),
        (("--fd", "3", "--guestfwd", "tcp:10.0.2.100:80-unix:web.sock"), "absolute"),
        (("--fd", "3", "--guestfwd", "tcp:10.0.2.100:80-tcp::80"), "address is missing"),
        (("--fd", "3", "--guestfwd", "udp:10.0.2.100:80-cmd:cat"), "use tcp:"),
    ],
)
def test_what_is_wrong_is_named(argv: tuple[str, ...], words: str) -> None:
    with pytest.raises(BadOption, match=words):
        parse_options(argv)


def test_forwards_name_both_ends_or_leave_them_to_us() -> None:
    assert host_forward("tcp::2022-:22") == HostForward(False, None, 2022, None, 22)
    assert host_forward("udp:127.0.0.1:53-10.0.2.15:53") == HostForward(
        True, IPv4Address("127.0.0.1"), 53, IPv4Address("10.0.2.15"), 53
    )
    assert host_forward("tcp:[::1]:80-[]:80").host == IPv6Address("::1")
    assert host_forward("tcp::80-[fd00::1]:80").host == IPv6Address("::")


def test_a_command_may_hold_anything() -> None:
    assert guest_forward("tcp:10.0.2.100:7-cmd:sh -c 'a:b-c'").target == "sh -c 'a:b-c'"


def test_two_dashes_are_no_value() -> None:
    with pytest.raises(BadOption, match="--net6=--"):
        parse_options(["--fd=3", "--net6=--"])


def test_capabilities_need_no_socket() -> None:
    assert parse_options(["--print-capabilities"]) is None


def test_the_guests_ipv6_address_is_made_of_its_mac() -> None:
    assert eui64(IPv6Address("fec0::"), bytes.fromhex("525400123456")) == IPv6Address("fec0::5054:ff:fe12:3456")


@given(st.text(max_size=40))
def test_any_words_are_a_forward_or_refused(text: str) -> None:
    for parse in (host_forward, guest_forward):
        try:
            parse(f"tcp:{text}")
        except BadOption:
            continue
