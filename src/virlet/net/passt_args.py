"""What passt(1) is told, whichever way its frames go to QEMU: options, forwards, log, and what it cannot do.

Who connects it (:mod:`virlet.net.passt` by a stream, others by vhost-user) says how, and adds nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from virlet.errors import Problem
from virlet.model.interface import Interface
from virlet.net.addressing import guest_view
from virlet.net.base import Env
from virlet.net.forwards import flatten, forwards_everything, spec
from virlet.net.rules import privileged_ports, rules_of
from virlet.plan.base import FdSource, HelperPlan, LogFile, OnLoss, Ready, Word
from virlet.plan.facts import Facts, PasstFacts, Support

__all__ = ["check_passt", "judge_passt", "passt_argv", "passt_helper", "passt_log"]

_NEEDED = ("fd", "foreground")
_INSTALL = "install the package 'passt'"
_SMALLEST_MTU = 68
_LARGEST_MTU = 65_520


def judge_passt(facts: Facts) -> Support:
    """Is passt here, may it run, and has it what we always need?"""
    passt = facts.passt
    if passt is None:
        return Support(False, "passt is not installed", _INSTALL)
    if not passt.may_run:
        return Support(False, f"passt may not run here: {passt.may_run.reason}", passt.may_run.hint)
    missing = [option for option in _NEEDED if not passt.knows(option)]
    if missing:
        return Support(False, f"this passt has no --{missing[0]}", "use passt of 2023 or newer")
    return Support(True, f"{passt.path} was tried and runs")


def passt_helper(
    nic: Interface, env: Env, *how: Word, fds: tuple[FdSource, ...], on_loss: OnLoss = OnLoss.RESTART
) -> HelperPlan:
    """A passt in the foreground for *nic*, connected as the words *how* say, which name *fds*."""
    rules = rules_of(nic, env.path)
    forwards = tuple(forward for rule in rules if not forwards_everything(rule) for forward in flatten(rule))
    return HelperPlan(
        name="passt",
        argv=tuple(passt_argv(nic, env, *how)),
        fds=fds,
        ready=Ready.PORTS_LISTEN if forwards else Ready.SPAWNED,
        on_loss=on_loss,
        forwards=forwards,
        forwards_all=tuple(rule.proto for rule in rules if forwards_everything(rule)),
        stderr=passt_log(nic, env),
    )


def passt_argv(nic: Interface, env: Env, *how: Word) -> Iterator[Word]:
    """The whole command line; *how* are the words that connect it, as ``--fd`` and a descriptor."""
    passt = env.facts.passt
    assert passt is not None  # judged before
    yield from (passt.path, "--foreground")
    if passt.knows("stderr"):  # 2023: without it, messages go to the system logger alone when started from a terminal
        yield "--stderr"
    yield from how
    if nic.mtu:
        yield from ("--mtu", str(nic.mtu))
    if nic.source is not None and nic.source.dev:
        yield from ("--interface", nic.source.dev)
    yield from _named(nic) if nic.wants_passt else _like_slirp(nic, passt, env.facts.host.nameservers)
    for rule in rules_of(nic, env.path):
        yield from (f"--{rule.proto}-ports", spec(rule))


def check_passt(nic: Interface, env: Env) -> Iterator[Problem]:
    """What this host or its passt cannot do of what the interface asks for."""
    passt = env.facts.passt
    if nic.wants_passt and passt is not None:
        yield from _unknown_options(nic, env, passt)
    if nic.mtu and not _SMALLEST_MTU <= nic.mtu <= _LARGEST_MTU:
        yield Problem(
            f"{env.path}/mtu/@size",
            f"passt cannot carry an MTU of {nic.mtu}",
            hint=f"use {_SMALLEST_MTU} to {_LARGEST_MTU}",
        )
    yield from _missing_links(nic, env)
    yield from privileged_ports(nic, env.path, env.facts.host.unprivileged_port_start)


def passt_log(nic: Interface, env: Env) -> LogFile:
    """Where its messages go: libvirt empties ``logFile`` at each start; our own log goes on."""
    if nic.wants_passt and nic.backend is not None and nic.backend.log_file:
        return LogFile(Path(nic.backend.log_file), truncate=True)
    return LogFile(env.logs / f"{nic.alias}-passt.log")


def _named(nic: Interface) -> Iterator[str]:
    """An interface that asks for passt means what libvirt means: what is not said is copied from the host."""
    if nic.backend is not None:
        if nic.backend.hostname:
            yield from ("--hostname", nic.backend.hostname)
        if nic.backend.fqdn:
            yield from ("--fqdn", nic.backend.fqdn)
    for ip in nic.ips:
        yield from ("--address", str(ip.address))
        if ip.address.version == 4 and ip.prefix:
            yield from ("--netmask", str(ip.prefix))
    for route in nic.routes:
        yield from ("--gateway", str(route.gateway))


def _like_slirp(nic: Interface, passt: PasstFacts, nameservers: Sequence[str]) -> Iterator[str]:
    """An interface that names no backend sees the same addresses on each: those of QEMU's user network.

    The nameserver's address is answered on every passt.  It is offered only where passt can be told the resolver behind
    it (``--dns-host``, 2025): with ``--dns`` alone, passt no longer asks the host which one that is.
    """
    view = guest_view(nic.ips)
    yield from ("--address", str(view.guest4), "--netmask", str(view.prefix4), "--gateway", str(view.host4))
    yield from ("--address", str(view.guest6), "--gateway", str(view.host6))
    yield from ("--dns-forward", str(view.dns4), "--dns-forward", str(view.dns6))
    if not passt.knows("dns-host"):
        return
    for address in (view.dns4, view.dns6):
        resolver = next((one for one in nameservers if _same_family(address, one)), None)
        if resolver is not None:
            yield from ("--dns", str(address), "--dns-host", resolver)


def _same_family(address: IPv4Address | IPv6Address, other: str) -> bool:
    """A link-local address with a zone is none that passt can be told."""
    return "%" not in other and (":" in other) == (address.version == 6)


def _unknown_options(nic: Interface, env: Env, passt: PasstFacts) -> Iterator[Problem]:
    backend = nic.backend
    assert backend is not None
    for option, value in (("hostname", backend.hostname), ("fqdn", backend.fqdn)):
        if value and not passt.knows(option):
            yield Problem(
                f"{env.path}/backend/@{option}",
                f"the passt of this host ({passt.path}) cannot offer a {option}: it has no --{option}",
                hint="use passt of 2025-05 or newer, or leave the attribute out",
            )


def _missing_links(nic: Interface, env: Env) -> Iterator[Problem]:
    links = env.facts.host.interfaces
    asked = [(f"{env.path}/portForward[{n}]/@dev", rule.dev) for n, rule in enumerate(nic.port_forwards, 1)]
    if nic.source is not None:
        asked.insert(0, (f"{env.path}/source/@dev", nic.source.dev))
    for path, link in asked:
        if link and link not in links:
            yield Problem(
                path,
                f"there is no network interface '{link}' on this host",
                hint=f"this host has {', '.join(sorted(links))}" if links else None,
            )
