"""A network that leads nowhere: the guest gets an address, and reaches nobody.  QEMU's user network, restricted."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.plan.base import NetPlan
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Quiet"]


class Quiet:
    """User networks that name it: ``<virlet:backend name='quiet'/>``."""

    name = "quiet"

    def handles(self, nic: Interface) -> bool:
        """Nobody gets a network that leads nowhere unless it is asked for."""
        return nic.type is InterfaceType.USER and nic.forced_backend == self.name

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Was this QEMU built with slirp?"""
        if "user" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev user", "use a QEMU that has it")
        return Support(True, "built into QEMU")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Nobody comes in either."""
        for number, _ in enumerate(nic.port_forwards, 1):
            path = f"{env.path}/portForward[{number}]"
            yield Problem(path, "nothing is forwarded into a network that leads nowhere", hint="leave it out")

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """Nothing to run and nothing to open."""
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={"type": "user", "restrict": True, "id": netdev_id(nic)},
            device=card(nic, env),
            helper=None,
            fds=(),
            link_up=nic.link_up,
        )
