"""Declarations, loader, printer, source and walk, on elements made for the purpose."""

from __future__ import annotations

from enum import StrEnum

import pytest

from virlet.enums import ErrorCode
from virlet.errors import BadConfig
from virlet.xml import dump, load
from virlet.xml.declare import Element, attr, child, declaration_of, each, element, flag, many, raw, raws, size
from virlet.xml.kinds import INT, STR, UINT, YES_NO, enum
from virlet.xml.raw import Raw
from virlet.xml.reference import reference
from virlet.xml.walk import bare, said


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


@element("wheel")
class Wheel(Element):
    """What a cart rolls on."""

    size: int = attr("@size", UINT, doc="inches")
    worn: bool = flag("worn", default=False)


@element("motor", variant=("type", "steam"))
class Steam(Element):
    """Burns coal."""

    coal: int | None = attr("@coal", UINT, default=None)


@element("motor", variant=("type", "horse"))
class Horse(Element):
    """Eats hay."""

    name: str = attr(".", STR, doc="how to call it")


@element("extra", namespace="urn:x", prefix="x")
class Extra(Element):
    """In a namespace of its own."""


@element("cart")
class Cart(Element):
    """A cart."""

    colour: Colour = attr("@colour", enum(Colour), default=Colour.RED)
    id: int | None = attr("@id", INT, default=None, live=True)
    secret: str | None = attr("@secret", STR, default=None, secret=True)
    name: str = attr("name", STR, missing="a cart has a name", missing_code=ErrorCode.NO_NAME)
    load_max: int | None = size("load", default=None)
    load_kind: str | None = attr("load/@kind", STR, default=None)
    tag: str | None = attr("label/@tag", STR, default=None, live=lambda tag: not tag.startswith("my-"))
    deep: bool | None = attr("a/b/@deep", YES_NO, default=None, wrong="'{value}' is not deep", code=ErrorCode.NO_OS)
    seats: tuple[str, ...] = each("seat/@of", STR, default=())
    notes: tuple[str, ...] = each("note", STR, default=())
    wheels: tuple[Wheel, ...] = many(Wheel, default=())
    motor: Steam | Horse | None = child(Steam, Horse, default=None)
    cargo: Raw | None = raw("cargo", default=None)
    bags: tuple[Raw, ...] = raws("bag", default=())
    extra: Extra | None = child(Extra, default=None)


FULL = """<cart colour='blue' id='4' secret='s' xmlns:x='urn:x'>
  <name>c &amp; c</name>
  <load kind='hay' unit='KiB'>2048</load>
  <label tag='auto'/>
  <a>
    <b deep='no'/>
  </a>
  <seat of='me'/>
  <seat of='you'/>
  <note>one</note>
  <wheel size='20'>
    <worn/>
  </wheel>
  <wheel size='26'/>
  <motor type='horse'>Hans</motor>
  <cargo>
    <box n='1'/>
  </cargo>
  <bag/>
  <bag>x</bag>
  <x:extra/>
</cart>
"""


def test_everything_declared_is_read_and_printed_in_order() -> None:
    cart = load(Cart, FULL, live=True).value
    assert cart.motor == Horse(name="Hans")
    assert cart.wheels == (Wheel(size=20, worn=True), Wheel(size=26))
    assert cart.load_max == 2048
    assert dump(cart, secret=True) == FULL


def test_the_inactive_form_has_neither_live_nor_secret_parts() -> None:
    cart = load(Cart, FULL).value
    assert (cart.id, cart.tag, cart.secret) == (None, None, "s")
    live = load(Cart, FULL, live=True).value
    for text in (dump(cart), dump(live, live=False)):
        assert "id=" not in text
        assert "secret" not in text
        assert "label" not in text


def test_a_live_name_that_the_user_chose_is_kept() -> None:
    cart = load(Cart, "<cart><name>n</name><label tag='my-one'/></cart>").value
    assert cart.tag == "my-one"
    assert "my-one" in dump(cart, live=False)


def test_the_order_of_the_input_does_not_matter() -> None:
    text = "<cart><wheel size='1'/><name>n</name><wheel size='2'/></cart>"
    cart = load(Cart, text).value
    assert cart == Cart(name="n", wheels=(Wheel(size=1), Wheel(size=2)))
    assert dump(cart, indent=1).splitlines()[1] == " <name>n</name>"


def test_what_nobody_declares_is_kept_reported_and_printed_back() -> None:
    text = (
        "<cart xmlns:y='urn:y' odd='1' y:z='2'>\n  <name>n</name>\n  <load even='3' unit='KiB'>1</load>\n"
        "  <odd>\n    <more/>\n  </odd>\n  <odd/>\n</cart>\n"
    )
    loaded = load(Cart, text)
    places = [(one.path, one.line, one.column) for one in loaded.source.unknown]
    assert places == [
        ("@odd", 1, 1),
        ("@y:z", 1, 1),
        ("load/@even", 3, 3),
        ("odd", 4, 3),
        ("odd[2]", 7, 3),
    ]
    again = load(Cart, dump(loaded.value))
    assert again.value == loaded.value
    assert "<odd>\n    <more/>\n  </odd>" in dump(loaded.value)


def test_a_second_element_where_one_belongs_is_kept_as_unknown() -> None:
    loaded = load(Cart, "<cart><name>n</name><name>m</name>stray</cart>")
    assert loaded.value.name == "n"
    assert [one.path for one in loaded.source.unknown] == ["name[2]"]


def test_stray_text_is_reported() -> None:
    loaded = load(Cart, "<cart>stray<name>n</name></cart>")
    assert [one.path for one in loaded.source.unknown] == ["text()"]


def test_all_problems_come_in_one_error_with_their_places() -> None:
    text = "<cart colour='pink'>\n <wheel size='x'/>\n <wheel/>\n <a><b deep='2'/></a><motor/><motor type='y'/></cart>"
    with pytest.raises(BadConfig) as caught:
        load(Cart, text)
    assert [(one.path, one.line, one.message) for one in caught.value.problems] == [
        ("@colour", 1, "Invalid value for attribute 'colour' in element 'cart': 'pink'."),
        (
            "wheel[1]/@size",
            2,
            "Invalid value for attribute 'size' in element 'wheel': 'x'. Expected non-negative integer value",
        ),
        ("wheel[2]/@size", 3, "Missing required attribute 'size' in element 'wheel'"),
        ("a/b/@deep", 4, "'2' is not deep"),
        ("motor", 4, "Missing required attribute 'type' in element 'motor'"),
    ]


def test_an_unknown_variant_names_the_word() -> None:
    with pytest.raises(BadConfig, match="in element 'motor': 'sail'"):
        load(Cart, "<cart><name>n</name><motor type='sail'/></cart>")


def test_missing_values_have_their_own_code() -> None:
    with pytest.raises(BadConfig) as caught:
        load(Cart, "<cart><name/></cart>")
    assert (caught.value.code, caught.value.detail.startswith("a cart has a name")) == (ErrorCode.NO_NAME, True)


def test_bad_sizes_name_the_element() -> None:
    with pytest.raises(BadConfig, match=r"Invalid value 'x' for element or attribute './load\[1\]'"):
        load(Cart, "<cart><name>n</name><load>x</load></cart>")


def test_another_root_is_refused() -> None:
    with pytest.raises(BadConfig) as caught:
        load(Cart, "<a/>")
    assert caught.value.message.startswith("XML error: expecting root element of 'cart', not 'a'")


def test_a_hostile_number_of_problems_makes_a_short_error() -> None:
    with pytest.raises(BadConfig) as caught:
        load(Cart, "<cart><name>n</name>" + "<wheel/>" * 40_000 + "</cart>")
    assert len(caught.value.problems) == 20


def test_a_source_finds_lines_by_path() -> None:
    source = load(Cart, FULL, live=True).source
    assert source.position("wheel[2]/@size") == (14, 3)
    assert source.position("wheel[1]/worn") == (12, 5)
    assert source.position("wheel[1]/nothing/@x") == (11, 3)
    assert source.position("x:extra") == (21, 3)
    assert source.position("") == (1, 1)


def test_said_names_everything_that_is_there() -> None:
    cart = load(Cart, FULL, live=True).value
    paths = [entry.path for entry in said(cart)]
    assert "wheel[1]/worn" in paths
    assert "motor/text()" in paths
    assert "seat/@of[2]" in paths
    assert "wheel[2]/worn" not in paths
    assert "x:extra" in paths
    assert bare("a[1]/b[22]/@c") == "a/b/@c"


def test_values_are_frozen_and_comparable() -> None:
    cart = Cart(name="n")
    with pytest.raises(AttributeError):
        cart.name = "m"  # type: ignore[misc]
    assert cart == Cart(name="n")
    assert hash(cart) == hash(Cart(name="n"))


def test_the_reference_has_a_row_for_every_property() -> None:
    page = reference(Cart)
    for cls in (Cart, Wheel, Steam, Horse, Extra):
        for _, made in declaration_of(cls).properties:
            if not made.classes:
                shown = "text()" if made.path == "." else made.path
                assert f"| `{shown}` |" in page
    assert "## `<motor type='horse'>`" in page
