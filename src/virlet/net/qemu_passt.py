"""QEMU's own passt netdev (QEMU 10.1): QEMU starts passt itself, and starts it again when it dies.

It is never chosen by itself: QEMU can start nothing from inside its sandbox, and passt cannot set up its own inside a
filter or landlock that it inherits, so such a QEMU runs with the user's rights.

The card is not wired to the netdev but to a hub that the netdev is plugged into, at the monitor, before the guest runs.
With the netdev on its command line every other start of QEMU 11.1 ended with a monitor that never answered (11 of 25;
at the monitor none of 36), and only behind a hub a passt that QEMU has given up can be replaced under its card.
QEMU runs passt by a link of ours, so that we can keep it from starting another one
(:mod:`virlet.engine.supervision.forked`).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.passt_args import all_ports_of, check_passt, judge_passt, passt_files, ports_of
from virlet.net.passt_options import Option, passt_options
from virlet.plan.base import (
    Forked,
    HelperPlan,
    JsonValue,
    Need,
    NetPlan,
    OnLoss,
    QmpCommand,
    Ready,
    short_name,
)
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["MTU", "QemuPasst", "members"]

MTU = 32_000
"""The largest.  Behind a hub, a frame that the socket takes in two halves comes out garbled: at passt's own 65520 bytes
10 MB never arrived whole in 9 trials of QEMU 11.1.  Linux takes 32 KiB at once (``unix_stream_sendmsg``).
"""

_NAMES = {"mac-addr": "mac", "ipv4-only": "ipv6", "ipv6-only": "ipv4"}
_SWITCHED_ON = frozenset({"quiet", "freebind"})
_LISTS = frozenset({"search", "tcp-ports", "udp-ports"})
_FEATURES = frozenset({"hubport", "passt"})


class QemuPasst:
    """passt inside QEMU's keeping: only where it is asked for, because QEMU has to run without its sandbox."""

    name = "qemu-passt"

    def handles(self, nic: Interface) -> bool:
        """User networks that name it."""
        return nic.type is InterfaceType.USER and nic.forced_backend == self.name

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Has this QEMU the netdev, and may passt run here?"""
        missing = sorted(_FEATURES - qemu.netdevs.keys())
        if missing:
            return Support(
                False, f"{qemu.path} has no -netdev {missing[0]}", "use QEMU 10.1 or newer, or <backend type='passt'/>"
            )
        here = judge_passt(facts)
        if not here:
            return Support(False, here.reason, here.hint)
        return Support(True, "QEMU starts passt itself, so QEMU runs without its sandbox; only where it is asked for")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """What passt cannot do, and what this QEMU has no way to tell it."""
        yield from check_passt(nic, env)
        if nic.mtu and nic.mtu > MTU:
            text = f"QEMU's own passt cannot carry an MTU of {nic.mtu}"
            yield Problem(f"{env.path}/mtu/@size", text, hint=f"use {MTU} or less, or <backend type='passt'/> alone")
        known = env.qemu.netdevs.get("passt", frozenset())
        _, beyond = members(nic, env)
        if beyond and "param" not in known:
            yield Problem(
                env.path,
                f"{env.qemu.path} cannot tell its passt '{beyond[0]}': it has no member 'param'",
                hint="use <backend type='passt'/> without <virlet:backend>",
            )

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """A port of a hub for the card, and what is plugged into the hub's other port."""
        alias = nic.alias or ""
        hub = crc32(alias.encode()) >> 1
        return NetPlan(
            alias=alias,
            backend=self.name,
            mac=nic.mac or "",
            netdev={"type": "hubport", "hubid": hub, "id": netdev_id(nic)},
            device=card(nic, env),
            helper=_helper(nic, env, hub),
            fds=(),
            needs=frozenset({Need.NO_SANDBOX}),
            link_up=nic.link_up,
            files=passt_files(nic, env),
            binds=all_ports_of(nic, env),
            freebind=nic.passt is not None and nic.passt.freebind is True,
        )


def _helper(nic: Interface, env: Env, hub: int) -> HelperPlan:
    passt = env.facts.passt
    assert passt is not None  # judged before
    alias, netdev = nic.alias or "", f"passt-{nic.alias}"
    link = env.runtime / f"{short_name(alias)}.passt"
    told, beyond = members(nic, env)
    if beyond:
        told["param"] = tuple({"str": word} for word in beyond)
    adds = (
        QmpCommand("netdev_add", {"type": "passt", "id": netdev, "path": str(link), **told}),
        QmpCommand("netdev_add", {"type": "hubport", "id": f"hub-{alias}", "hubid": hub, "netdev": netdev}),
    )
    forwards, everything = ports_of(nic, env)
    log_file = nic.backend.log_file if nic.backend is not None and nic.wants_passt else None
    return HelperPlan(
        name="passt",
        argv=(passt.path,),
        fds=(),
        ready=Ready.PORTS_LISTEN if forwards else Ready.SPAWNED,
        on_loss=OnLoss.QEMU,
        forwards=forwards,
        forwards_all=everything,
        leaves=(link,),
        forked=Forked(link, netdev, adds, Path(log_file) if log_file else env.logs / "qemu.log"),
    )


def members(nic: Interface, env: Env) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """The members of the netdev, and the words for which it has none.

    A member can be said once: a second address goes to the words.
    """
    known = env.qemu.netdevs.get("passt", frozenset())
    told: dict[str, JsonValue] = {}
    beyond: list[str] = []
    if nic.backend is not None and nic.wants_passt and nic.backend.log_file:
        beyond += ("--log-file", nic.backend.log_file)
    for option in passt_options(nic, env):
        name, value = _member(option)
        if name in known and name not in told:
            told[name] = value
        else:
            beyond += (f"--{option.name}",) if option.value is None else (f"--{option.name}", option.value)
    if not nic.mtu:
        told["mtu"] = MTU
    if nic.passt is not None:
        beyond += (param.value for param in nic.passt.params)
        if nic.passt.quiet is False or nic.passt.debug or nic.passt.trace:
            told["quiet"] = False  # QEMU's default is to be quiet.
    return told, tuple(beyond)


def _member(option: Option) -> tuple[str, JsonValue]:
    name = _NAMES.get(option.name, option.name)
    if option.value is None:
        if name in _SWITCHED_ON:
            return name, True
        return (name.removeprefix("no-"), False) if name != "no-map-gw" else (name, None)
    if name == "mtu":
        return name, int(option.value)
    if name == "search":
        return name, tuple({"str": word} for word in option.value.split())
    return name, ({"str": option.value},) if name in _LISTS else option.value
