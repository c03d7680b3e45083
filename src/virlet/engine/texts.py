"""Domain XML in and out, as the engine needs it: with the place of every problem, and printed for either form."""

from __future__ import annotations

from collections.abc import Iterable

from virlet.errors import BadConfig, Problem
from virlet.model.domain import Domain, format_domain
from virlet.xml.source import Source

__all__ = ["print_xml", "raise_problems"]


def print_xml(domain: Domain, *, inactive: bool, secure: bool) -> str:
    """The XML of a definition or of a running guest, whose id is part of its live form."""
    return format_domain(domain, inactive=inactive, secure=secure, id=None if inactive else domain.id)


def raise_problems(problems: Iterable[Problem], source: Source) -> None:
    """Raise all of them as one :class:`BadConfig`, each with its line; return when there are none."""
    found = [source.locate(problem) for problem in problems]
    if found:
        raise BadConfig(found)
