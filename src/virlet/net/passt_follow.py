"""What a passt settles at its start and never again (docs/network.md has the experiments)."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from itertools import pairwise

from virlet.model.interface import Interface
from virlet.plan.base import Word
from virlet.plan.facts import PasstFacts
from virlet.plan.follow import Follow

__all__ = ["passt_follow"]


def passt_follow(nic: Interface, passt: PasstFacts, argv: Sequence[Word], answers: tuple[str, ...] = ()) -> Follow:
    """What the passt of that command line depends on; for *answers* see :attr:`virlet.plan.follow.Follow.answers`.

    A passt of 2023 leaves a family out that has no route when it starts, and refuses to start where neither has one,
    unless it is told both link and addresses.  A later one always starts, and leaves out what it has to copy.
    """
    words = [word for word in argv if isinstance(word, str)]
    values = list(pairwise(words))
    link = next((value for word, value in values if word == "--interface"), "")
    wanted = [family for family, off in ((4, "--ipv6-only"), (6, "--ipv4-only")) if off not in words]
    given = {family for word, value in values if word == "--address" and (family := _family(value))}
    routed = {family for word, value in values if word == "--gateway" and (family := _family(value))}
    pinned = given & routed
    every = passt.needs_route and not link
    return Follow(
        link=link,
        families=tuple(family for family in wanted if every or family not in pinned),
        needs_route=passt.needs_route and not (link and pinned),
        devices=tuple(dict.fromkeys(rule.dev for rule in nic.port_forwards if rule.dev)),
        resolvers=tuple(sorted(set(map(_family, answers)) or _reads(words, wanted))),
        answers=answers,
    )


def _reads(words: Sequence[str], wanted: Sequence[int]) -> set[int]:
    """Families whose nameservers passt reads from the host's file: to offer them, or to ask them for the guest.

    One that is told any nameserver to offer does not read the file.
    """
    if "--dns" in words:
        return set()
    values = list(pairwise(words))
    if "--no-dhcp-dns" not in words:
        return set(wanted)
    forwards = {_family(value) for word, value in values if word == "--dns-forward"}
    return forwards - {_family(value) for word, value in values if word == "--dns-host"}


def _family(value: str) -> int:
    try:
        return ip_address(value.partition("/")[0]).version
    except ValueError:
        return 0
