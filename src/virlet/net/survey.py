"""Every backend's yes or no to one interface, each with its reason: what ``explain`` shows beside the choice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from virlet.errors import Problem
from virlet.model.interface import ForcedBackend, Interface
from virlet.net.base import Env, NetBackend
from virlet.net.choose import Registry, choose, offer_of
from virlet.plan.facts import Support
from virlet.xml.declare import replace

__all__ = ["Verdict", "survey"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one backend would make of an interface."""

    name: str
    support: Support
    """Whether it can carry it here, why or why not, and what would help."""
    chosen: bool = False
    concerned: bool = True
    """False for a backend of other types of interface, which no setting makes a candidate."""


def survey(nic: Interface, env: Env, among: Registry) -> tuple[Verdict, ...]:
    """The verdict of each of *among*, the preferred first."""
    choice = choose(nic, env, among)
    return tuple(_verdict(each, nic, env, choice.backend) for each in among.backends)


def _verdict(backend: NetBackend, nic: Interface, env: Env, chosen: NetBackend | None) -> Verdict:
    if not backend.handles(nic):
        return _elsewhere(backend, nic, env)
    if nic.forced_backend not in (None, backend.name):
        return Verdict(backend.name, Support(False, f"the interface asks for {nic.forced_backend}"))
    support = backend.judge(env.facts, env.qemu)
    offer = offer_of(backend, nic, env)
    if support:
        problems = tuple(backend.check(nic, env))
        if offer is not None and not offer:
            support = offer
        elif problems:
            support = _refused(problems)
        elif offer is not None:
            support = offer
    return Verdict(backend.name, support, chosen=backend is chosen)


def _refused(problems: tuple[Problem, ...]) -> Support:
    hints = dict.fromkeys(problem.hint for problem in problems if problem.hint)
    return Support(False, "; ".join(problem.message for problem in problems), "; ".join(hints) or None)


def _elsewhere(backend: NetBackend, nic: Interface, env: Env) -> Verdict:
    """A backend that the interface does not mean: because it names another, or not this one, or is of another type."""
    for other in _renamed(nic, backend.name):
        if backend.handles(other):
            here = backend.judge(env.facts, env.qemu)
            named = "passt" if nic.needs_passt and nic.forced_backend is None else nic.forced_backend
            if not here:
                return Verdict(backend.name, here)
            if named is not None:
                return Verdict(backend.name, Support(False, f"the interface asks for {named}"))
            hint = f"<virlet:backend name='{backend.name}'/> asks for it"
            return Verdict(backend.name, Support(False, "never chosen by itself", hint))
    return Verdict(backend.name, Support(False, f"not for interfaces of type '{nic.type}'"), concerned=False)


def _renamed(nic: Interface, name: str) -> Iterator[Interface]:
    named = replace(nic, forced=ForcedBackend(name=name))
    yield named
    yield replace(named, backend=None, passt=None)
