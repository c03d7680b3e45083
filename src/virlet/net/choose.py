"""Which backend carries an interface, and why."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import cast

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net.admin import make_macvtap
from virlet.net.base import Env, NetBackend, Upgrade
from virlet.plan.facts import Facts, QemuFacts, Support
from virlet.plugins import entry_points

__all__ = ["REFUSED", "Choice", "Registry", "choose", "offer_of", "registry", "verdicts"]

log = logging.getLogger(__name__)

_PREFERENCE = ("passt-vhost-user", "passt", "slirp-helper", "slirp")
"""As measured from guest to host and back by bench/net.py (docs/network.md)."""

_USER = "use <interface type='user'>: passt reaches what this host reaches"
_NETWORK = (
    "use <interface type='user'> with <portForward>, which needs no bridge; or have root make the bridge and use"
    " <interface type='bridge'>"
)
_DIRECT = (
    "let root run: {make}; and use <interface type='ethernet'> with <target dev='macvtap0' managed='no'/> and the same"
    " <mac>; or use <interface type='user'>"
)

REFUSED: dict[InterfaceType, tuple[str, str]] = {
    InterfaceType.NETWORK: ("virtual networks are made by root's network driver", _NETWORK),
    InterfaceType.DIRECT: ("making a macvtap device needs root", _DIRECT),
    InterfaceType.HOSTDEV: ("giving a PCI device to a guest needs root", _USER),
    InterfaceType.VDPA: ("vDPA devices are opened by root", _USER),
    InterfaceType.VDS: ("network device type 'vds' is not supported by this hypervisor", _USER),
}
"""Interface types that nobody carries here: the reason and what to use without root."""

_CODES = {
    InterfaceType.NETWORK: ErrorCode.NO_CONNECT,
    InterfaceType.DIRECT: ErrorCode.SYSTEM_ERROR,
    InterfaceType.VDPA: ErrorCode.SYSTEM_ERROR,
}
"""The codes with which libvirt's session daemon fails there: no network driver to ask, a device that cannot be made."""


@dataclass(frozen=True, slots=True)
class Registry:
    """The known backends, the preferred first."""

    backends: tuple[NetBackend, ...]

    def get(self, name: str) -> NetBackend | None:
        """The backend of that name."""
        return next((backend for backend in self.backends if backend.name == name), None)


@dataclass(frozen=True, slots=True)
class Choice:
    """What carries one interface."""

    backend: NetBackend | None
    """None when nothing can."""
    why: tuple[str, ...]
    """One sentence each: who was preferred, who could not and why."""
    problems: tuple[Problem, ...] = ()
    """What keeps it from being carried; empty when there is a backend."""


@cache
def registry() -> Registry:
    """Every backend of the entry-point group ``virlet.net``, ours first; loaded at the first call."""
    return Registry(tuple(sorted(_loaded(), key=_rank)))


def _loaded() -> Iterator[NetBackend]:
    for point in entry_points("virlet.net"):
        try:
            yield cast("type[NetBackend]", point.load())()
        except (ImportError, AttributeError) as error:
            # Half removed, or made for another virlet: no reason to have no network at all.
            log.error("network backend '%s' (%s) is left out: %s", point.name, point.value, error)


def _rank(backend: NetBackend) -> tuple[int, str]:
    known = backend.name in _PREFERENCE
    return (_PREFERENCE.index(backend.name) if known else len(_PREFERENCE), backend.name)


def choose(nic: Interface, env: Env, among: Registry) -> Choice:
    """The first backend that handles *nic*, can run here and has no problem with what it asks for.

    One that could as soon as something comes (:attr:`Support.waits_for`) is taken when there is no other.

    When none is left, the problems are those of the first that could at least run, or the reason of the first; those
    of an upgrade that nobody asked for are not among them.
    """
    why: list[str] = []
    cannot: list[Problem] = []
    refused: list[Problem] = []
    later: list[tuple[NetBackend, str]] = []
    for backend in among.backends:
        if not backend.handles(nic) or nic.forced_backend not in (None, backend.name):
            continue
        offer = offer_of(backend, nic, env)
        support = backend.judge(env.facts, env.qemu)
        if not support and not support.waits_for:
            why.append(f"{backend.name} is not possible: {support.reason}")
            cannot += [] if offer is not None else [Problem(env.path, support.reason, hint=support.hint)]
            continue
        if offer is not None and not offer:
            why.append(f"{backend.name} is not chosen: {offer.reason} ({offer.hint})")
            continue
        problems = list(backend.check(nic, env))
        if not problems and support:
            return Choice(backend, (*why, _reason(nic, backend, offer or support, asked=offer is None)))
        if not problems:
            later.append((backend, support.waits_for))
            why.append(f"{backend.name} is not possible yet: {support.reason}")
            continue
        why.append(f"{backend.name} cannot do what the interface asks for: {problems[0].message}")
        refused = refused or ([] if offer is not None else problems)
    for backend, missing in later:
        return Choice(backend, (*why, f"{backend.name}: nobody else can carry it, so it waits for {missing}"))
    return Choice(None, tuple(why), tuple([*cannot, *refused] or [_nobody(nic, env, among)]))


def offer_of(backend: NetBackend, nic: Interface, env: Env) -> Support | None:
    """What an upgrade says that nobody asked for by name; None for all others."""
    return backend.offer(nic, env) if isinstance(backend, Upgrade) and nic.forced_backend is None else None


def _reason(nic: Interface, backend: NetBackend, support: Support, *, asked: bool) -> str:
    named = asked and (nic.wants_passt or nic.forced_backend is not None)
    why = "the interface asks for it" if named else "the best that can carry it here"
    return f"{backend.name}: {why}" + (f" ({support.reason})" if support.reason else "")


def _nobody(nic: Interface, env: Env, among: Registry) -> Problem:
    if nic.forced_backend is not None and nic.type not in REFUSED:
        able = [backend.name for backend in among.backends if backend.handles(nic)]
        message = f"the backend '{nic.forced_backend}' does not carry this interface"
        if among.get(nic.forced_backend) is None:
            message = f"there is no backend '{nic.forced_backend}'"
        hint = f"use {' or '.join(able)}" if able else None
        return Problem(f"{env.path}/virlet:backend/@name", message, hint=hint)
    reason, hint = REFUSED.get(nic.type, (f"no backend carries interfaces of type '{nic.type}'", _USER))
    if nic.type is InterfaceType.DIRECT:
        lower = (nic.source.dev if nic.source is not None else None) or "DEV"
        hint = hint.format(make=make_macvtap("macvtap0", lower, nic.mac or "MAC", env.facts.host.uid))
    code = _CODES.get(nic.type, ErrorCode.CONFIG_UNSUPPORTED)
    return Problem(f"{env.path}/@type", f"interface type '{nic.type}': {reason}", hint=hint, code=code)


def verdicts(facts: Facts, qemu: QemuFacts, among: Registry) -> tuple[tuple[str, Support], ...]:
    """Each backend's yes or no, for ``doctor``."""
    return tuple((backend.name, backend.judge(facts, qemu)) for backend in among.backends)
