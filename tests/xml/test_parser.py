from __future__ import annotations

import time
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.enums import ErrorCode
from virlet.errors import XmlDetail
from virlet.xml import Limits, Node, parse


def test_nodes_know_their_line_and_column() -> None:
    root = parse("<a>\n  <b x='1'/>\n  <c>text</c>tail\n</a>")
    first, second = root.children
    assert (root.line, root.column) == (1, 1)
    assert (first.line, first.column, first.attributes) == (2, 3, {"x": "1"})
    assert (second.line, second.text, second.tail.strip()) == (3, "text", "tail")


def test_columns_count_characters_not_bytes() -> None:
    assert parse("<a>ö<b/></a>").children[0].column == 5


def test_namespaces_are_resolved_and_prefixes_kept() -> None:
    root = parse("<a xmlns='urn:d' xmlns:p='urn:p'><p:b p:c='1'/><plain xmlns=''/></a>")
    assert root.tag == "{urn:d}a"
    assert root.children[0].tag == "{urn:p}b"
    assert root.children[0].name == "p:b"
    assert root.children[0].namespace == "urn:p"
    assert root.children[0].attributes == {"p:c": "1"}
    assert root.children[1].tag == "plain"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no element found"),
        ("<a>\n<b></a>", "at line 2: mismatched tag"),
        ("<!DOCTYPE a><a/>", "document type declaration is not allowed"),
        ("<!DOCTYPE a [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><a>&x;</a>", "document type"),
        ("<a>&x;</a>", "undefined entity"),
        ("<a>\x01</a>", "not well-formed"),
        ("<a>&#1;</a>", "reference to invalid character"),
        ("<a>\ud800</a>", "not a Unicode character (column 4)"),
        ("<p:a/>", "Namespace prefix p on a is not defined"),
        ("<a p:b='1'/>", "Namespace prefix p on b is not defined"),
        ("<a b='1' b='2'/>", "duplicate attribute"),
        ("<a/><b/>", "junk after document element"),
        (b"<?xml version='1.0' encoding='nonsense'?><a/>", "unknown encoding"),
        (b"\xff\xfe\xfa", "at line 1"),
    ],
)
def test_bad_documents_are_refused_with_line_and_column(text: str | bytes, says: str) -> None:
    with pytest.raises(XmlDetail) as caught:
        parse(text)
    assert caught.value.code == ErrorCode.XML_DETAIL
    assert says in caught.value.message
    assert caught.value.message.startswith("at line ")
    assert "(column " in caught.value.message


def test_the_error_shows_the_line_with_a_caret() -> None:
    with pytest.raises(XmlDetail) as caught:
        parse("<domain>\n  <name>x</nam>\n</domain>")
    assert caught.value.message.splitlines()[1:] == ["  <name>x</nam>", "-----------^"]


@pytest.mark.parametrize(
    ("text", "limits", "says"),
    [
        ("<a>" * 10_000, Limits(), "nested deeper than 128"),
        ("<a>" + "<b/>" * 20 + "</a>", Limits(elements=20), "more than 20 elements"),
        ("<a b='1' c='2'/>", Limits(attributes=1), "more than 1 attributes"),
        ("<a>" + " " * 100 + "</a>", Limits(size=100), "larger than 100 bytes"),
        (b"<a>" + b" " * 100 + b"</a>", Limits(size=100), "larger than 100 bytes"),
        ("<a>" + "ö" * 60 + "</a>", Limits(size=100), "larger than 100 bytes"),
        ("<a xmlns:b='b' xmlns:c='c'/>", Limits(prefixes=2), "more than 2 namespace prefixes"),
    ],
)
def test_limits_are_kept(text: str | bytes, limits: Limits, says: str) -> None:
    with pytest.raises(XmlDetail) as caught:
        parse(text, limits=limits)
    assert says in caught.value.message


@pytest.mark.parametrize(
    "text",
    [
        "<a>" + "x<!---->" * 400_000 + "</a>",
        "<a " + " ".join(f"a{n}='1'" for n in range(90_000)) + "/>",
        "<a>" + "<b/>" * 49_000 + "</a>",
        "<a>" + "<b xmlns:p='p'/>" * 49_000 + "</a>",
        "<" * 4_000_000,
        "<a b='" + "x" * 4_000_000 + "'/>",
        "<a>" + "\n" * 4_000_000 + "</b>",
        "<a>" * 1_000_000,
    ],
    ids=["comments", "attributes", "elements", "scopes", "angles", "value", "lines", "depth"],
)
def test_hostile_documents_cost_little_time(text: str) -> None:
    began = time.process_time()
    try:
        root: Node | None = parse(text)
    except XmlDetail:
        root = None
    assert time.process_time() - began < 5
    assert root is None or root.name == "a"


def test_a_str_with_an_encoding_declaration_is_read_as_it_is() -> None:
    assert parse("<?xml version='1.0' encoding='iso-8859-1'?><a>ö</a>").text == "ö"
    assert parse("<?xml version='1.0' encoding='iso-8859-1'?><a>ö</a>".encode("latin-1")).text == "ö"


_PIECES = st.sampled_from(
    [
        *("<a>", "</a>", "<b", "/>", ">", " x='1'", "&amp;", "&#x41;", "<!--", "-->", "<![CDATA[", "]]>"),
        *("xmlns:p='u'", "<p:c/>", "<?pi ?>", "<!DOCTYPE", "\x00", "é", "\n", '"', "'"),
    ]
)


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.lists(_PIECES, max_size=30).map("".join), st.text(max_size=60), st.binary(max_size=60)))
def test_garbage_in_a_node_or_our_error_out(text: str | bytes) -> None:
    # Invariant: parse returns a node or raises XmlDetail; nothing else.
    with suppress(XmlDetail):
        assert isinstance(parse(text), Node)
