"""What virlet tells beyond libvirt: plans explained, ports, details, logs, and what is wrong with a host."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from virlet.engine.confine import Refused, grants_of
from virlet.engine.context import Context
from virlet.engine.guest import Guest
from virlet.engine.needs import file_problem, look, port_problems
from virlet.engine.planned import live_form, plan_start
from virlet.errors import BadConfig, InvalidArg, SystemFailure, sentence
from virlet.model.domain import Domain
from virlet.net.choose import choose, verdicts
from virlet.net.forwards import flatten, forwards_everything
from virlet.net.rules import rules_of
from virlet.net.survey import survey
from virlet.plan.base import HelperPlan, LaunchPlan, NetPlan
from virlet.plan.check import emulator_of, environments
from virlet.plan.facts import Support
from virlet.plan.native import native
from virlet.plan.security import judge_security

__all__ = ["details", "doctor", "explain", "log_path", "native_of", "ports", "read_log"]

Facts = dict[str, object]


def native_of(context: Context, domain: Domain) -> str:
    """The command lines that a start of *domain* would run, one shell line each, network included."""
    _, plan = plan_start(context, domain)
    return native(plan)


def explain(context: Context, domain: Domain, *, running: bool) -> Facts:
    """What a start of *domain* would do, and why, or what keeps it from starting; nothing is done."""
    about: Facts = {
        "name": domain.name,
        "uuid": str(domain.uuid),
        "describes": "its next start; it runs now, as 'virlet info' shows" if running else "its next start",
    }
    try:
        live, plan = plan_start(context, domain)
    except BadConfig as error:
        nics = list(_interfaces(context, live_form(context, domain), {}))
        return {**about, "interfaces": nics, "problems": list(map(sentence, error.problems))}
    missing = [
        f"{need.what} '{need.path}': {os.strerror(number)}"
        for need in plan.files_needed
        if (number := file_problem(need))
    ]
    taken = [] if running else port_problems(plan.nets, look(plan.nets, context.owner_of_port))
    return {
        **about,
        "emulator": str(plan.emulator),
        "accelerator": str(live.type),
        "commands": native(plan).splitlines(),
        "confined": _confined(plan),
        "interfaces": list(_interfaces(context, live, {net.alias: net for net in plan.nets})),
        "files": [{"path": str(need.path), "for": need.what, "access": str(need.access)} for need in plan.files_needed],
        "log": str(plan.log.path),
        "tainted": list(plan.tainted),
        "problems": [*missing, *(problem.message for problem in taken)],
    }


def _confined(plan: LaunchPlan) -> str:
    try:
        grants_of(plan)
    except Refused as error:
        return f"no: {error}"
    return "yes, to its own files"


def _interfaces(context: Context, domain: Domain, nets: Mapping[str, NetPlan]) -> Iterator[Facts]:
    """What is planned for each interface, and every backend's yes or no."""
    qemu = emulator_of(domain, context.facts)
    for nic, env in environments(domain, context.facts, qemu) if qemu is not None else ():
        net, choice = nets.get(nic.alias or ""), choose(nic, env, context.registry)
        yield {
            "alias": nic.alias,
            "mac": nic.mac,
            "backend": choice.backend.name if choice.backend is not None else None,
            "why": list(choice.why),
            **({} if net is None else _planned(net)),
            "backends": [
                {"name": each.name, "chosen": each.chosen, "concerned": each.concerned, **_verdict(each.support)}
                for each in survey(nic, env, context.registry)
            ],
        }


def _planned(net: NetPlan) -> Facts:
    helper = net.helper
    return {
        "helper": helper.name if helper is not None else None,
        "forwards": [
            {"proto": f.proto, "address": f.address, "dev": f.device, "start": f.start, "end": f.end, "to": f.to}
            for f in net.listens_on
        ],
        "link": _link(net),
    }


def _link(net: NetPlan) -> str:
    if net.link_up and net.helper is not None and net.helper.waits_for:
        return f"down, until there is {net.helper.waits_for}"
    return "up" if net.link_up else "down"


def ports(guest: Guest) -> Sequence[Mapping[str, object]]:
    """Every forwarded range of the guest, with the state of whoever carries it."""
    return list(_ports(guest))


def _ports(guest: Guest) -> Iterator[Facts]:
    for number, nic in enumerate(guest.domain.devices.interfaces):
        alias = nic.alias or f"net{number}"
        helper = guest.run.helpers.get(alias) if guest.run is not None else None
        state = helper.condition if helper is not None else ("running" if guest.active else "off")
        for rule in rules_of(nic, f"devices/interface[{number + 1}]"):
            common: Facts = {"alias": alias, "proto": rule.proto, "address": rule.address, "dev": rule.device}
            if forwards_everything(rule):
                yield {**common, "start": "all", "end": None, "to": "same", "state": state}
            for forward in flatten(rule):
                yield {**common, "start": forward.start, "end": forward.end, "to": forward.to, "state": state}


def details(guest: Guest) -> Facts:
    """Processes, networks and files of a guest."""
    run, logs = guest.run, guest.context.guest_dirs(guest.uuid).logs
    found: Facts = {"log": str(logs / "qemu.log"), "defined_on_other_host": guest.foreign or None}
    if run is None:
        return found
    found["pid"] = run.process.pid
    found["tainted"] = list(run.taints)
    found["confined"] = f"no: {run.record.unconfined}" if run.record.unconfined else "yes, to its own files"
    found["monitor"] = str(run.record.monitor)
    if not run.reachable:
        found["unreachable"] = run.monitor.closed.result()
    found["helpers"] = [
        {
            "alias": alias,
            "name": helper.record.plan.name,
            "pid": helper.process.pid if helper.process is not None else None,
            "condition": helper.condition,
            "why": helper.why or None,
            "restarts": helper.record.restarts,
            "log": _log_of(helper.record.plan),
        }
        for alias, helper in run.helpers.items()
    ]
    return found


def _log_of(plan: HelperPlan) -> str | None:
    if plan.forked is not None:
        return str(plan.forked.log)
    return str(plan.stderr.path) if plan.stderr is not None else None


def log_path(guest: Guest, which: str) -> Path:
    """The log called *which*: ``qemu``, or the alias of an interface; raises :class:`InvalidArg`."""
    logs = guest.context.guest_dirs(guest.uuid).logs
    if which in ("", "qemu"):
        return logs / "qemu.log"
    helper = guest.run.helpers.get(which) if guest.run is not None else None
    known = _log_of(helper.record.plan) if helper is not None else None
    if known is not None:
        return Path(known)
    for number, nic in enumerate(guest.domain.devices.interfaces):
        if which == (nic.alias or f"net{number}"):
            named = nic.backend.log_file if nic.backend is not None else None
            return Path(named) if named else logs / f"{which}-passt.log"
    raise InvalidArg(f"'{guest.name}' has no log '{which}'", hint="name 'qemu' or the alias of an interface, as 'net0'")


def read_log(path: Path, offset: int, limit: int) -> tuple[bytes, int, bool]:
    """Bytes from *offset*, the next offset, and whether that was the end; a log that is not there is empty.

    A log that was rotated meanwhile is shorter than *offset*: it is read from its beginning.  A negative *offset*
    counts from the end.
    """
    try:
        with path.open("rb") as log:
            size = os.fstat(log.fileno()).st_size
            begin = max(0, size + offset) if offset < 0 else offset if offset <= size else 0
            log.seek(begin)
            data = log.read(limit)
            return data, begin + len(data), begin + len(data) >= size
    except FileNotFoundError:
        return b"", 0, True
    except OSError as error:
        raise SystemFailure.of(error, f"cannot read the log '{path}'") from error


def doctor(context: Context) -> Facts:
    """What works on this host, what does not and what to do about it."""
    facts = context.facts
    host, passt = facts.host, facts.passt
    return {
        "host": {"arch": host.arch, "hostname": host.hostname, "uid": host.uid, "kvm": _verdict(host.kvm)},
        "confinement": _verdict(host.landlock),
        "qemu": [
            {
                "path": qemu.path,
                "arch": qemu.arch,
                "version": qemu.version_text,
                "networks": {name: _verdict(said) for name, said in verdicts(facts, qemu, context.registry)},
            }
            for qemu in facts.qemu.values()
        ],
        "passt": {"path": passt.path, "version": passt.version, **_verdict(passt.may_run)} if passt else None,
        "security": {
            name: _verdict(said) for name, said in judge_security(facts.security, passt.may_run if passt else None)
        },
        "ping": host.may_ping,
        "lowest_port": host.unprivileged_port_start,
        "directories": {name: str(getattr(context.dirs, name)) for name in ("config", "state", "cache", "runtime")},
        "problems": [*context.definitions.problems, *context.status.problems, *context.cache.problems],
    }


def _verdict(support: Support) -> Facts:
    return {"ok": support.ok, "reason": support.reason, "hint": support.hint}
