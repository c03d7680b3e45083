"""Golden files: XML in normal form that is read and printed back to the letter; together they use every property."""

from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from virlet.model.domain import Domain, format_domain, parse_domain
from virlet.model.elements import Devices
from virlet.xml import dump, load
from virlet.xml.declare import declaration_of
from virlet.xml.walk import said

GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.xml"))
SCHEMA = Path("/usr/share/libvirt/schemas/domain.rng")
DEFINABLE = ("absolute", "clocks", "everyday", "passt", "virt-install")
"""Complete domains, as libvirt keeps them; the others gather what cannot stand together."""
IN_OLD_SCHEMA = ("absolute", "clocks", "everyday", "virt-install")
"""What libvirt 9.0, the oldest that we test with, knows already."""


def _named(*names: str) -> list[Path]:
    return [path for path in GOLDEN if path.stem in names]


@pytest.mark.parametrize("path", GOLDEN, ids=lambda path: path.stem)
def test_a_golden_file_is_printed_back_to_the_letter(path: Path) -> None:
    text = path.read_text()
    loaded = load(Domain, text, live=True)
    assert dump(loaded.value, secret=True) == text
    assert loaded.source.unknown == ()


@pytest.mark.parametrize("path", _named(*DEFINABLE), ids=lambda path: path.stem)
def test_a_definition_in_normal_form_is_kept_as_it_is(path: Path) -> None:
    text = path.read_text()
    domain, source = parse_domain(text, validate=True)
    again, _ = parse_domain(format_domain(domain, inactive=True))
    assert again == domain
    assert source.dropped == ()
    if path.stem in ("everyday", "virt-install"):
        assert format_domain(domain, inactive=True) == text


def test_every_declared_property_is_in_a_golden_file() -> None:
    seen: set[tuple[type, str]] = set()
    classes: set[type] = set()
    queue: list[type] = [Domain]
    while queue:
        cls = queue.pop()
        if cls not in classes:
            classes.add(cls)
            queue += [inner for _, made in declaration_of(cls).properties for inner in made.classes]
    for path in GOLDEN:
        seen.update((entry.owner, entry.field) for entry in said(load(Domain, path.read_text(), live=True).value))
    declared = {(cls, name) for cls in classes for name, _ in declaration_of(cls).properties}
    missing = sorted(f"{cls.__name__}.{name}" for cls, name in declared - seen)
    assert missing == []
    assert Devices in classes


@pytest.mark.parametrize("path", _named(*IN_OLD_SCHEMA), ids=lambda path: path.stem)
def test_what_we_print_validates_against_libvirts_schema(path: Path) -> None:
    assert SCHEMA.exists(), "install the package libvirt0, which has libvirt's schemas"
    schema = etree.RelaxNG(etree.parse(str(SCHEMA)))
    domain, _ = parse_domain(path.read_text())
    for inactive in (True, False):
        printed = format_domain(domain, inactive=inactive, id=None if inactive else 3)
        assert schema.validate(etree.fromstring(printed)), schema.error_log
