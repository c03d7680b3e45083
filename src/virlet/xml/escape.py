"""Escaping of text and attribute values (XML 1.0, sections 2.4, 2.11 and 3.3.3)."""

from __future__ import annotations

import re

__all__ = ["attribute", "text"]

_SPECIAL = re.compile("[<>&'\"\t\n\r]")
_ATTRIBUTE = {
    "<": "&lt;",
    ">": "&gt;",
    "&": "&amp;",
    "'": "&apos;",
    '"': "&quot;",
    "\t": "&#x9;",
    "\n": "&#xA;",
    "\r": "&#xD;",
}
_TEXT = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "'": "&apos;", '"': "&quot;", "\t": "\t", "\n": "\n", "\r": "&#xD;"}


def attribute(value: str) -> str:
    """*value* for use between single quotes; blanks other than the space survive attribute normalisation."""
    return value if _SPECIAL.search(value) is None else _SPECIAL.sub(lambda hit: _ATTRIBUTE[hit[0]], value)


def text(value: str) -> str:
    """*value* as element content, quotes escaped as libvirt does."""
    return value if _SPECIAL.search(value) is None else _SPECIAL.sub(lambda hit: _TEXT[hit[0]], value)
