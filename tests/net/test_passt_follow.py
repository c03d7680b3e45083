"""What a passt settles at its start, by its command line."""

from __future__ import annotations

import pytest

from virlet.model.interface import Interface
from virlet.net.passt_follow import passt_follow
from virlet.plan.facts import PasstFacts, Support
from virlet.plan.follow import Follow

OLD = PasstFacts("/p", frozenset(), Support(True), needs_route=True)
NEW = PasstFacts("/p", frozenset(), Support(True))
PINNED = ["--address", "10.0.2.15", "--gateway", "10.0.2.2", "--address", "fec0::15/64", "--gateway", "fec0::2"]


@pytest.mark.parametrize(
    ("passt", "words", "follow"),
    [
        (OLD, [], Follow(families=(4, 6), needs_route=True)),
        (OLD, PINNED, Follow(families=(4, 6), needs_route=True)),
        (OLD, [*PINNED, "--interface", "up0"], Follow(link="up0")),
        (OLD, ["--interface", "up0"], Follow(link="up0", families=(4, 6), needs_route=True)),
        (OLD, ["--ipv4-only"], Follow(families=(4,), needs_route=True)),
        (NEW, [], Follow(families=(4, 6))),
        (NEW, PINNED, Follow()),
        (NEW, PINNED[:4], Follow(families=(6,))),
        (NEW, PINNED[:2], Follow(families=(4, 6))),
        (NEW, [*PINNED[:4], "--ipv4-only"], Follow()),
        (NEW, ["--address", "nonsense"], Follow(families=(4, 6))),
    ],
)
def test_what_must_be_there_at_the_start(passt: PasstFacts, words: list[str], follow: Follow) -> None:
    assert passt_follow(Interface(), passt, words) == follow
