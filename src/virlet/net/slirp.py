"""QEMU's built-in user network: always there, slower, and inside QEMU's own process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.forwards import Rule, flatten, forwards_everything
from virlet.net.guest_forwards import guest_forward, strange_guest_forwards
from virlet.net.rules import privileged_ports, rules_of
from virlet.plan.base import Access, FileNeed, Forward, JsonValue, NetPlan
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Slirp"]

_MOST_FORWARDS = 4096
_PASST = "add <backend type='passt'/>"
_HELPER = "use <virlet:backend name='slirp-helper'/>"


class Slirp:
    """Unprivileged network inside QEMU: needs nothing, forwards single ports, sees no host interface."""

    name = "slirp"

    def handles(self, nic: Interface) -> bool:
        """User networks that do not name another backend."""
        return nic.type is InterfaceType.USER and not nic.needs_passt

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Was this QEMU built with slirp?"""
        if "user" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev user", "use passt")
        return Support(True, "built into QEMU")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """What slirp cannot do of what the interface asks for."""
        if nic.source is not None and nic.source.dev:
            yield Problem(f"{env.path}/source/@dev", "built-in slirp cannot choose a host interface", hint=_PASST)
        for rule in rules_of(nic, env.path):
            yield from _unforwardable(rule)
        yield from privileged_ports(nic, env.path, env.facts.host.unprivileged_port_start)
        yield from strange_guest_forwards(nic, env.path)
        for number, forward in enumerate(nic.guest_forwards, 1):
            if forward.command is not None:
                where = f"{env.path}/virlet:guestForward[{number}]/@command"
                yield Problem(where, "QEMU is confined and starts no programs", hint=_HELPER)

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """Nothing to run: QEMU does it all."""
        netdev: dict[str, JsonValue] = {"type": "user"}
        for ip in nic.ips:
            if isinstance(ip.address, IPv4Address):
                netdev["net"] = f"{ip.address}/{ip.prefix}" if ip.prefix else str(ip.address)
            else:
                netdev["ipv6-prefix"] = str(ip.address)
                if ip.prefix:
                    netdev["ipv6-prefixlen"] = ip.prefix
        forwards = tuple({"str": word} for rule in rules_of(nic, env.path) for word in _hostfwd(rule))
        if forwards:
            netdev["hostfwd"] = forwards
        if nic.guest_forwards:
            netdev["guestfwd"] = tuple({"str": guest_forward(forward)} for forward in nic.guest_forwards)
        netdev["id"] = netdev_id(nic)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev=netdev,
            device=card(nic, env),
            helper=None,
            fds=(),
            link_up=nic.link_up,
            forwards=tuple(_listened(nic, env.path)),
            files=tuple(_dialled(nic, env.path)),
        )


def _listened(nic: Interface, path: str) -> Iterator[Forward]:
    """Host ports that QEMU will listen on: IPv4 alone."""
    for rule in rules_of(nic, path):
        for forward in flatten(rule):
            yield replace(forward, address=forward.address or "0.0.0.0")


def _dialled(nic: Interface, path: str) -> Iterator[FileNeed]:
    """QEMU connects when it starts, once."""
    for number, forward in enumerate(nic.guest_forwards, 1):
        if forward.socket is not None:
            where = f"{path}/virlet:guestForward[{number}]/@socket"
            yield FileNeed(Path(forward.socket), Access.SOCKET, where, "socket of the guest forward")


def _hostfwd(rule: Rule) -> Iterator[str]:
    """``tcp:127.0.0.1:2022-:22``, one for each port: slirp knows no ranges."""
    for forward in flatten(rule):
        for port in range(forward.start, forward.end + 1):
            yield f"{rule.proto}:{rule.address or ''}:{port}-:{forward.to + port - forward.start}"


def _unforwardable(rule: Rule) -> Iterator[Problem]:
    if forwards_everything(rule):
        yield Problem(rule.path, "built-in slirp cannot forward all ports", hint=_PASST)
    if rule.device:
        yield Problem(f"{rule.path}/@dev", "built-in slirp cannot listen on one host interface", hint=_PASST)
    if rule.address is not None and ":" in rule.address:
        yield Problem(f"{rule.path}/@address", "built-in slirp cannot listen on an IPv6 address", hint=_PASST)
    forwards = flatten(rule)
    if sum(forward.end - forward.start + 1 for forward in forwards) > _MOST_FORWARDS:
        yield Problem(rule.path, f"built-in slirp cannot forward more than {_MOST_FORWARDS} ports", hint=_PASST)
