"""The addresses that a guest sees on an interface that names no backend: those of QEMU's user network, on each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

from virlet.model.interface import InterfaceIp

__all__ = ["View", "class_prefix", "eui64", "guest_view"]

_ALL = 0xFFFFFFFF
_GUEST, _HOST, _DNS = 0x020F, 0x0202, 0x0203
_NET4 = IPv4Address("10.0.2.0")
_NET6 = IPv6Address("fec0::")


@dataclass(frozen=True, slots=True)
class View:
    """The addresses of one user network, as its guest sees them."""

    guest4: IPv4Address
    prefix4: int
    host4: IPv4Address
    dns4: IPv4Address
    guest6: IPv6Address
    """What the guest makes of the prefix and its MAC address: the only one that a guest without DHCPv6 has."""
    host6: IPv6Address
    dns6: IPv6Address


def guest_view(ips: Iterable[InterfaceIp], mac: str) -> View:
    """What ``<ip>`` elements mean to QEMU's user network: an IPv4 address names the network, not the guest.

    *mac* is the guest's; without one its IPv6 address has the host part of the IPv4 one.

    The host parts are those of 10.0.2.15, 10.0.2.2 and 10.0.2.3 (``net/slirp.c`` of QEMU).
    """
    net4, prefix4, net6 = _NET4, 24, _NET6
    for ip in ips:
        if isinstance(ip.address, IPv4Address):
            net4, prefix4 = ip.address, ip.prefix or class_prefix(ip.address)
        else:
            net6 = ip.address
    mask = _ALL << (32 - prefix4) & _ALL

    def four(host: int) -> IPv4Address:
        return IPv4Address(int(net4) & mask | host & ~mask)

    def six(host: int) -> IPv6Address:
        return IPv6Address(int(net6) >> 64 << 64 | host)

    guest6 = eui64(net6, mac) if mac else six(0x15)
    return View(four(_GUEST), prefix4, four(_HOST), four(_DNS), guest6, six(2), six(3))


def eui64(prefix: IPv6Address, mac: str) -> IPv6Address:
    """The address that a guest makes of *prefix* (64 bits) and its *mac* (RFC 4291, appendix A)."""
    octets = bytes.fromhex(mac.replace(":", ""))
    return IPv6Address(prefix.packed[:8] + bytes((octets[0] ^ 2, *octets[1:3], 0xFF, 0xFE, *octets[3:])))


def class_prefix(address: IPv4Address) -> int:
    """The prefix that QEMU assumes when none is given: the class's, or the private block's."""
    number = int(address)
    if not number & 0x80000000:
        return 8
    if number >> 20 == 0xAC1:
        return 12
    if number >> 30 == 0b10 or number >> 16 == 0xC0A8:
        return 16
    return 24 if number >> 29 == 0b110 else 28
