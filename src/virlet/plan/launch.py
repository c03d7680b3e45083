"""From a domain to everything its start does: :func:`plan_launch`.  Nothing is done here."""

from __future__ import annotations

from virlet.model.domain import Domain
from virlet.net.choose import Registry
from virlet.plan.base import GuestDirs, LaunchPlan
from virlet.plan.facts import Facts

__all__ = ["plan_launch"]


def plan_launch(domain: Domain, facts: Facts, dirs: GuestDirs, registry: Registry) -> LaunchPlan:
    """The plan for *domain*, which has its addresses and aliases (see :mod:`virlet.plan.assign`).

    Raises :class:`virlet.errors.BadConfig` with every problem that :func:`virlet.plan.check.check_launch` finds.
    """
    raise NotImplementedError
