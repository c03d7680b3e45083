"""What passt is told for an interface, as options with their places in the XML: the same for every way to connect it.

:mod:`virlet.net.passt_args` makes a command line of them, :mod:`virlet.net.qemu_passt` the members of a netdev.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

from virlet.model.interface import Interface
from virlet.model.passt import PasstOptions
from virlet.net.addressing import View, guest_view
from virlet.net.base import Env
from virlet.net.forwards import spec
from virlet.net.rules import rules_of
from virlet.plan.facts import PasstFacts
from virlet.plan.follow import resolver

__all__ = ["Option", "host_answers", "passt_options"]

_SWITCHES = ("tcp", "udp", "icmp", "dhcp", "ndp", "dhcpv6", "ra")
_NOTHING = PasstOptions()


@dataclass(frozen=True, slots=True)
class Option:
    """One option of passt's, by its long name without dashes."""

    name: str
    value: str | None = None
    """None for an option that takes no value."""
    path: str = ""
    """Where the XML asks for it; empty for what every passt has, or what we ask for only where passt has it."""


def passt_options(nic: Interface, env: Env) -> Iterator[Option]:
    """Everything but how it is connected and ``param``, in libvirt's order and then that of passt's help."""
    passt = env.facts.passt
    assert passt is not None  # judged before
    more, where = nic.passt or _NOTHING, f"{env.path}/virlet:passt"
    if nic.mtu:
        yield Option("mtu", str(nic.mtu))
    if nic.source is not None and nic.source.dev:
        yield Option("interface", nic.source.dev)
    yield from _named(nic, env) if nic.wants_passt else _like_slirp(nic, passt, env, more)
    yield from _messages(more, where)
    yield from _addresses(more, where, passt)
    yield from _switches(more, where)
    for rule in rules_of(nic, env.path):
        yield Option(f"{rule.proto}-ports", spec(rule))


def _named(nic: Interface, env: Env) -> Iterator[Option]:
    """An interface that asks for passt means what libvirt means: what is not said is copied from the host."""
    if nic.backend is not None:
        for name, value in (("hostname", nic.backend.hostname), ("fqdn", nic.backend.fqdn)):
            if value:
                yield Option(name, value, f"{env.path}/backend/@{name}")
    for ip in nic.ips:
        yield Option("address", str(ip.address))
        if ip.address.version == 4 and ip.prefix:
            yield Option("netmask", str(ip.prefix))
    for route in nic.routes:
        yield Option("gateway", str(route.gateway))


def _like_slirp(nic: Interface, passt: PasstFacts, env: Env, more: PasstOptions) -> Iterator[Option]:
    """An interface that names no backend sees the same addresses on each: those of QEMU's user network.

    The nameserver's address is answered on every passt.  It is offered only where passt can be told the resolver behind
    it (``--dns-host``, 2025): with ``--dns`` alone, passt no longer asks the host which one that is.  Where
    ``<virlet:passt>`` says otherwise, that holds.
    """
    view = guest_view(nic.ips, nic.mac or "")
    if more.ipv4 is not False:
        yield Option("address", str(view.guest4))
        yield Option("netmask", str(view.prefix4))
        yield Option("gateway", str(view.host4))
    if more.ipv6 is not False:
        yield Option("address", str(view.guest6))
        yield Option("gateway", str(view.host6))
    for address in _asked(view, more):
        named = any(item.address.version == address.version for item in more.dns_forward)
        if not named and not _offers_gateway(passt, resolver(env.facts.host.nameservers, address.version)):
            yield Option("dns-forward", str(address))
    for address in _answers(view, passt, more):
        if any(item.address.version == address.version for item in more.dns_host):
            yield Option("dns", str(address))
            continue
        found = resolver(env.facts.host.nameservers, address.version)
        if found is not None:
            yield Option("dns", str(address))
            yield Option("dns-host", found)


def _offers_gateway(passt: PasstFacts, host: str | None) -> bool:
    """A passt that cannot be told what to offer offers the gateway in the place of a resolver on the host's loopback.

    It answers there unless it is told to answer elsewhere (tried with 2023-03).
    """
    return not passt.knows("dns-host") and host is not None and ip_address(host).is_loopback


def _asked(view: View, more: PasstOptions) -> list[IPv4Address | IPv6Address]:
    dns: list[tuple[IPv4Address | IPv6Address, bool | None]] = [(view.dns4, more.ipv4), (view.dns6, more.ipv6)]
    return [address for address, on in dns if on is not False]


def _answers(view: View, passt: PasstFacts, more: PasstOptions) -> list[IPv4Address | IPv6Address]:
    if not passt.knows("dns-host") or more.dns or more.dns_forward or more.dhcp_dns is False:
        return []
    return _asked(view, more)


def host_answers(nic: Interface, passt: PasstFacts) -> tuple[str, ...]:
    """Addresses of the guest's nameservers, of which passt is told by us that a nameserver of the host's answers."""
    more = nic.passt or _NOTHING
    if nic.wants_passt:
        return ()
    named = {item.address.version for item in more.dns_host}
    answers = _answers(guest_view(nic.ips, nic.mac or ""), passt, more)
    return tuple(str(address) for address in answers if address.version not in named)


def _messages(more: PasstOptions, where: str) -> Iterator[Option]:
    for name in ("quiet", "debug", "trace"):
        if getattr(more, name):
            yield Option(name, None, f"{where}/@{name}")
    if more.pcap_file:
        yield Option("pcap", more.pcap_file, f"{where}/@pcap-file")
    if more.mac:
        yield Option("mac-addr", more.mac, f"{where}/@mac")


def _addresses(more: PasstOptions, where: str, passt: PasstFacts) -> Iterator[Option]:
    for n, outbound in enumerate(more.outbound, 1):
        yield Option("outbound", str(outbound.address), f"{where}/virlet:outbound[{n}]")
    for name, link in (("outbound-if4", more.outbound_if4), ("outbound-if6", more.outbound_if6)):
        if link:
            yield Option(name, link, f"{where}/@{name}")
    for n, server in enumerate(more.dns, 1):
        yield Option("dns", str(server.address), f"{where}/virlet:dns[{n}]")
    if more.search:
        yield Option("search", " ".join(item.domain for item in more.search), f"{where}/virlet:search[1]")
    for n, mapped in enumerate(more.map_host_loopback, 1):
        here = f"{where}/virlet:map-host-loopback[{n}]"
        if mapped.address == "none" and not passt.knows("map-host-loopback"):
            yield Option("no-map-gw", None, here)  # 2023: the gateway is all that it can map
        else:
            yield Option("map-host-loopback", str(mapped.address), here)
    for n, guest in enumerate(more.map_guest_addr, 1):
        yield Option("map-guest-addr", str(guest.address), f"{where}/virlet:map-guest-addr[{n}]")
    for n, forward in enumerate(more.dns_forward, 1):
        yield Option("dns-forward", str(forward.address), f"{where}/virlet:dns-forward[{n}]")
    for n, host in enumerate(more.dns_host, 1):
        yield Option("dns-host", str(host.address), f"{where}/virlet:dns-host[{n}]")


def _switches(more: PasstOptions, where: str) -> Iterator[Option]:
    for name in ("dhcp_dns", "dhcp_search", *_SWITCHES):
        if getattr(more, name) is False:
            word = name.replace("_", "-")
            yield Option(f"no-{word}", None, f"{where}/@{word}")
    if more.freebind:
        yield Option("freebind", None, f"{where}/@freebind")
    if more.ipv6 is False:
        yield Option("ipv4-only", None, f"{where}/@ipv6")
    if more.ipv4 is False:
        yield Option("ipv6-only", None, f"{where}/@ipv4")
