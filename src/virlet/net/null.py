"""A card that is wired to nothing: the guest sees the device, and nobody ever hears it.

libvirt knows the type and refuses to start it.  Useful for a guest whose network comes later, or to keep the names of
its other interfaces.
"""

from __future__ import annotations

from collections.abc import Iterator
from zlib import crc32

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.plan.base import NetPlan
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Null"]


class Null:
    """No network at all, behind a real card."""

    name = "null"

    def handles(self, nic: Interface) -> bool:
        """``<interface type='null'>``."""
        return nic.type is InterfaceType.NULL

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """A hub is part of every QEMU that has networks."""
        if "hubport" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev hubport", "leave the interface out")
        return Support(True, "built into QEMU")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Nothing can be wrong with nothing."""
        return iter(())

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """One port of a hub that has no other: like any netdev it can be plugged in and out while the guest runs."""
        hub = crc32((nic.alias or "").encode()) >> 1
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={"type": "hubport", "hubid": hub, "id": netdev_id(nic)},
            device=card(nic, env),
            helper=None,
            fds=(),
            link_up=nic.link_up,
        )
