"""What a helper settles at its start, and when a later network asks for another one."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.plan.follow import Follow, Seen, Uplinks, copied, missing_route, outdated, retold, seen

WIFI = Uplinks(frozenset({(4, "wlan0")}), {"lo": 1, "wlan0": 2})
BOTH = Uplinks(frozenset({(4, "wlan0"), (6, "wlan0")}), {"lo": 1, "wlan0": 2})
VPN = Uplinks(frozenset({(4, "tun0")}), {"lo": 1, "wlan0": 2, "tun0": 3})
NONE = Uplinks(frozenset(), {"lo": 1})
OLD = Follow(families=(4, 6), needs_route=True)


def test_a_helper_sees_the_families_that_have_a_route_and_the_numbers_of_its_links() -> None:
    assert seen(OLD, WIFI) == Seen((4,))
    assert seen(Follow(families=(6,), devices=("wlan0", "gone")), BOTH) == Seen((6,), (2, 0))
    assert seen(Follow(link="wlan0", families=(4,)), VPN) == Seen()


def test_what_it_was_given_it_need_not_find() -> None:
    pins = ("--address", "10.1.0.2", "--gateway", "10.1.0.1")
    assert seen(Follow(families=(4, 6)), NONE, pins) == Seen((4,))
    assert seen(OLD, NONE, pins) == Seen(), "a passt of 2023 needs the route all the same"


def test_one_that_needs_a_route_misses_it_where_there_is_none_for_it() -> None:
    assert missing_route(OLD, NONE)
    assert not missing_route(OLD, WIFI)
    assert missing_route(Follow(families=(6,), needs_route=True), WIFI)
    assert missing_route(Follow(link="wlan0", needs_route=True), VPN)
    assert not missing_route(Follow(families=(4, 6)), NONE)


@pytest.mark.parametrize(
    ("follow", "then", "now", "why"),
    [
        (OLD, WIFI, BOTH, "the host has a default route for IPv6 now"),
        (OLD, WIFI, VPN, ""),
        (OLD, BOTH, NONE, ""),
        (OLD, BOTH, WIFI, ""),
        (Follow(families=(4,)), NONE, WIFI, "the host has a default route for IPv4 now"),
        (Follow(link="wlan0", families=(4,)), VPN, WIFI, "the host has a default route for IPv4 now on wlan0"),
        (Follow(families=()), NONE, BOTH, ""),
        (Follow(devices=("wlan0",)), WIFI, Uplinks(frozenset(), {"wlan0": 9}), "wlan0 is another link than it was"),
        (Follow(devices=("wlan0",)), WIFI, NONE, ""),
        (Follow(devices=("wlan0",)), NONE, WIFI, "wlan0 is another link than it was"),
    ],
)
def test_only_what_has_come_asks_for_another_helper(follow: Follow, then: Uplinks, now: Uplinks, why: str) -> None:
    assert outdated(follow, seen(follow, then), now) == why


def servers(*addresses: str) -> Uplinks:
    return Uplinks(nameservers=addresses)


ASKS = Follow(resolvers=(4, 6))


@pytest.mark.parametrize(
    ("then", "now", "asked"),
    [
        (["10.0.0.1"], ["10.0.0.2"], "10.0.0.2"),
        (["10.0.0.1"], ["10.0.0.2", "10.0.0.1"], "10.0.0.2"),
        (["10.0.0.1", "fd00::1"], ["10.0.0.1", "fd00::2"], "10.0.0.1 and fd00::2"),
        (["10.0.0.1"], ["fd00::1"], "fd00::1"),
        ([], ["10.0.0.1"], "10.0.0.1"),
        (["10.0.0.1"], [], ""),
        (["10.0.0.1"], ["10.0.0.1", "10.0.0.2"], ""),
        (["10.0.0.1", "10.0.0.2"], ["10.0.0.1"], ""),
        (["10.0.0.1"], ["fd00::1", "10.0.0.1"], ""),
        (["10.0.0.1", "fd00::1"], ["10.0.0.1"], ""),
        (["10.0.0.1"], ["fe80::1%eth0"], ""),
        (["127.0.0.53"], ["127.0.0.53"], ""),
    ],
)
def test_another_first_nameserver_asks_for_another_helper(then: list[str], now: list[str], asked: str) -> None:
    why = outdated(ASKS, seen(ASKS, servers(*then)), servers(*now))
    assert why == (f"the host's nameserver is {asked} now" if asked else "")


def test_who_takes_no_nameservers_from_the_host_does_not_care() -> None:
    assert outdated(OLD, seen(OLD, servers("10.0.0.1")), servers("10.0.0.2")) == ""
    four = Follow(resolvers=(4,))
    assert outdated(four, seen(four, servers("10.0.0.1", "fd00::1")), servers("10.0.0.1", "fd00::2")) == ""
    assert outdated(ASKS, Seen(), servers("10.0.0.1")) == "", "an older daemon did not look"


TOLD = Follow(resolvers=(4, 6), answers=("10.0.2.3", "fec0::3"))
WORDS = ("passt", "--dns", "10.0.2.3", "--dns-host", "10.0.0.1", "--tcp-ports", "80")


@pytest.mark.parametrize(
    ("words", "now", "told"),
    [
        (WORDS, ["10.0.0.2"], WORDS[:4] + ("10.0.0.2",) + WORDS[5:]),
        (WORDS, [], WORDS),
        (WORDS, ["fd00::1"], (*WORDS, "--dns", "fec0::3", "--dns-host", "fd00::1")),
        (WORDS[:1], ["10.0.0.2"], ("passt", "--dns", "10.0.2.3", "--dns-host", "10.0.0.2")),
    ],
)
def test_the_next_helper_is_told_who_answers_now(words: tuple[str, ...], now: list[str], told: tuple[str, ...]) -> None:
    assert retold(words, TOLD, now) == told
    assert retold(told, TOLD, now) == told
    assert retold(words, ASKS, now) == words


@given(
    st.frozensets(st.tuples(st.sampled_from([4, 6]), st.sampled_from(["a", "b"]))),
    st.sampled_from([OLD, Follow(families=(4,)), Follow(link="a", families=(4, 6))]),
)
def test_one_that_was_started_anew_is_never_outdated_at_once(
    routes: frozenset[tuple[int, str]], follow: Follow
) -> None:
    now = Uplinks(routes)
    assert outdated(follow, seen(follow, now), now) == ""


SAID = """Template interface: up0 (IPv4), up0 (IPv6)
MAC:
    host: 9a:55:9a:55:9a:55
    NAT to host 127.0.0.1: 10.1.0.1
DHCP:
    assign: 10.1.0.2
    mask: 255.255.255.0
    router: 10.1.0.1
DNS:
    10.255.255.53
NDP/DHCPv6:
    assign: 2001:db8:1::2
    router: fe80::1
    our link-local: fe80::38ae:aff:fea4:b85b
"""


def test_the_addresses_that_passt_copied_are_read_from_its_log() -> None:
    four = ("--address", "10.1.0.2", "--netmask", "255.255.255.0", "--gateway", "10.1.0.1")
    assert copied(SAID, []) == (*four, "--address", "2001:db8:1::2")
    assert copied(SAID, [], families=(4,)) == four
    assert copied(SAID.replace("10.1", "10.9") + SAID, [], families=(4,)) == four, "the last start counts"
    assert copied(SAID, [*four], families=(4,)) == ()
    assert copied(SAID, ["--gateway", "10.0.0.9"], families=(4,)) == four[:4]
    assert copied("", []) == ()


def test_what_is_no_address_is_no_word() -> None:
    for bad in ("--help", "10.1.0.2x", "0.0.0.0", "fe80::1"):
        assert copied(SAID.replace("10.1.0.2", bad), [], families=(4,)) == ()


@given(st.text(alphabet="DHCPN/v6:\n \tasignmkrotue0123456789.-abcdef", max_size=300))
def test_whatever_a_log_holds_every_word_is_an_option_of_ours_or_an_address(text: str) -> None:
    for word in copied("DHCP:\n" + text, []):
        assert word in ("--address", "--netmask", "--gateway") or ip_address(word)
