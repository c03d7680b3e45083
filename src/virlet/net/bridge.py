"""Joining a bridge by qemu-bridge-helper: the one program of root's that virletd runs, and only when the XML asks.

The helper looks into its access list, makes a tap, joins it to the bridge and sends the descriptor; it needs nothing
of us but the bridge's name, so nothing else is ever passed to it.
"""

from __future__ import annotations

from collections.abc import Iterator

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net import admin
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.taps import check_tap, members, queues_of, vhost_of
from virlet.plan.base import BridgeTap, NetPlan
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Bridge"]

_USER = "use <interface type='user'> with <portForward>, which needs no bridge"


class Bridge:
    """A port of one of the host's bridges, as far as root's access list lets users have one."""

    name = "bridge"

    def handles(self, nic: Interface) -> bool:
        """``<interface type='bridge'>``."""
        return nic.type is InterfaceType.BRIDGE

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Is the helper there, and has it the right to make devices?"""
        if "tap" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev tap", _USER)
        return facts.host.bridge_helper_may

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """The bridge, and what the helper cannot do."""
        yield from check_tap(nic, env)
        name = _bridge(nic)
        link = env.facts.links.get(name)
        if link is None:
            yield Problem(
                f"{env.path}/source/@bridge",
                f"Cannot get interface MTU on '{name}': No such device",
                hint=f"let root run: {admin.make_bridge(name)}; {admin.bridge_acl(name)}",
                code=ErrorCode.SYSTEM_ERROR,
            )
        elif link.kind != "bridge":
            yield Problem(
                f"{env.path}/source/@bridge",
                f"'{name}' is no bridge but a {link.kind or 'hardware'} device",
                hint=_USER,
            )
        if queues_of(nic) > 1:
            yield Problem(
                f"{env.path}/driver/@queues",
                "qemu-bridge-helper makes devices with one queue",
                hint="leave queues out, or use <interface type='ethernet'> with a multi_queue tap that root has made",
            )
        for below, present in (("vlan", nic.vlan), ("virtualport", nic.virtualport)):
            if present is not None:
                text = f"<{below}> cannot be set up without root"
                yield Problem(f"{env.path}/{below}", text, hint="let root configure the bridge's ports")
        if nic.isolated:
            yield Problem(
                f"{env.path}/port/@isolated", "the port of a bridge can be isolated by root alone", hint=_USER
            )

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """The descriptor that the helper will send."""
        tap = BridgeTap(nic.alias or "", _bridge(nic), env.facts.host.bridge_helper, nic.is_virtio)
        vhosts = vhost_of(nic, env)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={**members((tap,), nic, vhosts), "id": netdev_id(nic)},
            device=card(nic, env),
            helper=None,
            fds=(tap, *vhosts),
            link_up=nic.link_up,
        )


def _bridge(nic: Interface) -> str:
    """Refused without one when the XML is read."""
    return (nic.source.bridge if nic.source is not None else None) or ""
