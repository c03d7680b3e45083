"""Guests wired to each other by sockets of QEMU's own: ``udp``, ``mcast``, ``client`` and ``server``.

The netdev is libvirt's (``-netdev socket``).  It knows no IPv6, so an IPv6 address becomes ``stream`` or ``dgram``
(QEMU 7.2), which carry the same frames; a QEMU without ``socket`` gets those as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceSource, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.forwards import HIGHEST_PORT
from virlet.net.given import check_given, group_of, plan_given
from virlet.plan.base import Forward, JsonValue, NetPlan, TcpPeer
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Sockets"]

_TYPES = frozenset({InterfaceType.UDP, InterfaceType.MCAST, InterfaceType.CLIENT, InterfaceType.SERVER})
_WITHOUT_IPV6 = ("mcast",)


class Sockets:
    """Frames in UDP datagrams, a multicast group, or a TCP stream between two QEMUs."""

    name = "socket"

    def handles(self, nic: Interface) -> bool:
        """The four socket types, and a socket that a client has given (``<virlet:backend fdgroup=…/>``)."""
        if group_of(nic) is not None:
            return nic.type is InterfaceType.USER and not nic.needs_passt
        return nic.type in _TYPES

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Every QEMU that virlet drives has one form or the other."""
        if "socket" in qemu.netdevs:
            return Support(True, "built into QEMU")
        if {"stream", "dgram"} <= qemu.netdevs.keys():
            return Support(True, "built into QEMU, as stream and dgram")
        return Support(False, f"{qemu.path} was built without -netdev socket", "use <interface type='user'>")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Ports that do not exist and addresses that QEMU's sockets cannot have."""
        if group_of(nic) is not None:
            yield from check_given(nic, env)
            return
        source = _source(nic)
        for below, port in (("source/@port", source.port), ("source/local/@port", source.local_port)):
            if port is not None and not 1 <= port <= HIGHEST_PORT:
                text = f"there is no port {port}: ports are 1 to {HIGHEST_PORT}"
                hint = "use a port that nobody else has; 1024 and above need no root"
                yield Problem(f"{env.path}/{below}", text, hint, code=ErrorCode.XML_ERROR)
        if nic.type in _WITHOUT_IPV6 and _is_ipv6(source):
            yield Problem(
                f"{env.path}/source/@address",
                f"QEMU's multicast knows no IPv6 ('{source.socket_address}')",
                hint="use an IPv4 group such as 239.192.0.1, or type='udp'",
            )

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """Nothing to run and nothing to open: QEMU makes the socket."""
        if group_of(nic) is not None:
            return plan_given(nic, env, self.name)
        source = _source(nic)
        plain = "socket" in env.qemu.netdevs and not _is_ipv6(source)
        netdev = _socket(nic.type, source) if plain else _modern(nic.type, source)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={**netdev, "id": netdev_id(nic)},
            device=card(nic, env),
            helper=None,
            fds=(),
            link_up=nic.link_up,
            refusals=tuple(_never_works(nic, env)),
            dials=_peer(nic, env),
            binds=tuple(_bound(nic, env)),
        )


def _source(nic: Interface) -> InterfaceSource:
    assert nic.source is not None  # refused when the XML is read
    return nic.source


def _is_ipv6(source: InterfaceSource) -> bool:
    return ":" in (source.socket_address or "") or ":" in (source.local_address or "")


def _socket(kind: InterfaceType, source: InterfaceSource) -> Mapping[str, JsonValue]:
    """libvirt's form."""
    where = f"{source.socket_address or ''}:{source.port}"
    if kind is InterfaceType.UDP:
        return {"type": "socket", "udp": where, "localaddr": f"{source.local_address}:{source.local_port}"}
    word = {InterfaceType.SERVER: "listen", InterfaceType.CLIENT: "connect", InterfaceType.MCAST: "mcast"}[kind]
    return {"type": "socket", word: where}


def _modern(kind: InterfaceType, source: InterfaceSource) -> Mapping[str, JsonValue]:
    """The form of 7.2: no address means all of them, IPv4 and IPv6, where ``socket`` means IPv4 alone."""
    remote = _inet(source.socket_address, source.port)
    if kind is InterfaceType.UDP:
        return {"type": "dgram", "local": _inet(source.local_address, source.local_port), "remote": remote}
    if kind is InterfaceType.MCAST:
        return {"type": "dgram", "remote": remote}
    return {"type": "stream", "addr": remote, "server": kind is InterfaceType.SERVER}


def _inet(host: str | None, port: int | None) -> Mapping[str, JsonValue]:
    return {"type": "inet", "host": host or "", "port": str(port)}


def _peer(nic: Interface, env: Env) -> TcpPeer | None:
    source = _source(nic)
    if nic.type is not InterfaceType.CLIENT or not source.socket_address or not source.port:
        return None
    return TcpPeer(source.socket_address, source.port, f"{env.path}/source")


def _bound(nic: Interface, env: Env) -> Iterator[Forward]:
    """Where this QEMU listens or receives, as far as it is told by numbers; a group's port is everybody's."""
    source = _source(nic)
    if nic.type is InterfaceType.SERVER:
        address, port = _address(source.socket_address or "0.0.0.0"), source.port
        if address is not None and port:
            yield Forward("tcp", str(address), None, port, port, port, f"{env.path}/source")
    elif nic.type is InterfaceType.UDP:
        address, port = _address(source.local_address), source.local_port
        if address is not None and port:
            yield Forward("udp", str(address), None, port, port, port, f"{env.path}/source/local")


def _never_works(nic: Interface, env: Env) -> Iterator[Problem]:
    """A plan can be made of it, as libvirt does, but QEMU refuses it."""
    address = _address(_source(nic).socket_address)
    if nic.type is InterfaceType.MCAST and address is not None and not address.is_multicast:
        yield Problem(
            f"{env.path}/source/@address",
            f"{address} is not a multicast address",
            hint="use one of 224.0.0.0/4; 239.192.0.0/14 is for use within an organisation",
        )


def _address(text: str | None) -> IPv4Address | IPv6Address | None:
    """A host name is QEMU's to resolve."""
    try:
        return ip_address(text or "")
    except ValueError:
        return None
