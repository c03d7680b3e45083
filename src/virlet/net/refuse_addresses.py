"""Addresses and names that an interface's guest, or the host, could never have there.

passt refuses some of them when it starts and takes the others without a word: the network then carries nothing, or a
nameserver that is offered is never asked (tried with passt of 2023-03 and of 2026-07).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceIp
from virlet.model.passt import PasstOptions
from virlet.net.addressing import guest_view

__all__ = ["refuse_addresses"]

_Ip = IPv4Address | IPv6Address

_BROADCAST = IPv4Address("255.255.255.255")
_MOST_DNS = 3
"""Nameservers of one family that passt of 2026 offers; more are dropped in silence (2023: four, a fifth is refused)."""
_MOST_SEARCH = 6
"""Search domains that resolver(5) and passt know."""
_LONGEST_NAME = 254
"""Bytes of a host name (passt's ``PASST_MAXDNAME``)."""
_NAME = re.compile(r"[A-Za-z0-9_.-]+", re.ASCII)


def refuse_addresses(nic: Interface, path: str) -> Iterator[Problem]:
    """Every such problem of the interface that stands at *path*."""
    yield from _guest(nic, path)
    yield from _gateways(nic, path)
    for number, forward in enumerate(nic.port_forwards, 1):
        address = forward.address
        if address is not None and not address.is_unspecified and not address.is_loopback:
            yield from _strange(address, f"{path}/portForward[{number}]/@address", "nobody can listen on it", _OWN)
    if nic.wants_passt and nic.backend is not None:
        for name in ("hostname", "fqdn"):
            yield from _name(getattr(nic.backend, name), f"{path}/backend/@{name}")
    if nic.passt is not None:
        yield from _options(nic.passt, f"{path}/virlet:passt", nic.mac)


_OWN = "name an address of this host, or none for all"


def _bad(path: str, text: str, hint: str | None) -> Problem:
    return Problem(path, text, hint, code=ErrorCode.XML_ERROR)


def _kind(address: _Ip) -> str:
    """What makes it nobody's; empty for an address that a host can have."""
    if address.is_unspecified:
        return "means no address"
    if address.is_loopback:
        return "is every host's own loopback"
    if address.is_multicast:
        return "is a group's, not one host's"
    if address == _BROADCAST:
        return "is everybody's (broadcast)"
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return f"is the IPv4 address {address.ipv4_mapped} in the form of IPv6"
    return ""


def _strange(address: _Ip, path: str, so: str, hint: str | None) -> Iterator[Problem]:
    if kind := _kind(address):
        yield _bad(path, f"'{address}' {kind}: {so}", hint)


# What the guest is offered


def _guest(nic: Interface, path: str) -> Iterator[Problem]:
    for number, ip in enumerate(nic.ips, 1):
        where, address = f"{path}/ip[{number}]/@address", ip.address
        so, hint = "no guest can have it", _of_family(address)
        if isinstance(address, IPv6Address):
            if address.is_link_local:
                yield _bad(where, f"'{address}' is link-local, which every guest gives itself", hint)
            yield from _strange(address, where, so, hint)
        elif nic.wants_passt:
            yield from _strange(address, where, so, hint)
            yield from _broadcast(address, ip.prefix, where)
        else:
            yield from _network(address, ip, where)


def _of_family(address: _Ip) -> str:
    example = "10.0.2.15" if address.version == 4 else "fd00::15"
    return f"use one of a private network, as {example}, or leave <ip> out"


def _broadcast(address: IPv4Address, prefix: int | None, where: str) -> Iterator[Problem]:
    """Not the first address of a network: libvirt's own examples have a guest there, and Linux takes it."""
    if prefix and prefix <= 30:
        network = IPv4Network((int(address), prefix), strict=False)
        if address == network.broadcast_address:
            yield _bad(
                where, f"'{address}' is the broadcast address of {network}", f"use {network[1]} to {network[-2]}"
            )


def _network(address: IPv4Address, ip: InterfaceIp, where: str) -> Iterator[Problem]:
    """Without passt's name, the address says which network it is."""
    view = guest_view([ip], "")
    kind = _kind(address) or _kind(view.guest4)
    if kind:
        text = f"'{address}' {kind}: the guest would be {view.guest4}"
        yield _bad(where, text, "use a private network, as 10.0.2.0 with prefix 24, or leave <ip> out")


def _gateways(nic: Interface, path: str) -> Iterator[Problem]:
    guests = {ip.address for ip in nic.ips}
    for number, route in enumerate(nic.routes, 1):
        if route.gateway is None:
            continue
        where = f"{path}/route[{number}]/@gateway"
        yield from _strange(route.gateway, where, "it leads nowhere", "use another address of the guest's network")
        if route.gateway in guests:
            yield _bad(where, f"'{route.gateway}' is the guest's own address", "use another one of its network")


# Names


def _name(value: str | None, path: str) -> Iterator[Problem]:
    if not value:
        return
    if len(value.encode()) > _LONGEST_NAME:
        yield _bad(path, f"a host name has at most {_LONGEST_NAME} bytes, this one has {len(value.encode())}", None)
    elif not _NAME.fullmatch(value):
        yield _bad(path, f"'{value}' is no host name", "use letters, digits, '-' and '.'")


# <virlet:passt>


def _options(options: PasstOptions, path: str, mac: str | None) -> Iterator[Problem]:
    for name, so in _USES.items():
        for number, item in enumerate(getattr(options, name.replace("-", "_")), 1):
            if isinstance(item.address, IPv4Address | IPv6Address) and not _may(name, item.address):
                where = f"{path}/virlet:{name}[{number}]/@address"
                yield from _strange(item.address, where, so, None)
    yield from _too_many(options, path)
    if options.mac is not None and options.mac == mac:
        yield _bad(f"{path}/@mac", f"{mac} is the guest's own MAC address", "leave it out, or use another one")
    elif options.mac is not None and not options.mac.strip("0:"):
        yield _bad(f"{path}/@mac", "no host has a MAC address of zeros", "leave it out")


_USES = {
    "outbound": "no connection comes from it",
    "dns": "a guest that asks it asks nobody",
    "dns-forward": "no question of a guest's can go there",
    "dns-host": "no nameserver answers there",
    "map-host-loopback": "no connection of a guest's can go there",
    "map-guest-addr": "no connection of a guest's can go there",
}


def _may(name: str, address: _Ip) -> bool:
    """The host has a loopback of its own."""
    return address.is_loopback and (name == "dns-host" or (name == "outbound" and address.version == 4))


def _too_many(options: PasstOptions, path: str) -> Iterator[Problem]:
    counts = {4: 0, 6: 0}
    for number, item in enumerate(options.dns, 1):
        if isinstance(item.address, str):
            continue
        counts[item.address.version] += 1
        if counts[item.address.version] == _MOST_DNS + 1:
            text = f"passt offers {_MOST_DNS} nameservers of one family"
            yield _bad(f"{path}/virlet:dns[{number}]", text, "leave out those that matter least")
    if len(options.search) > _MOST_SEARCH:
        text = f"a resolver knows {_MOST_SEARCH} search domains"
        yield _bad(f"{path}/virlet:search[{_MOST_SEARCH + 1}]", text, "leave out those that matter least")
