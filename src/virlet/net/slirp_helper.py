"""The user network in a process beside QEMU: what the helper is told, and what QEMU is told about it.

QEMU and the helper exchange frames over a pair of datagram sockets.  Such a pair has no end of file: the helper watches
a second pair to learn that QEMU has ended, and we its pidfd.  When the helper dies, another one of the same words gets
the same descriptor, of which the engine keeps a copy, so QEMU notices nothing and no connection to it is made anew.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Network, IPv6Address

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.addressing import guest_view
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.forwards import Rule, flatten, forwards_everything
from virlet.net.guest_forwards import guest_forward, no_guest_forwards, strange_guest_forwards
from virlet.net.rules import privileged_ports, rules_of
from virlet.plan.base import HelperPlan, LogFile, NetPlan, OnLoss, PairEnd, Ready, Word
from virlet.plan.facts import Facts, QemuFacts, SlirpHelperFacts, Support
from virlet.plan.security import fetched_anew

__all__ = ["MTU", "SlirpHelper"]

MTU = 65_520
"""The largest that the helper takes: four times the throughput of 1500 from the guest (bench/net.py)."""
_ETHERNET_MTU = 1500
"""Of a card that cannot be told another one."""
_MOST_FORWARDS = 4096
_LOST = "; where it dies after virletd was started anew, the card is plugged in anew (kernel.yama.ptrace_scope)"
_PASST = "add <backend type='passt'/>"


class SlirpHelper:
    """Unprivileged network beside QEMU: confined, faster than QEMU's own, and there where QEMU has none."""

    name = "slirp-helper"

    def handles(self, nic: Interface) -> bool:
        """User networks that do not name passt."""
        return nic.type is InterfaceType.USER and not nic.needs_passt

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Did the helper say what it can do, and can this QEMU talk to it?"""
        helper = facts.slirp_helper
        if helper is None:
            return Support(False, "virlet-slirp-helper was not looked for", "ask again: virlet doctor")
        if not helper.may_run:
            return helper.may_run
        if "dgram" not in qemu.netdevs:
            return Support(False, f"{qemu.path} has no -netdev dgram", "use QEMU 7.2 or newer")
        library = f" with libslirp {helper.libslirp}" if helper.libslirp else ""
        lost = "" if fetched_anew(facts.security, grants=helper.knows("set-ptracer")) else _LOST
        return Support(True, f"{helper.command[0]} runs{library}{lost}")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """What the helper cannot do of what the interface asks for."""
        helper = env.facts.slirp_helper
        assert helper is not None  # judged before
        if nic.source is not None and nic.source.dev:
            yield Problem(f"{env.path}/source/@dev", "the slirp helper cannot choose a host interface", hint=_PASST)
        for rule in rules_of(nic, env.path):
            yield from _unforwardable(rule, helper)
        yield from privileged_ports(nic, env.path, env.facts.host.unprivileged_port_start)
        if helper.knows("guestfwd"):
            yield from strange_guest_forwards(nic, env.path)
        else:
            yield from no_guest_forwards(nic, env.path, helper.command[0])

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """The helper on one end of a pair of datagram sockets, QEMU on the other."""
        ours, theirs = (PairEnd(f"{nic.alias}", end, datagram=True) for end in (0, 1))
        life, watched = (PairEnd(f"{nic.alias}-life", end) for end in (0, 1))
        helper = env.facts.slirp_helper
        assert helper is not None
        watches = helper.knows("exit-with-fd")
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={"type": "dgram", "local": {"type": "fd", "str": ours}, "id": netdev_id(nic)},
            device=card(replace(nic, mtu=_mtu(nic, helper)) if _tells_mtu(nic, helper) else nic, env),
            helper=_helper(nic, env, helper, theirs, watched if watches else None),
            fds=(ours,),
            keeps=(theirs, life, watched) if watches else (theirs,),
            link_up=nic.link_up,
        )


def _tells_mtu(nic: Interface, helper: SlirpHelperFacts) -> bool:
    """A virtio card tells its driver; others stay at what Ethernet has."""
    return nic.is_virtio and helper.knows("mtu")


def _mtu(nic: Interface, helper: SlirpHelperFacts) -> int:
    return MTU if _tells_mtu(nic, helper) else _ETHERNET_MTU


def _helper(nic: Interface, env: Env, helper: SlirpHelperFacts, frames: PairEnd, watched: PairEnd | None) -> HelperPlan:
    forwards = tuple(forward for rule in rules_of(nic, env.path) for forward in flatten(rule))
    return HelperPlan(
        name="slirp-helper",
        argv=(*helper.command, *_words(nic, env, helper, frames, watched)),
        fds=(frames,) if watched is None else (frames, watched),
        ready=Ready.PORTS_LISTEN if forwards else Ready.SPAWNED,
        on_loss=OnLoss.REUSE,
        forwards=forwards,
        stderr=LogFile(env.logs / f"{nic.alias}-slirp-helper.log"),
    )


def _words(
    nic: Interface, env: Env, helper: SlirpHelperFacts, frames: PairEnd, watched: PairEnd | None
) -> Iterator[Word]:
    view = guest_view(nic.ips, nic.mac or "")
    mask = IPv4Network((0, view.prefix4)).netmask
    yield from ("--fd", frames)
    if watched is not None:
        yield from ("--exit-with-fd", watched)
    yield from ("--net", str(IPv4Network((int(view.guest4), view.prefix4), strict=False).network_address))
    yield from ("--mask", str(mask), "--host", str(view.host4), "--dhcp-start", str(view.guest4))
    yield from ("--dns", str(view.dns4), "--prefix-ipv6", str(_prefix6(view.host6)), "--prefix-length-ipv6", "64")
    if helper.knows("mtu"):
        yield from ("--mtu", str(_mtu(nic, helper)))
    if helper.knows("guest-mac") and nic.mac:
        yield from ("--guest-mac", nic.mac)
    for rule in rules_of(nic, env.path):
        for word in _hostfwd(rule):
            yield from ("--hostfwd", word)
    for forward in nic.guest_forwards:
        yield from ("--guestfwd", guest_forward(forward))


def _prefix6(host: IPv6Address) -> IPv6Address:
    return IPv6Address(int(host) >> 64 << 64)


def _hostfwd(rule: Rule) -> Iterator[str]:
    """``tcp:127.0.0.1:2022-:22``, one for each port: libslirp knows no ranges."""
    address = rule.address or ""
    host = f"[{address}]" if ":" in address else address
    for forward in flatten(rule):
        for port in range(forward.start, forward.end + 1):
            yield f"{rule.proto}:{host}:{port}-:{forward.to + port - forward.start}"


def _unforwardable(rule: Rule, helper: SlirpHelperFacts) -> Iterator[Problem]:
    if not helper.knows("hostfwd"):
        yield Problem(rule.path, f"{helper.command[0]} cannot forward ports", hint=_PASST)
        return
    if forwards_everything(rule):
        yield Problem(rule.path, "the slirp helper cannot forward all ports", hint=_PASST)
    if rule.device:
        yield Problem(f"{rule.path}/@dev", "the slirp helper cannot listen on one host interface", hint=_PASST)
    if rule.address is not None and ":" in rule.address and not helper.knows("hostfwd-ipv6"):
        yield Problem(
            f"{rule.path}/@address", f"libslirp {helper.libslirp} cannot listen on an IPv6 address", hint=_PASST
        )
    if sum(forward.end - forward.start + 1 for forward in flatten(rule)) > _MOST_FORWARDS:
        yield Problem(rule.path, f"the slirp helper cannot forward more than {_MOST_FORWARDS} ports", hint=_PASST)
