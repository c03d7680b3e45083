"""Title, description and foreign elements, changed."""

from __future__ import annotations

from uuid import UUID

import pytest

from virlet.enums import MetadataType
from virlet.errors import InvalidArg, XmlDetail
from virlet.model.domain import Domain, format_domain, parse_domain
from virlet.model.metadata import MetadataChange, with_metadata

URI = "http://x.org/a"


@pytest.fixture
def domain() -> Domain:
    made, _ = parse_domain(
        f"<domain type='qemu'><name>a</name><uuid>{UUID(int=1)}</uuid><memory>1024</memory><os><type>hvm</type></os>"
        "<metadata><m:x xmlns:m='http://m'/></metadata></domain>"
    )
    return made


def printed(domain: Domain) -> str:
    return format_domain(domain, inactive=True)


def element(text: str | None, key: str | None = "k", uri: str | None = URI) -> MetadataChange:
    return MetadataChange(MetadataType.ELEMENT, text, key, uri)


@pytest.mark.parametrize(("kind", "tag"), [(MetadataType.TITLE, "title"), (MetadataType.DESCRIPTION, "description")])
def test_title_and_description_come_and_go(domain: Domain, kind: MetadataType, tag: str) -> None:
    named = with_metadata(domain, MetadataChange(kind, "R & D"))
    assert f"<{tag}>R &amp; D</{tag}>" in printed(named)
    for nothing in (None, ""):
        assert with_metadata(named, MetadataChange(kind, nothing)) == domain


def test_an_element_gets_its_namespace_all_through_and_replaces_the_one_before(domain: Domain) -> None:
    once = with_metadata(domain, element("<a b='1'><c>x</c><o xmlns='http://o'/></a>"))
    assert f"<k:a xmlns:k='{URI}' b='1'>" in printed(once)
    assert "<k:c>x</k:c>" in printed(once)
    assert "<o xmlns='http://o'/>" in printed(once)
    twice = with_metadata(once, element("<d/>", "q"))
    assert f"<q:d xmlns:q='{URI}'/>" in printed(twice)
    assert "k:a" not in printed(twice)
    assert "<m:x xmlns:m='http://m'/>" in printed(twice)
    assert with_metadata(twice, element(None)) == domain
    assert parse_domain(printed(twice))[0] == twice


def test_the_last_element_takes_the_whole_of_metadata_with_it(domain: Domain) -> None:
    assert with_metadata(domain, element(None, uri="http://m")).metadata is None


@pytest.mark.parametrize(
    "change",
    [
        MetadataChange(MetadataType.TITLE, "two\nlines"),
        MetadataChange(MetadataType.TITLE, "bell\x07"),
        MetadataChange(MetadataType.DESCRIPTION, "nul\0"),
        MetadataChange(MetadataType.DESCRIPTION, "half a character \udcff"),
        element("<a/>", key="1 2"),
        element("<a/>", key=None),
        element("<a/>", uri=None),
        element("<a/>", uri="http://\x01"),
    ],
)
def test_what_cannot_be_xml_is_refused_by_name(domain: Domain, change: MetadataChange) -> None:
    with pytest.raises(InvalidArg):
        with_metadata(domain, change)


def test_an_element_that_is_not_xml_is_an_error_with_its_line(domain: Domain) -> None:
    with pytest.raises(XmlDetail, match="line 1"):
        with_metadata(domain, element("<a>"))
