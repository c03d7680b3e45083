"""``python -m virlet.model.reference > docs/reference-xml.md``: the page that says what virlet reads in domain XML."""

from __future__ import annotations

import sys

from virlet.model.domain import Domain
from virlet.model.lifecycle import table
from virlet.model.unsupported import IGNORED, REASONS
from virlet.xml.reference import reference

__all__ = ["page"]

_HEAD = """# Domain XML

This page is made from the declarations in `virlet.model` by `python -m virlet.model.reference`; a test says so when it
is out of date.  Elements and attributes that stand on no line here are kept, printed back and reported; with
`--validate` they are errors.

"""


def page() -> str:
    """The whole page."""
    parts = [_HEAD, reference(Domain)]
    parts += ["## Refused at start\n\n", _table(REASONS), "\n## Without effect\n\n", _table(IGNORED)]
    parts += ["\n## Life of a domain\n\n", table()]
    return "".join(parts)


def _table(reasons: dict[str, str]) -> str:
    rows = [f"| `{path}` | {reason} |\n" for path, reason in reasons.items()]
    return "| XPath | why |\n|---|---|\n" + "".join(rows)


if __name__ == "__main__":
    sys.stdout.write(page())
