"""``<virlet:passt>``: what passt can be told and libvirt's XML has no word for, under passt's own names.

The names are those of passt(1) and of QEMU's ``NetdevPasstOptions``; what libvirt has a word for is said with that word
(``docs/network.md`` has the table).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from typing import Literal

from virlet.model.namespaces import VIRLET
from virlet.xml.declare import Element, attr, element, many
from virlet.xml.kinds import IP, MAC, STR, YES_NO, BadValue, Kind, matching

__all__ = [
    "PasstDns",
    "PasstDnsForward",
    "PasstDnsHost",
    "PasstMapGuest",
    "PasstMapLoopback",
    "PasstOptions",
    "PasstOutbound",
    "PasstParam",
    "PasstSearch",
]

IpOrNone = IPv4Address | IPv6Address | Literal["none"]


def _ip_or_none(word: str) -> IpOrNone:
    return "none" if word == "none" else IP.parse(word)


def _program(word: str) -> str:
    if not word.startswith("/"):
        raise BadValue
    return word


_IP_OR_NONE: Kind[IpOrNone] = Kind("IP address or 'none'", _ip_or_none, str)
_PATH: Kind[str] = Kind("absolute path", _program, str)
_LINK = matching("name of a network interface", r"[^\s/]{1,15}")
_DOMAIN = matching("domain name", r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,252}|none")


@element("outbound", namespace=VIRLET, prefix="virlet")
class PasstOutbound(Element):
    """A host address that connections of the guest's come from; one of each family (``--outbound``)."""

    address: IPv4Address | IPv6Address = attr("@address", IP, doc="the source address")


@element("dns", namespace=VIRLET, prefix="virlet")
class PasstDns(Element):
    """A nameserver that the guest is offered (``--dns``)."""

    address: IpOrNone = attr("@address", _IP_OR_NONE, doc="the nameserver; none: none is offered")


@element("search", namespace=VIRLET, prefix="virlet")
class PasstSearch(Element):
    """A search domain that the guest is offered (``--search``)."""

    domain: str = attr("@domain", _DOMAIN, doc="the domain; none: none is offered")


@element("map-host-loopback", namespace=VIRLET, prefix="virlet")
class PasstMapLoopback(Element):
    """An address that leads the guest to the host's loopback; one of each family (``--map-host-loopback``)."""

    address: IpOrNone = attr("@address", _IP_OR_NONE, doc="the gateway when nothing is said; none: no address does")


@element("map-guest-addr", namespace=VIRLET, prefix="virlet")
class PasstMapGuest(Element):
    """An address that leads the guest to the host at the guest's own address (``--map-guest-addr``)."""

    address: IpOrNone = attr("@address", _IP_OR_NONE, doc="one of each family; none, also when nothing is said")


@element("dns-forward", namespace=VIRLET, prefix="virlet")
class PasstDnsForward(Element):
    """An address at which the guest's questions are answered by the host's resolver (``--dns-forward``)."""

    address: IPv4Address | IPv6Address = attr("@address", IP, doc="one of each family")


@element("dns-host", namespace=VIRLET, prefix="virlet")
class PasstDnsHost(Element):
    """The resolver that such questions go to (``--dns-host``)."""

    address: IPv4Address | IPv6Address = attr("@address", IP, doc="one of each family; the host's first when absent")


@element("param", namespace=VIRLET, prefix="virlet")
class PasstParam(Element):
    """One more word of passt's command line, for options that no XML has a word for."""

    value: str = attr("@value", STR, doc="the word as it is, such as --stats, and another for what follows it")


@element("passt", namespace=VIRLET, prefix="virlet")
class PasstOptions(Element):
    """virlet's own: what passt is told beyond libvirt's XML, whichever way passt is connected."""

    path: str | None = attr("@path", _PATH, default=None, doc="another passt program than the host's")
    quiet: bool | None = attr("@quiet", YES_NO, default=None, doc="yes: fewer messages (--quiet)")
    debug: bool | None = attr("@debug", YES_NO, default=None, doc="yes: more messages (--debug)")
    trace: bool | None = attr("@trace", YES_NO, default=None, doc="yes: still more messages (--trace)")
    pcap_file: str | None = attr("@pcap-file", _PATH, default=None, doc="record the guest's frames there (--pcap)")
    mac: str | None = attr("@mac", MAC, default=None, doc="MAC address of the gateway that the guest sees (--mac-addr)")
    outbound_if4: str | None = attr(
        "@outbound-if4", _LINK, default=None, doc="host interface of IPv4 connections (--outbound-if4)"
    )
    outbound_if6: str | None = attr(
        "@outbound-if6", _LINK, default=None, doc="host interface of IPv6 connections (--outbound-if6)"
    )
    dhcp_dns: bool | None = attr("@dhcp-dns", YES_NO, default=None, doc="no: offer no nameservers (--no-dhcp-dns)")
    dhcp_search: bool | None = attr(
        "@dhcp-search", YES_NO, default=None, doc="no: offer no search domains (--no-dhcp-search)"
    )
    tcp: bool | None = attr("@tcp", YES_NO, default=None, doc="no: no TCP (--no-tcp)")
    udp: bool | None = attr("@udp", YES_NO, default=None, doc="no: no UDP (--no-udp)")
    icmp: bool | None = attr("@icmp", YES_NO, default=None, doc="no: no ICMP (--no-icmp)")
    dhcp: bool | None = attr("@dhcp", YES_NO, default=None, doc="no: no DHCP server (--no-dhcp)")
    ndp: bool | None = attr("@ndp", YES_NO, default=None, doc="no: no answers to NDP (--no-ndp)")
    dhcpv6: bool | None = attr("@dhcpv6", YES_NO, default=None, doc="no: no DHCPv6 server (--no-dhcpv6)")
    ra: bool | None = attr("@ra", YES_NO, default=None, doc="no: no router advertisements (--no-ra)")
    freebind: bool | None = attr(
        "@freebind", YES_NO, default=None, doc="yes: listen on addresses that the host does not have (--freebind)"
    )
    ipv4: bool | None = attr("@ipv4", YES_NO, default=None, doc="no: IPv6 alone (--ipv6-only)")
    ipv6: bool | None = attr("@ipv6", YES_NO, default=None, doc="no: IPv4 alone (--ipv4-only)")
    outbound: tuple[PasstOutbound, ...] = many(PasstOutbound, default=(), doc="where connections come from")
    dns: tuple[PasstDns, ...] = many(PasstDns, default=(), doc="nameservers")
    search: tuple[PasstSearch, ...] = many(PasstSearch, default=(), doc="search domains")
    map_host_loopback: tuple[PasstMapLoopback, ...] = many(
        PasstMapLoopback, default=(), doc="addresses of the host's loopback"
    )
    map_guest_addr: tuple[PasstMapGuest, ...] = many(PasstMapGuest, default=(), doc="addresses of the host")
    dns_forward: tuple[PasstDnsForward, ...] = many(PasstDnsForward, default=(), doc="where questions are answered")
    dns_host: tuple[PasstDnsHost, ...] = many(PasstDnsHost, default=(), doc="who answers them")
    params: tuple[PasstParam, ...] = many(PasstParam, default=(), doc="further words")
