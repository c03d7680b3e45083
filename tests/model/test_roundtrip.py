"""Any value that the declarations allow is printed and read back as itself."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from virlet.model.domain import Domain
from virlet.xml import Raw, dump, load
from virlet.xml.declare import Element, Form, Property, declaration_of
from virlet.xml.kinds import BadValue, Kind

_LETTERS = st.text(st.sampled_from("abz09-_./ <>&'\"é\t"), min_size=1, max_size=8).filter(
    lambda word: word == word.strip()
)
_RAW = st.sampled_from([(), (("k", "v<'"),)])


def _words(kind: Kind[Any]) -> st.SearchStrategy[Any]:
    if kind.words:
        return st.sampled_from(kind.words).map(kind.parse)
    samples = ["1", "0", "7", "10.0.2.15", "fd00::1", "52:54:00:00:00:01", "1.5", "generated", "name", "/a/b"]
    samples.append(str(UUID(int=5)))
    values = []
    for word in samples:
        try:
            values.append(kind.parse(word))
        except BadValue:
            continue
    if all(isinstance(value, str) for value in values) and len(values) == len(samples):
        return _LETTERS
    return st.sampled_from(values)


def _property(made: Property) -> st.SearchStrategy[Any]:
    if made.form is Form.FLAG:
        return st.just(True)
    if made.form is Form.SIZE:
        return st.integers(0, 2**50)
    if made.form in (Form.RAW, Form.RAWS):
        name = "x" if made.path == "*" else made.path
        raw = st.builds(Raw, name=st.just(name), attributes=_RAW, content=st.sampled_from([(), ("t & u",)]))
        return raw if made.form is Form.RAW else st.lists(raw, min_size=1, max_size=2).map(tuple)
    if made.form is Form.CHILD:
        return st.sampled_from(made.classes).flatmap(values_of)
    if made.form is Form.MANY:
        return st.lists(values_of(made.classes[0]), min_size=1, max_size=2).map(tuple)
    assert made.kind is not None
    words = _words(made.kind)
    return st.lists(words, min_size=1, max_size=2).map(tuple) if made.form is Form.EACH else words


def values_of(cls: type) -> st.SearchStrategy[Any]:
    """Values of a declared class: a few properties each, so that examples stay small."""
    properties = dict(declaration_of(cls).properties)
    required = [name for name, made in properties.items() if made.required]
    optional = [name for name in properties if name not in required]
    chosen = st.lists(st.sampled_from(optional), max_size=5, unique=True) if optional else st.just([])

    def build(names: list[str]) -> st.SearchStrategy[Any]:
        parts = {name: _property(properties[name]) for name in [*required, *names]}
        return st.builds(cls, **parts)

    return chosen.flatmap(build)


def _classes() -> list[type]:
    found: list[type] = []
    queue: list[type] = [Domain]
    while queue:
        cls = queue.pop(0)
        if cls not in found:
            found.append(cls)
            queue += [inner for _, made in declaration_of(cls).properties for inner in made.classes]
    return found


@pytest.mark.parametrize("cls", _classes(), ids=lambda cls: cls.__name__)
def test_any_value_is_read_back_from_its_own_print(cls: type) -> None:
    @settings(max_examples=15, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
    @given(values_of(cls))
    def run(value: Element) -> None:
        # Invariant: what is printed reads back as something that prints the same, and nothing of it is unknown.
        text = dump(value, secret=True)
        loaded = load(cls, text, live=True)
        assert dump(loaded.value, secret=True) == text
        assert loaded.source.unknown == ()

    run()
