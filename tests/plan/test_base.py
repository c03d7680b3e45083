"""Words and the descriptors in them."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from virlet.plan.base import (
    Dial,
    FdSource,
    Joined,
    Json,
    JsonValue,
    Listener,
    LogFile,
    PairEnd,
    Word,
    render,
    render_json,
    short_name,
    sources_of,
)

SOURCES: list[FdSource] = [
    Listener(Path("/a")),
    Dial(Path("/a")),
    PairEnd("p", 0),
    PairEnd("p", 1, datagram=True),
    LogFile(Path("/l")),
]
source = st.sampled_from(SOURCES)
values: st.SearchStrategy[JsonValue] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | source,
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
words: st.SearchStrategy[Word] = (
    st.text(max_size=8)
    | source
    | st.dictionaries(st.text(max_size=3), values, max_size=3).map(Json)
    | st.lists(st.text(max_size=3) | source, max_size=4).map(lambda parts: Joined(tuple(parts)))
)


@given(st.lists(words, max_size=8))
def test_every_descriptor_is_rendered_with_the_number_it_was_given_and_no_other(line: list[Word]) -> None:
    used = sources_of(tuple(line))
    numbers = {one: 100 + n for n, one in enumerate(used)}
    rendered = render(tuple(line), numbers.__getitem__)
    assert len(rendered) == len(line)
    assert all(isinstance(word, str) for word in rendered)
    assert len(set(used)) == len(used)


@given(values)
def test_json_is_plain_after_rendering(value: JsonValue) -> None:
    assert json.loads(json.dumps(render_json(value, lambda one: 7))) == render_json(value, lambda one: 7)


def test_a_descriptor_in_json_is_a_string_as_qemus_schema_wants_it() -> None:
    word = Json({"addr": {"type": "fd", "str": SOURCES[0]}})
    assert render((word,), lambda one: 9) == ['{"addr":{"type":"fd","str":"9"}}']


def test_a_descriptor_inside_a_word() -> None:
    assert render((Joined(("socket,fd=", SOURCES[0], ",server=on")),), lambda one: 9) == ["socket,fd=9,server=on"]


def test_a_long_alias_has_a_short_file_name() -> None:
    assert short_name("net0") == "net0"
    long = "ua-" + 100 * "x"
    assert len(short_name(long)) == 20
    assert short_name(long) != short_name(long + "y")
