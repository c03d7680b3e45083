"""passt(1) over ``-netdev stream``: what passt is told, and what QEMU is told about it.

QEMU listens and passt is handed a connection to it, so a dead passt costs one dial and the socket's path stays valid,
daemon or no daemon.  passt opens no path of ours (distributions confine it): it stays in the foreground, gets its
connection by ``--fd`` and writes its messages to a standard error that we opened.
"""

from __future__ import annotations

from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.passt_args import all_ports_of, check_passt, judge_passt, passt_files, passt_helper
from virlet.plan.base import Dial, Listener, NetPlan, short_name
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Passt"]


class Passt:
    """Unprivileged network through passt: forwards, host addresses, the fastest of those that need no shared memory."""

    name = "passt"

    def handles(self, nic: Interface) -> bool:
        """User networks, whether they name passt or nobody."""
        return nic.type is InterfaceType.USER

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Is passt here, may it run, and can this QEMU talk to it?"""
        here = judge_passt(facts)
        if not here:
            return here
        if not qemu.stream:
            return Support(False, f"{qemu.path} has no -netdev stream", "use QEMU 7.2 or newer")
        return here

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """What this host or its passt cannot do of what the interface asks for."""
        yield from check_passt(nic, env)

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """passt in the foreground on a connection to the socket that QEMU listens on."""
        listener = Listener(env.runtime / f"{short_name(nic.alias or '')}.net")
        dial = Dial(listener.path)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={
                "type": "stream",
                "addr": {"type": "fd", "str": listener},
                "server": True,
                "id": netdev_id(nic),
            },
            device=card(nic, env),
            helper=passt_helper(nic, env, "--fd", dial, fds=(dial,)),
            fds=(listener,),
            link_up=nic.link_up,
            files=passt_files(nic, env),
            binds=all_ports_of(nic, env),
            freebind=nic.passt is not None and nic.passt.freebind is True,
        )
