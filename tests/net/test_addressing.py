"""What the guest of an interface without a backend sees."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.model.interface import InterfaceIp
from virlet.net.addressing import class_prefix, guest_view

MAC = "52:54:00:12:34:56"


def test_without_ip_elements_it_is_qemus_own_network() -> None:
    view = guest_view((), MAC)
    assert (str(view.guest4), view.prefix4, str(view.host4), str(view.dns4)) == (
        "10.0.2.15",
        24,
        "10.0.2.2",
        "10.0.2.3",
    )
    assert (str(view.guest6), str(view.host6), str(view.dns6)) == (
        "fec0::5054:ff:fe12:3456",
        "fec0::2",
        "fec0::3",
    )
    assert str(guest_view((), "").guest6) == "fec0::15"


@pytest.mark.parametrize(
    ("address", "prefix", "guest", "host"),
    [
        ("172.17.1.1", 16, "172.17.2.15", "172.17.2.2"),
        ("172.17.1.1", 24, "172.17.1.15", "172.17.1.2"),
        ("172.17.1.1", 23, "172.17.0.15", "172.17.0.2"),
        ("10.1.2.3", None, "10.0.2.15", "10.0.2.2"),
        ("192.168.7.0", None, "192.168.2.15", "192.168.2.2"),
        ("172.17.1.1", None, "172.16.2.15", "172.16.2.2"),
    ],
)
def test_an_address_names_the_network_and_not_the_guest(
    address: str, prefix: int | None, guest: str, host: str
) -> None:
    view = guest_view((InterfaceIp(address=ip_address(address), prefix=prefix),), MAC)
    assert (str(view.guest4), str(view.host4)) == (guest, host)


@given(st.ip_addresses(v=4), st.integers(4, 27))
def test_guest_host_and_nameserver_are_different_addresses_of_the_network(address: IPv4Address, prefix: int) -> None:
    view = guest_view((InterfaceIp(address=address, prefix=prefix),), MAC)
    network = IPv4Network((address, prefix), strict=False)
    inside = {view.guest4, view.host4, view.dns4}
    assert len(inside) == 3
    assert all(one in network for one in inside)
    assert network.network_address not in inside
    assert network.broadcast_address not in inside


def test_prefixes_by_class() -> None:
    words = ("9.1.1.1", "130.1.1.1", "192.168.1.1", "200.1.1.1", "172.20.0.1", "240.0.0.1")
    assert [class_prefix(IPv4Address(word)) for word in words] == [8, 16, 16, 24, 12, 28]
