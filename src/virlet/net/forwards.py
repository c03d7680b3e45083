"""Arithmetic of forwarded ports: which host port reaches which guest port, what passt is told.  Plain values only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from virlet.plan.base import Forward

__all__ = ["HIGHEST_PORT", "Rule", "Span", "clashes", "collide", "flatten", "forwards_everything", "spec"]

HIGHEST_PORT = 65_535
_ALL_BUT_ONE = "~50000"
"""All ports of one address as every passt understands it, those of 2023 and 2025 refuse ``ADDRESS/all``: where nothing
but exclusions is said, all that are not ephemeral are meant, and this one is.
"""


@dataclass(frozen=True, slots=True)
class Span:
    """One ``<range>``: host ports *start* to *end* (*start* alone when None), reaching the guest from port *to* on."""

    start: int
    end: int | None = None
    to: int | None = None
    exclude: bool = False

    @property
    def last(self) -> int:
        """The last host port."""
        return self.start if self.end is None else self.end

    @property
    def last_to(self) -> int:
        """The last guest port."""
        return self.last if self.to is None else self.to + self.last - self.start


@dataclass(frozen=True, slots=True)
class Rule:
    """One ``<portForward>``."""

    proto: str
    address: str | None = None
    device: str | None = None
    spans: tuple[Span, ...] = ()
    path: str = ""
    """Where it stands in the XML."""


def spec(rule: Rule) -> str:
    """*rule* as passt's ``--tcp-ports`` and ``--udp-ports`` spell it: ``127.0.0.1%lo/2022:22,~5010-5029``."""
    where = (rule.address or "") + (f"%{rule.device}" if rule.device else "")
    ports = ",".join(map(_span, rule.spans))
    return f"{where}/{ports or _ALL_BUT_ONE}" if where else ports or "all"


def _span(span: Span) -> str:
    text = ("~" if span.exclude else "") + str(span.start)
    if span.end is not None:
        text += f"-{span.end}"
    if span.to is not None:
        text += f":{span.to}" + ("" if span.end is None else f"-{span.last_to}")
    return text


def forwards_everything(rule: Rule) -> bool:
    """No port is named, or only exclusions are: every port that passt can get is forwarded."""
    return all(span.exclude for span in rule.spans)


def flatten(rule: Rule) -> tuple[Forward, ...]:
    """The contiguous ranges that *rule* forwards, exclusions of the same rule taken out; none for "all ports"."""
    holes = sorted((span.start, span.last) for span in rule.spans if span.exclude)
    return tuple(
        Forward(rule.proto, rule.address, rule.device, first, last, _guest_port(span, first), f"{rule.path}/range[{n}]")
        for n, span in enumerate(rule.spans, 1)
        if not span.exclude
        for first, last in _without(span.start, span.last, holes)
    )


def _guest_port(span: Span, port: int) -> int:
    return port if span.to is None else span.to + port - span.start


def _without(first: int, last: int, holes: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for low, high in holes:
        if high < first:
            continue
        if low > last:
            break
        if first < low:
            yield first, low - 1
        first = high + 1
    if first <= last:
        yield first, last


def clashes(forwards: Iterable[Forward]) -> Iterator[tuple[Forward, Forward]]:
    """Each pair that wants the same host port, in the order given."""
    for one, other in combinations(forwards, 2):
        if collide(one, other):
            yield one, other


def collide(one: Forward, other: Forward) -> bool:
    """Would the kernel refuse to bind both?  A wildcard address collides with every address of its family.

    Sockets of two different interfaces never collide; one that is bound to no interface collides with all
    (``inet_bind_conflict`` of Linux).  No address means both families' wildcards.
    """
    return (
        one.proto == other.proto
        and one.start <= other.end
        and other.start <= one.end
        and (one.device is None or other.device is None or one.device == other.device)
        and _addresses_meet(one.address, other.address)
    )


_WILDCARDS = {"0.0.0.0": 4, "::": 6}


def _addresses_meet(one: str | None, other: str | None) -> bool:
    if one is None or other is None or one == other:
        return True
    family_one, family_other = (6 if ":" in text else 4 for text in (one, other))
    return family_one == family_other and (one in _WILDCARDS or other in _WILDCARDS)
