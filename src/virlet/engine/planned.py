"""What a start would do, with nothing done yet; and where in the guest's XML its troubles are."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from virlet.engine.context import Context
from virlet.engine.texts import print_xml
from virlet.errors import BadConfig, Problem
from virlet.model.domain import Domain, parse_domain
from virlet.net.links import links_named
from virlet.plan.assign import assign_aliases
from virlet.plan.base import LaunchPlan
from virlet.plan.launch import plan_launch
from virlet.plan.share import with_shared_memory

__all__ = ["live_form", "located", "plan_start"]


def plan_start(context: Context, definition: Domain) -> tuple[Domain, LaunchPlan]:
    """The live form of *definition* and what its start would do; nothing is done.  Raises :class:`BadConfig`."""
    domain = live_form(context, definition)
    dirs = context.guest_dirs(definition.uuid)
    try:
        return domain, plan_launch(domain, context.facts, dirs, context.registry)
    except BadConfig as error:
        raise BadConfig(located(definition, error.problems)) from None


def live_form(context: Context, definition: Domain) -> Domain:
    """*definition* with what its start would add to it; the host's links are looked at again."""
    context.look_again(links_named(definition), definition.uuid)
    dirs = context.guest_dirs(definition.uuid)
    return with_shared_memory(assign_aliases(definition, dirs), context.facts, context.registry)


def located(definition: Domain, problems: Iterable[Problem]) -> list[Problem]:
    """*problems* with the lines of the guest's own XML, as ``virsh dumpxml --inactive`` shows it."""
    _, source = parse_domain(print_xml(definition, inactive=True, secure=False), stored=True)
    return [replace(source.locate(problem), text="dumpxml --inactive") for problem in problems]
