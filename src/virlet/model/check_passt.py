"""What of ``<virlet:passt>`` contradicts itself or the rest of its interface, on any host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.model.passt import PasstOptions

__all__ = ["check_passt_options"]

_ELSEWHERE = {
    "vhost-user": "<interface type='vhostuser'>",
    "mtu": "<mtu size='…'/>",
    "address": "<ip address='…'/>",
    "netmask": "<ip prefix='…'/>",
    "gateway": "<route gateway='…'/>",
    "interface": "<source dev='…'/>",
    "hostname": "<backend hostname='…'/>",
    "fqdn": "<backend fqdn='…'/>",
    "log-file": "<backend logFile='…'/>",
    "tcp-ports": "<portForward proto='tcp'>",
    "udp-ports": "<portForward proto='udp'>",
}
"""Options that libvirt has a word for: it is the only one, so that nothing can be said twice."""
_REPEATED = ("outbound", "dns", "search", "map-host-loopback", "map-guest-addr", "dns-forward", "dns-host")
_ONE_OF_EACH_FAMILY = ("outbound", "map-host-loopback", "map-guest-addr", "dns-forward", "dns-host")

_Ip = IPv4Address | IPv6Address


def check_passt_options(nic: Interface, path: str) -> Iterator[Problem]:
    """Every problem of the ``<virlet:passt>`` of *nic*, which stands at *path*."""
    options = nic.passt
    if options is None:
        return
    where = f"{path}/virlet:passt"
    if nic.type is not InterfaceType.USER and not nic.wants_passt:
        message = "<virlet:passt> can only be used with interface type='user', or type='vhostuser' and passt"
        yield Problem(where, message, hint="leave it out" if nic.type is not InterfaceType.VHOSTUSER else _NAME_PASST)
    yield from _strange(options, where)
    if options.quiet and (options.debug or options.trace):
        yield Problem(f"{where}/@quiet", "passt cannot be quiet and say more at once", hint="leave one of them out")
    if options.ipv4 is False and options.ipv6 is False:
        yield Problem(f"{where}/@ipv4", "a network without IPv4 and without IPv6 carries nothing")
    yield from _protocols(nic, options, path)
    yield from _families(nic, options, path)
    yield from _counts(options, where)
    yield from _offers(options, where)
    for number, address in _listed(options, "outbound"):
        if address.is_unspecified or address.is_multicast or (address.version == 6 and address.is_loopback):
            text = f"'{address}' cannot be where connections come from"
            yield Problem(f"{where}/virlet:outbound[{number}]/@address", text, hint="use an address of this host")


_NAME_PASST = "add <backend type='passt'/>"


def _strange(options: PasstOptions, where: str) -> Iterator[Problem]:
    """Our own element holds nothing that we do not know: it would be told to nobody."""
    for _, name, _ in options.unknown.attributes:
        if name in _REPEATED:
            hint: str | None = f"use an element: <virlet:{name} …/>"
        else:
            hint = f"use {_ELSEWHERE[name]}" if name in _ELSEWHERE else "for a new option of passt's: <virlet:param>"
        if not name.startswith("xmlns:"):
            yield Problem(f"{where}/@{name}", f"<virlet:passt> has no attribute '{name}'", hint=hint)
    for _, raw in options.unknown.elements:
        hint = f"use {_ELSEWHERE[raw.tag]}" if raw.tag in _ELSEWHERE else None
        yield Problem(f"{where}/{raw.name}", f"<virlet:passt> has no element '{raw.name}'", hint=hint)


def _protocols(nic: Interface, options: PasstOptions, path: str) -> Iterator[Problem]:
    for number, forward in enumerate(nic.port_forwards, 1):
        if getattr(options, str(forward.proto)) is False:
            yield Problem(
                f"{path}/portForward[{number}]",
                f"{forward.proto} ports are forwarded, and <virlet:passt {forward.proto}='no'> switches"
                f" {forward.proto.upper()} off",
                hint="leave one of them out",
            )


def _families(nic: Interface, options: PasstOptions, path: str) -> Iterator[Problem]:
    for version, on in ((4, options.ipv4), (6, options.ipv6)):
        if on is not False:
            continue
        for place, address in _addresses(nic, options):
            if address is not None and address.version == version:
                text = f"'{address}' is an IPv{version} address, and <virlet:passt ipv{version}='no'> switches that off"
                yield Problem(f"{path}/{place}", text, hint="leave one of them out")


def _addresses(nic: Interface, options: PasstOptions) -> Iterator[tuple[str, _Ip | None]]:
    for number, ip in enumerate(nic.ips, 1):
        yield f"ip[{number}]/@address", ip.address
    for number, route in enumerate(nic.routes, 1):
        yield f"route[{number}]/@gateway", route.gateway
    for number, forward in enumerate(nic.port_forwards, 1):
        yield f"portForward[{number}]/@address", forward.address
    for name in _REPEATED:
        for number, address in _listed(options, name):
            yield f"virlet:passt/virlet:{name}[{number}]/@address", address


def _listed(options: PasstOptions, name: str) -> Iterator[tuple[int, _Ip]]:
    for number, item in enumerate(getattr(options, name.replace("-", "_")), 1):
        address = getattr(item, "address", None)
        if isinstance(address, IPv4Address | IPv6Address):
            yield number, address


def _counts(options: PasstOptions, where: str) -> Iterator[Problem]:
    for name in _ONE_OF_EACH_FAMILY:
        seen: set[int] = set()
        for number, address in _listed(options, name):
            if address.version in seen:
                text = f"passt takes one IPv{address.version} address for {name}"
                yield Problem(f"{where}/virlet:{name}[{number}]", text)
            seen.add(address.version)
    for name in _REPEATED:
        words = [getattr(item, "address", None) or getattr(item, "domain", None) for item in _items(options, name)]
        if "none" in words and len(words) > 1:
            yield Problem(f"{where}/virlet:{name}[{words.index('none') + 1}]", f"'none' is not the only {name}")


def _items(options: PasstOptions, name: str) -> Sequence[object]:
    found: Sequence[object] = getattr(options, name.replace("-", "_"))
    return found


def _offers(options: PasstOptions, where: str) -> Iterator[Problem]:
    for name, on in (("dns", options.dhcp_dns), ("search", options.dhcp_search)):
        if on is False and _items(options, name):
            text = f"<virlet:{name}> names what is offered, and dhcp-{name}='no' that nothing is"
            yield Problem(f"{where}/virlet:{name}[1]", text, hint="leave one of them out")
