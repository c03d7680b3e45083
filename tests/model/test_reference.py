from __future__ import annotations

from pathlib import Path

from virlet.model.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "reference-xml.md"


def test_the_reference_page_is_up_to_date() -> None:
    assert PAGE.read_text() == page(), "run: python -m virlet.model.reference > docs/reference-xml.md"
