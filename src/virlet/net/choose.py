"""Which backend carries an interface, and why."""

from __future__ import annotations

from dataclasses import dataclass

from virlet.model.interface import Interface
from virlet.net.base import Env, NetBackend
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Choice", "Registry", "choose", "registry", "verdicts"]


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


def registry() -> Registry:
    """Every backend of the entry-point group ``virlet.net``; loaded once."""
    raise NotImplementedError


def choose(nic: Interface, env: Env, among: Registry) -> Choice:
    """The best backend for *nic* here."""
    raise NotImplementedError


def verdicts(facts: Facts, qemu: QemuFacts, among: Registry) -> tuple[tuple[str, Support], ...]:
    """Each backend's yes or no, for ``doctor``."""
    raise NotImplementedError
