"""Arithmetic of ports, held against brute force."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.net.forwards import HIGHEST_PORT, Rule, Span, clashes, collide, flatten, forwards_everything, spec
from virlet.plan.base import Forward


@st.composite
def spans(draw: st.DrawFn, highest: int = 60) -> Span:
    start = draw(st.integers(1, highest))
    end = draw(st.none() | st.integers(start, highest))
    if draw(st.booleans()):
        return Span(start, end, exclude=True)
    return Span(start, end, draw(st.none() | st.integers(1, highest)))


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    return Rule(
        proto=draw(st.sampled_from(["tcp", "udp"])),
        address=draw(st.sampled_from([None, "127.0.0.1", "0.0.0.0", "::1", "::"])),
        device=draw(st.sampled_from([None, "lo", "eth0"])),
        spans=tuple(draw(st.lists(spans(), max_size=5))),
    )


def _pairs(rule: Rule) -> Iterator[tuple[int, int]]:
    """Host and guest port of everything that is forwarded, one by one; a range that is named twice counts twice."""
    excluded = {port for span in rule.spans if span.exclude for port in range(span.start, span.last + 1)}
    for span in rule.spans:
        if not span.exclude:
            for port in range(span.start, span.last + 1):
                if port not in excluded:
                    yield port, port if span.to is None else span.to + port - span.start


@given(rules())
def test_flattened_ranges_are_exactly_the_ports_that_brute_force_finds(rule: Rule) -> None:
    flat = list(
        chain.from_iterable(
            ((port, forward.to + port - forward.start) for port in range(forward.start, forward.end + 1))
            for forward in flatten(rule)
        )
    )
    assert flat == list(_pairs(rule))


@given(rules())
def test_no_flattened_range_is_empty_and_neighbours_never_touch_within_one_span(rule: Rule) -> None:
    before: Forward | None = None
    for forward in flatten(rule):
        assert 1 <= forward.start <= forward.end
        if before is not None and before.path == forward.path:
            assert before.end + 1 < forward.start
        before = forward


@given(rules())
def test_a_spec_read_back_is_the_rule(rule: Rule) -> None:
    text = spec(rule)
    where, slash, ports = text.rpartition("/")
    assert bool(slash) == bool(rule.address or rule.device)
    address, _, device = where.partition("%")
    assert (address or None, device or None) == (rule.address, rule.device)
    if rule.spans:
        assert tuple(map(_read, ports.split(","))) == rule.spans
    else:
        assert ports == ("~50000" if where else "all")


def _read(word: str) -> Span:
    host, _, guest = word.removeprefix("~").partition(":")
    start, _, end = host.partition("-")
    to, _, last = guest.partition("-")
    span = Span(int(start), int(end) if end else None, int(to) if to else None, word.startswith("~"))
    assert not last or int(last) == span.last_to
    return span


@given(rules(), rules())
def test_two_forwards_collide_exactly_where_the_kernel_would_refuse_a_second_bind(one: Rule, other: Rule) -> None:
    for left in flatten(one):
        for right in flatten(other):
            shared = set(range(left.start, left.end + 1)) & set(range(right.start, right.end + 1))
            same_link = None in (left.device, right.device) or left.device == right.device
            expected = bool(left.proto == right.proto and shared and same_link and _met(left.address, right.address))
            assert collide(left, right) == collide(right, left) == expected


def _met(one: str | None, other: str | None) -> bool:
    def covers(address: str | None) -> set[str]:
        everything = {"127.0.0.1", "::1", "0.0.0.0", "::"}
        if address is None:
            return everything
        if address == "0.0.0.0":
            return {word for word in everything if ":" not in word}
        if address == "::":
            return {word for word in everything if ":" in word}
        return {address}

    return bool(covers(one) & covers(other))


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (Rule("tcp"), "all"),
        (
            Rule(
                "tcp", "127.0.0.1", "lo", (Span(2022, None, 22), Span(5000, 5099, 1000), Span(5010, 5029, exclude=True))
            ),
            "127.0.0.1%lo/2022:22,5000-5099:1000-1099,~5010-5029",
        ),
        (Rule("udp", spans=(Span(10101),)), "10101"),
        (Rule("udp", device="lo", spans=(Span(10102),)), "%lo/10102"),
        (Rule("tcp", "2001:db8::1", "eth0", (Span(80),)), "2001:db8::1%eth0/80"),
        (Rule("tcp", "192.0.2.1"), "192.0.2.1/~50000"),
    ],
)
def test_specs_are_those_that_libvirt_makes(rule: Rule, expected: str) -> None:
    assert spec(rule) == expected


def test_only_exclusions_mean_every_other_port() -> None:
    assert forwards_everything(Rule("tcp", spans=(Span(22, exclude=True),)))
    assert flatten(Rule("tcp", spans=(Span(22, exclude=True),))) == ()
    assert not forwards_everything(Rule("tcp", spans=(Span(22),)))


def test_the_whole_range_of_ports_is_handled() -> None:
    (only,) = flatten(Rule("tcp", spans=(Span(1, HIGHEST_PORT),)))
    assert (only.start, only.end) == (1, HIGHEST_PORT)


def test_each_clash_is_named_once() -> None:
    forwards = flatten(Rule("tcp", spans=(Span(80), Span(79, 81), Span(90))))
    assert [(one.start, other.start) for one, other in clashes(forwards)] == [(80, 79)]
