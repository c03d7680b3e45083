"""Whether a domain can be had here: every problem at once, each with its place in the XML."""

from __future__ import annotations

from virlet.errors import Problem
from virlet.model.domain import Domain
from virlet.net.choose import Registry
from virlet.plan.facts import Facts

__all__ = ["check_define", "check_launch"]


def check_define(domain: Domain, registry: Registry) -> list[Problem]:
    """What is wrong with *domain* on any host; asked when it is defined."""
    raise NotImplementedError


def check_launch(domain: Domain, facts: Facts, registry: Registry) -> list[Problem]:
    """What keeps *domain* from starting on this host, those of :func:`check_define` included."""
    raise NotImplementedError
