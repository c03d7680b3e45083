"""Whatever is encoded comes back, and whatever else is decoded is a ValueError."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.engine.codec import decode, encode
from virlet.plan.base import (
    Dial,
    FdSource,
    Forward,
    HelperPlan,
    Joined,
    Json,
    Listener,
    LogFile,
    OnLoss,
    PairEnd,
    Ready,
)

CLASSES = (Dial, Listener, PairEnd, LogFile)

letters = st.characters(codec="utf-8", exclude_characters="\0")
"""Of which texts are made that can be a path or an argument."""
paths = st.text("abc/._-ü", min_size=1, max_size=12).map(Path)
sources: st.SearchStrategy[FdSource] = st.one_of(
    st.builds(Dial, paths),
    st.builds(Listener, paths, st.integers(1, 9)),
    st.builds(PairEnd, st.text(letters, max_size=4), st.integers(0, 1), st.booleans()),
    st.builds(LogFile, paths, st.booleans()),
)
keys = st.text("abcdef-", max_size=6)
jsons = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(letters, max_size=6), sources),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(keys, inner, max_size=3),
    ),
    max_leaves=6,
)
words = st.one_of(
    st.text(letters, max_size=6),
    sources,
    st.builds(Json, st.dictionaries(keys, jsons, max_size=3)),
    st.builds(Joined, st.lists(st.one_of(st.text(letters, max_size=4), sources), max_size=3).map(tuple)),
)
forwards = st.builds(
    Forward,
    st.sampled_from(["tcp", "udp"]),
    st.none() | st.just("::1"),
    st.none() | st.just("lo"),
    st.integers(1, 65535),
    st.integers(1, 65535),
    st.integers(1, 65535),
)
plans = st.builds(
    HelperPlan,
    name=st.text(letters, max_size=5),
    argv=st.lists(words, max_size=4).map(tuple),
    fds=st.lists(sources, max_size=3).map(tuple),
    ready=st.sampled_from(Ready),
    on_loss=st.sampled_from(OnLoss),
    forwards=st.lists(forwards, max_size=2).map(tuple),
    stderr=st.none() | st.builds(LogFile, paths),
    leaves=st.lists(paths, max_size=2).map(tuple),
)


@settings(max_examples=80, deadline=None)
@given(plans)
def test_a_helper_plan_survives_the_disk(plan: HelperPlan) -> None:
    data = json.loads(json.dumps(encode(plan)))
    assert decode(HelperPlan, data, *CLASSES) == plan


@settings(max_examples=150, deadline=None)
@given(plans, st.data())
def test_a_damaged_plan_is_a_value_error_or_another_valid_plan(plan: HelperPlan, data: st.DataObject) -> None:
    text = json.dumps(encode(plan))
    cut = data.draw(st.integers(0, len(text)))
    other = data.draw(st.text('{}[]",:$0ab', max_size=6))
    try:
        damaged = json.loads(text[:cut] + other + text[cut + len(other) :])
    except ValueError:
        return
    try:
        assert isinstance(decode(HelperPlan, damaged, *CLASSES), HelperPlan)
    except ValueError:
        return


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        {},
        {"$": "HelperPlan"},
        {**encode(HelperPlan("p", (), (), Ready.SPAWNED, OnLoss.RESTART)), "name": 7},  # type: ignore[dict-item]
        {**encode(HelperPlan("p", (), (), Ready.SPAWNED, OnLoss.RESTART)), "argv": [{"$": "Path"}]},  # type: ignore[dict-item]
    ],
)
def test_what_is_no_plan_is_refused_with_a_value_error(data: object) -> None:
    with pytest.raises(ValueError):
        decode(HelperPlan, data, *CLASSES)


def test_members_of_a_newer_version_are_passed_over() -> None:
    plan = HelperPlan("p", (), (), Ready.SPAWNED, OnLoss.RESTART, stderr=LogFile(Path("/log")))
    data: Any = encode(plan)
    data["more"] = data["stderr"]["more"] = {"$": "Unheard", "of": [1]}
    assert decode(HelperPlan, data, *CLASSES) == plan


def test_deep_nesting_is_refused_rather_than_followed() -> None:
    deep: object = "x"
    for _ in range(2000):
        deep = {"a": deep}
    plan = encode(HelperPlan("p", (), (), Ready.SPAWNED, OnLoss.RESTART))
    assert isinstance(plan, dict)
    plan["argv"] = [{"$": "Json", "value": deep}]
    with pytest.raises(ValueError, match="deep"):
        decode(HelperPlan, plan, *CLASSES)


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
def test_what_can_be_no_path_and_no_argument_is_refused_wherever_it_stands(text: str) -> None:
    plan = encode(HelperPlan("passt", ("passt",), (), Ready.PORTS_LISTEN, OnLoss.RESTART, leaves=(Path("/a"),)))
    assert isinstance(plan, dict)
    for member in ({"name": text}, {"argv": [text]}, {"leaves": [text]}):
        with pytest.raises(ValueError, match=f"HelperPlan.{next(iter(member))}"):
            decode(HelperPlan, {**plan, **member}, *CLASSES)


def test_a_name_that_is_no_utf_8_is_one() -> None:
    path = Path(os.fsdecode(b"/\xff"))
    plan = HelperPlan("passt", (str(path),), (), Ready.PORTS_LISTEN, OnLoss.RESTART, leaves=(path,))
    assert decode(HelperPlan, json.loads(json.dumps(encode(plan))), *CLASSES) == plan
