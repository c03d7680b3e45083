from __future__ import annotations

import pytest

from virlet.xml import Raw, parse


def _first(text: str) -> Raw:
    return Raw.of(parse(text).children[0])


def test_prefixes_declared_outside_are_declared_on_the_copy() -> None:
    raw = _first("<d xmlns:p='urn:p' xmlns:unused='urn:u'><p:a q='1'><p:b/></p:a></d>")
    assert raw.format() == "<p:a xmlns:p='urn:p' q='1'>\n  <p:b/>\n</p:a>\n"
    assert (raw.namespace, raw.prefix, raw.tag) == ("urn:p", "p", "a")


def test_a_default_namespace_travels_with_its_element() -> None:
    raw = _first("<d xmlns='urn:d'><a><b xmlns=''/></a></d>")
    assert raw.format() == "<a xmlns='urn:d'>\n  <b xmlns=''/>\n</a>\n"


def test_attributes_are_found_by_name() -> None:
    raw = _first("<d><a x='1' y='&lt;&apos;'/></d>")
    assert raw.get("y") == "<'"
    assert raw.get("z") is None


@pytest.mark.parametrize(
    "text",
    [
        "<a/>",
        "<a b='1'/>",
        "<a>text &amp; more</a>",
        "<a>mixed <b>text</b> <c/> stays</a>",
        "<a>\n  <b/>\n</a>",
        "<a b='&#x9;&#xA;&apos;&quot;&lt;'/>",
        "<x:a xmlns:x='urn:x'>\n  <x:b xml:lang='de'/>\n</x:a>",
    ],
)
def test_what_was_copied_is_printed_as_it_came(text: str) -> None:
    assert _first(f"<d>{text}</d>").format() == text + "\n"
    assert _first(f"<d>{_first(f'<d>{text}</d>').format(4)}</d>") == _first(f"<d>{text}</d>")
