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
        (OLD, [], Follow(families=(4, 6), needs_route=True, resolvers=(4, 6))),
        (OLD, PINNED, Follow(families=(4, 6), needs_route=True, resolvers=(4, 6))),
        (OLD, [*PINNED, "--interface", "up0"], Follow(link="up0", resolvers=(4, 6))),
        (OLD, ["--interface", "up0"], Follow(link="up0", families=(4, 6), needs_route=True, resolvers=(4, 6))),
        (OLD, ["--ipv4-only"], Follow(families=(4,), needs_route=True, resolvers=(4,))),
        (NEW, [], Follow(families=(4, 6), resolvers=(4, 6))),
        (NEW, PINNED, Follow(resolvers=(4, 6))),
        (NEW, PINNED[:4], Follow(families=(6,), resolvers=(4, 6))),
        (NEW, PINNED[:2], Follow(families=(4, 6), resolvers=(4, 6))),
        (NEW, [*PINNED[:4], "--ipv4-only"], Follow(resolvers=(4,))),
        (NEW, ["--address", "nonsense"], Follow(families=(4, 6), resolvers=(4, 6))),
        (NEW, ["--dns", "10.0.0.1"], Follow(families=(4, 6))),
        (NEW, ["--no-dhcp-dns"], Follow(families=(4, 6))),
        (NEW, ["--no-dhcp-dns", "--dns-forward", "10.0.2.3"], Follow(families=(4, 6), resolvers=(4,))),
        (NEW, ["--no-dhcp-dns", "--dns-forward", "10.0.2.3", "--dns-host", "10.0.0.1"], Follow(families=(4, 6))),
    ],
)
def test_what_must_be_there_at_the_start(passt: PasstFacts, words: list[str], follow: Follow) -> None:
    assert passt_follow(Interface(), passt, words) == follow


def test_an_address_whose_nameserver_we_name_follows_the_hosts() -> None:
    words = ["--dns", "10.0.2.3", "--dns-host", "10.0.0.1"]
    follow = passt_follow(Interface(), NEW, words, ("10.0.2.3",))
    assert (follow.resolvers, follow.answers) == ((4,), ("10.0.2.3",))
