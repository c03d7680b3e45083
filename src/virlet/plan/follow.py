"""What a helper takes in of the host's network when it starts, and whether a later network asks for another one.

passt sends guests' traffic where the kernel's routes lead, so most changes need nothing.  What it settles once and for
all at its start was found by experiment (docs/network.md): which address families there are, which addresses it copies,
to which links its listening sockets are bound, and which nameservers the host has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import pairwise
from typing import TypeVar

__all__ = ["ROUTE", "Follow", "Seen", "Uplinks", "copied", "missing_route", "outdated", "resolver", "retold", "seen"]

T = TypeVar("T")

ROUTE = "a default route"
"""What a passt of 2023 waits for, as people are told."""
_NAMES = {4: "IPv4", 6: "IPv6"}


@dataclass(frozen=True, slots=True)
class Uplinks:
    """Where this host's traffic leaves it."""

    routes: frozenset[tuple[int, str]] = frozenset()
    """Default routes: address family (4 or 6) and name of the link."""
    indexes: Mapping[str, int] = field(default_factory=dict)
    """Every link's number by its name; a link that is made anew has another one."""
    nameservers: tuple[str, ...] = ()
    """The host's, in order."""


@dataclass(frozen=True, slots=True)
class Follow:
    """What a helper depends on from its start on."""

    link: str = ""
    """The link whose routes count; empty for any."""
    families: tuple[int, ...] = ()
    """Address families that it serves only where there is a route when it starts."""
    needs_route: bool = False
    """It refuses to start where there is none."""
    devices: tuple[str, ...] = ()
    """Links that its sockets are bound to."""
    resolvers: tuple[int, ...] = ()
    """Address families whose nameservers it takes from the host."""
    answers: tuple[str, ...] = ()
    """Addresses at which its guest asks, of which it is told by words which of the host's nameservers answers there."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a helper found when it started."""

    families: tuple[int, ...] = ()
    """Those of :attr:`Follow.families` that had a route."""
    devices: tuple[int, ...] = ()
    """The numbers of :attr:`Follow.devices`, 0 for one that is missing."""
    nameservers: tuple[str, ...] | None = None
    """The host's first one of each family of :attr:`Follow.resolvers` that had one; None: it does not matter."""


def seen(follow: Follow, uplinks: Uplinks, pins: Sequence[str] = ()) -> Seen:
    """What a helper that starts now finds; what it is given by *pins* (see :func:`copied`) it need not find."""
    there = _routed(follow, uplinks)
    if not follow.needs_route:
        there |= {family for family in _NAMES if _given(pins, "--address", family)}
    return Seen(
        tuple(family for family in follow.families if family in there),
        tuple(uplinks.indexes.get(name, 0) for name in follow.devices),
        tuple(filter(None, (resolver(uplinks.nameservers, each) for each in follow.resolvers)))
        if follow.resolvers
        else None,
    )


def resolver(nameservers: Sequence[str], family: int) -> str | None:
    """The first of that family; none with a zone, which passt cannot be told."""
    return next((each for each in nameservers if "%" not in each and _address(each, family)), None)


def missing_route(follow: Follow, uplinks: Uplinks) -> bool:
    """It would refuse to start now."""
    return follow.needs_route and _routed(follow, uplinks).isdisjoint(follow.families or _NAMES)


def _routed(follow: Follow, uplinks: Uplinks) -> set[int]:
    return {family for family, link in uplinks.routes if follow.link in ("", link)}


def outdated(follow: Follow, then: Seen, uplinks: Uplinks) -> str:
    """Why a helper that found *then* has to be started anew to serve the present network; empty when it need not.

    What has gone away is no reason: it may come back, and then the helper still serves it.
    """
    now = seen(follow, uplinks)
    came = [_NAMES.get(family, str(family)) for family in now.families if family not in then.families]
    if came:
        where = f" on {follow.link}" if follow.link else ""
        return f"the host has a default route for {' and '.join(came)} now{where}"
    for name, before, after in zip(follow.devices, then.devices, now.devices, strict=False):
        if after not in (0, before):
            return f"{name} is another link than it was"
    if then.nameservers is not None and _asks_others(then.nameservers, now.nameservers or ()):
        return f"the host's nameserver is {' and '.join(now.nameservers or ())} now"
    return ""


def _asks_others(then: Sequence[str], now: Sequence[str]) -> bool:
    """A family that has come, or gone while another serves, is no reason to end the guest's connections."""
    common = [(one, other) for one in then for other in now if (":" in one) == (":" in other)]
    return bool(now) and (not common or any(one != other for one, other in common))


def retold(words: Sequence[T], follow: Follow, nameservers: Sequence[str]) -> tuple[T | str, ...]:
    """The command line *words* with those of *nameservers* that answer for :attr:`Follow.answers`.

    An address for which the host has no nameserver now keeps the one that it had.
    """
    kept: list[T | str] = list(words)
    for answer in follow.answers:
        at = next((n for n in range(len(kept) - 1) if kept[n : n + 2] == ["--dns", answer]), len(kept))
        found = resolver(nameservers, 6 if ":" in answer else 4)
        if found is not None:
            kept[at : at + 4] = ["--dns", answer, "--dns-host", found]
    return tuple(kept)


_COPIED = re.compile(r"^(DHCP|NDP/DHCPv6):\n((?:^[ \t]+\S.*\n)+)", re.MULTILINE)
_LINE = re.compile(r"^[ \t]+(assign|mask|router): (\S{1,45})$", re.MULTILINE)


def copied(said: str, words: Sequence[str], families: Iterable[int] = (4, 6)) -> tuple[str, ...]:
    """The words that give another passt the addresses that the last one copied from the host, as it *said* in its log.

    *words* are its command line: what stands there was not copied.  The last time that it said so counts, since a log
    may hold several starts.  Nothing that it says is trusted to be more than an address.
    """
    found: list[str] = []
    blocks = {(4 if name == "DHCP" else 6): dict(_LINE.findall(text)) for name, text in _COPIED.findall(said)}
    for family, block in blocks.items():
        address = _address(block.get("assign"), family)
        if family not in families or address is None or _given(words, "--address", family):
            continue
        found += ["--address", str(address)]
        mask, router = _address(block.get("mask"), 4), _address(block.get("router"), family)
        if family == 4 and mask is not None and "--netmask" not in words:
            found += ["--netmask", str(mask)]
        # An IPv6 guest learns its router by the address that an advertisement comes from, which is passt's own.
        if family == 4 and router is not None and not _given(words, "--gateway", family):
            found += ["--gateway", str(router)]
    return tuple(found)


def _given(words: Sequence[str], option: str, family: int) -> bool:
    return any(word == option and _address(value.partition("/")[0], family) for word, value in pairwise(words))


def _address(text: str | None, family: int) -> IPv4Address | IPv6Address | None:
    try:
        found = ip_address(text or "")
    except ValueError:
        return None
    return found if found.version == family and not found.is_unspecified else None
