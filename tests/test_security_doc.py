"""docs/security.md names a test for each claim: they exist, and every claim has one."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parent
TEXT = (TESTS.parent / "docs" / "security.md").read_text()


def test_every_test_that_is_named_exists() -> None:
    named = set(re.findall(r"`([a-z0-9_]+/test_[a-z0-9_]+\.py)`", TEXT))
    assert len(named) > 20
    assert [name for name in sorted(named) if not (TESTS / name).exists()] == []


def test_every_claim_has_a_test() -> None:
    table = TEXT.partition("| claim | test |")[2].partition("\n\n")[0].splitlines()[2:]
    assert len(table) > 15
    assert [row for row in table if not re.search(r"test_[a-z0-9_]+\.py|script/", row)] == []
