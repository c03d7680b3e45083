"""passt(1) over vhost-user: it reads and writes the guest's memory, and nothing else moves the frames.

QEMU dials, again and again when passt has died, and we listen only while a passt is about to be handed that connection
(``--fd``): a QEMU whose connection nobody answers stands still, guest and all.  So nobody listens while no daemon runs,
and the next one has but to listen at the same path.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.passt_args import all_ports_of, check_passt, judge_passt, passt_files, passt_helper
from virlet.net.taps import queues_of
from virlet.net.vhostuser import SHARE_MEMORY, shared_memory
from virlet.plan.base import Accept, Need, NetPlan, OnLoss, SocketChardev, short_name
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["PasstVhostUser"]

_RECONNECT_MS = 10
"""How often QEMU dials: it costs half a percent of a processor while nobody answers."""
_GAIN = "several times the throughput into the guest"
_COST = "passt can read and write all of the guest's memory"


class PasstVhostUser:
    """passt without a socket in the way of the frames, for guests whose memory is shared."""

    name = "passt-vhost-user"

    def handles(self, nic: Interface) -> bool:
        """``<interface type='vhostuser'>`` that names passt, and every user network as an :meth:`offer`."""
        return nic.type is InterfaceType.USER or (nic.type is InterfaceType.VHOSTUSER and nic.wants_passt)

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Does passt know it, and does this QEMU dial often enough and tell of it?"""
        here = judge_passt(facts)
        if not here:
            return here
        passt = facts.passt
        assert passt is not None  # judged before
        if not passt.knows("vhost-user"):
            return Support(False, f"the passt of this host ({passt.path}) has no --vhost-user", "use passt of 2025")
        if "vhost-user" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev vhost-user", "use <interface type='user'>")
        dials = "reconnect-ms" in qemu.chardevs.get("socket", ())
        if not dials or "NETDEV_VHOST_USER_CONNECTED" not in qemu.events:
            reason = f"{qemu.path} does not dial a back end that was lost within milliseconds, and tell of it"
            return Support(False, reason, "use QEMU 10.0 or newer")
        return here

    def offer(self, nic: Interface, env: Env) -> Support | None:
        """As an upgrade of a user network: only where the memory is shared anyway."""
        if nic.type is not InterfaceType.USER:
            return None
        if env.shared_memory:
            return Support(True, f"the guest's memory is shared: {_GAIN}; {_COST}")
        hint = f"{SHARE_MEMORY}, or share_memory = true to virletd.toml"
        return Support(False, f"it gives {_GAIN}, but needs shared memory: {_COST}", hint)

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Shared memory, a virtio card with one queue, and what this passt cannot do."""
        yield from shared_memory(nic, env)
        if not nic.is_virtio:
            text = f"passt over vhost-user needs a virtio card, not '{nic.model}'"
            yield Problem(f"{env.path}/model/@type", text, hint="use <model type='virtio'/>")
        if queues_of(nic) > 1:
            text = f"interface {nic.mac} - multiqueue is not supported by passt, which has one queue"
            yield Problem(f"{env.path}/driver/@queues", text, hint="leave 'queues' out")
        yield from check_passt(nic, env)

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """passt in the foreground on the connection that QEMU makes."""
        accept = Accept(env.runtime / f"{short_name(nic.alias or '')}.vhost")
        chardev = SocketChardev(f"char{nic.alias}", accept.path, reconnect_ms=_RECONNECT_MS)
        helper = passt_helper(nic, env, "--vhost-user", "--fd", accept, fds=(accept,), on_loss=OnLoss.ACCEPT)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={"type": "vhost-user", "chardev": chardev.id, "id": netdev_id(nic)},
            device=card(nic, env),
            helper=replace(helper, leaves=(*helper.leaves, accept.path)),
            fds=(),
            needs=frozenset({Need.SHARED_MEMORY}),
            link_up=nic.link_up,
            files=passt_files(nic, env),
            binds=all_ports_of(nic, env),
            freebind=nic.passt is not None and nic.passt.freebind is True,
            chardev=chardev,
        )
