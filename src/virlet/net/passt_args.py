"""What passt(1) is told, whichever way its frames go to QEMU: options, forwards, log, and what it cannot do.

Who connects it (:mod:`virlet.net.passt` by a stream, others by vhost-user) says how, and adds nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.errors import Problem
from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.net.forwards import flatten, forwards_everything
from virlet.net.guest_forwards import no_guest_forwards
from virlet.net.passt_follow import passt_follow
from virlet.net.passt_options import host_answers, passt_options
from virlet.net.passt_params import check_params
from virlet.net.rules import privileged_ports, rules_of
from virlet.plan.base import Access, FdSource, FileNeed, Forward, HelperPlan, LogFile, OnLoss, Ready, Word
from virlet.plan.facts import Facts, PasstFacts, Support
from virlet.plan.follow import ROUTE, missing_route
from virlet.plan.security import unlock_passt

__all__ = [
    "all_ports_of",
    "check_passt",
    "judge_passt",
    "passt_argv",
    "passt_files",
    "passt_helper",
    "passt_log",
    "ports_of",
]

_NEEDED = ("fd", "foreground")
_INSTALL = "install the package 'passt'"
_OTHER_FILES = 64
"""Open files of a passt that forwards nothing: it has a dozen and a connection needs three."""
_SMALLEST_MTU = 68
_LARGEST_MTU = 65_520


def judge_passt(facts: Facts) -> Support:
    """Is passt here, may it run, and has it what we always need?"""
    passt = facts.passt
    if passt is None:
        return Support(False, "passt is not installed", _INSTALL)
    if not passt.may_run:
        hint = unlock_passt(facts.security) or passt.may_run.hint
        return Support(False, f"passt may not run here: {passt.may_run.reason}", hint)
    missing = [option for option in _NEEDED if not passt.knows(option)]
    if missing:
        return Support(False, f"this passt has no --{missing[0]}", "use passt of 2023 or newer")
    if passt.needs_route and not facts.host.uplinks.routes:
        return Support(
            False,
            "this passt refuses to start on a host without a default route",
            "add a default route, or use a newer passt; an interface that asks for passt by name waits for the route",
            waits_for=ROUTE,
        )
    return Support(True, f"{passt.path} was tried and runs")


def passt_helper(
    nic: Interface, env: Env, *how: Word, fds: tuple[FdSource, ...], on_loss: OnLoss = OnLoss.RESTART
) -> HelperPlan:
    """A passt in the foreground for *nic*, connected as the words *how* say, which name *fds*."""
    forwards, everything = ports_of(nic, env)
    passt = env.facts.passt
    assert passt is not None  # judged before
    argv = tuple(passt_argv(nic, env, *how))
    follow = passt_follow(nic, passt, argv, host_answers(nic, passt))
    return HelperPlan(
        name="passt",
        argv=argv,
        fds=fds,
        ready=Ready.PORTS_LISTEN if forwards else Ready.CONFINED,
        on_loss=on_loss,
        forwards=forwards,
        forwards_all=everything,
        stderr=passt_log(nic, env),
        follow=follow,
        waits_for=ROUTE if missing_route(follow, env.facts.host.uplinks) else "",
    )


def ports_of(nic: Interface, env: Env) -> tuple[tuple[Forward, ...], tuple[str, ...]]:
    """The ranges that passt has to listen on, and the protocols of which it takes what it gets."""
    rules = rules_of(nic, env.path)
    forwards = tuple(forward for rule in rules if not forwards_everything(rule) for forward in flatten(rule))
    return forwards, tuple(rule.proto for rule in rules if forwards_everything(rule))


def passt_argv(nic: Interface, env: Env, *how: Word) -> Iterator[Word]:
    """The whole command line; *how* are the words that connect it, as ``--fd`` and a descriptor."""
    passt = env.facts.passt
    assert passt is not None  # judged before
    yield from (passt.path, "--foreground")
    if passt.knows("stderr"):  # 2023: without it, messages go to the system logger alone when started from a terminal
        yield "--stderr"
    yield from how
    for option in passt_options(nic, env):
        yield f"--{option.name}"
        if option.value is not None:
            yield option.value
    if nic.passt is not None:
        yield from (param.value for param in nic.passt.params)


def check_passt(nic: Interface, env: Env) -> Iterator[Problem]:
    """What this host or its passt cannot do of what the interface asks for."""
    passt = env.facts.passt
    if passt is not None:
        yield from _unknown_options(nic, env, passt)
    if nic.mtu and not _SMALLEST_MTU <= nic.mtu <= _LARGEST_MTU:
        yield Problem(
            f"{env.path}/mtu/@size",
            f"passt cannot carry an MTU of {nic.mtu}",
            hint=f"use {_SMALLEST_MTU} to {_LARGEST_MTU}",
        )
    yield from _missing_links(nic, env)
    yield from _links_alone(nic, env)
    yield from _too_many(nic, env)
    yield from no_guest_forwards(nic, env.path, "passt")
    yield from privileged_ports(nic, env.path, env.facts.host.unprivileged_port_start)


def passt_log(nic: Interface, env: Env) -> LogFile:
    """Where its messages go: libvirt empties ``logFile`` at each start; our own log goes on."""
    if nic.wants_passt and nic.backend is not None and nic.backend.log_file:
        return LogFile(Path(nic.backend.log_file), truncate=True)
    return LogFile(env.logs / f"{nic.alias}-passt.log")


def all_ports_of(nic: Interface, env: Env) -> tuple[Forward, ...]:
    """A port of each address or link of which all are forwarded: any port shows whether the host has it."""
    rules = (rule for rule in rules_of(nic, env.path) if forwards_everything(rule) and (rule.address or rule.device))
    return tuple(Forward(rule.proto, rule.address, rule.device, 0, 0, 0, rule.path) for rule in rules)


def passt_files(nic: Interface, env: Env) -> tuple[FileNeed, ...]:
    """Files of the user's that are written: passt itself goes on without a capture, and says so in its log alone."""
    found = []
    if nic.wants_passt and nic.backend is not None and nic.backend.log_file:
        found.append(FileNeed(Path(nic.backend.log_file), Access.CREATE, f"{env.path}/backend/@logFile", "log file"))
    if nic.passt is not None and nic.passt.pcap_file:
        where = f"{env.path}/virlet:passt/@pcap-file"
        found.append(FileNeed(Path(nic.passt.pcap_file), Access.CREATE, where, "capture"))
    return tuple(found)


def _unknown_options(nic: Interface, env: Env, passt: PasstFacts) -> Iterator[Problem]:
    for option in passt_options(nic, env):
        if option.path and not passt.knows(option.name):
            yield Problem(
                option.path,
                f"the passt of this host ({passt.path}) cannot do that: it has no --{option.name}",
                hint="use a newer passt (2025-05 or later has it), or leave it out",
            )
    if nic.passt is not None:
        yield from check_params(nic.passt, f"{env.path}/virlet:passt", passt)


def _links_alone(nic: Interface, env: Env) -> Iterator[Problem]:
    passt = env.facts.passt
    if passt is None or not passt.link_needs_address:
        return
    for rule in rules_of(nic, env.path):
        if rule.device and rule.address is None:
            yield Problem(
                f"{rule.path}/@dev",
                f"the passt of this host ({passt.path}) cannot listen on a host interface without an address",
                hint="name an address of that interface, too, or use a newer passt (2025-05 or later can)",
            )


def _too_many(nic: Interface, env: Env) -> Iterator[Problem]:
    """Each port is a socket, and passt says so late and at length."""
    most, total = env.facts.host.open_files, 0
    for forward in ports_of(nic, env)[0] if most else ():
        total += forward.end - forward.start + 1
        if total + _OTHER_FILES > most:
            yield Problem(
                forward.path,
                f"{total} forwarded ports are as many open files, and a process may have {most} of them here",
                hint="forward fewer, or raise the hard limit of open files (RLIMIT_NOFILE; LimitNOFILE= of a unit)",
            )
            return


def _missing_links(nic: Interface, env: Env) -> Iterator[Problem]:
    links = env.facts.host.interfaces
    asked = [(f"{env.path}/portForward[{n}]/@dev", rule.dev) for n, rule in enumerate(nic.port_forwards, 1)]
    if nic.source is not None:
        asked.insert(0, (f"{env.path}/source/@dev", nic.source.dev))
    if nic.passt is not None:
        for name in ("outbound-if4", "outbound-if6"):
            asked.append((f"{env.path}/virlet:passt/@{name}", getattr(nic.passt, name.replace("-", "_"))))
    for path, link in asked:
        if link and link not in links:
            yield Problem(
                path,
                f"there is no network interface '{link}' on this host",
                hint=f"this host has {', '.join(sorted(links))}" if links else None,
            )
