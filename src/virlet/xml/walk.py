"""Everything that a value says, as paths: for tables keyed by path, and for tests that every property is exercised."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from virlet.xml.declare import Element, Form, Property, declaration_of
from virlet.xml.raw import Raw

__all__ = ["Said", "bare", "said"]

_INDEX = re.compile(r"\[[0-9]+\]")


class Said(NamedTuple):
    """One property that is not absent."""

    path: str
    """As an XPath below the root: ``devices/interface[1]/mtu/@size``."""
    owner: type
    """The class that declares it; for an element that nobody declares, the class that holds it."""
    field: str
    """Its field; empty for what nobody declares."""
    value: object


def bare(path: str) -> str:
    """*path* without its indexes."""
    return _INDEX.sub("", path)


def said(value: Element, path: str = "") -> Iterator[Said]:
    """Every property that *value* and the values in it say, in printing order."""
    owner = type(value)
    for name, made in declaration_of(owner).properties:
        found = getattr(value, name)
        if found is None or (found is False and made.form is Form.FLAG) or found == ():
            continue
        if made.form is Form.RAWS and made.path == "*":
            yield Said(_join(path, "*"), owner, name, found)
            continue
        yield from _of(value, owner, name, made, found, path)
    for inner, raw in value.unknown.elements:
        yield Said(_join(_join(path, inner), raw.name), owner, "", raw)


def _of(value: Element, owner: type, name: str, made: Property, found: object, path: str) -> Iterator[Said]:
    if isinstance(found, Element):
        where = _join(path, _name(made, found))
        yield Said(where, owner, name, found)
        yield from said(found, where)
    elif isinstance(found, tuple):
        for number, one in enumerate(found, 1):
            where = _join(path, f"{_name(made, one)}[{number}]")
            yield Said(where, owner, name, one)
            if isinstance(one, Element):
                yield from said(one, where)
    else:
        yield Said(_join(path, "text()" if made.path == "." else made.path), owner, name, found)


def _name(made: Property, one: object) -> str:
    if isinstance(one, Element):
        declared = declaration_of(type(one))
        return f"{declared.prefix}:{declared.tag}" if declared.prefix else declared.tag
    return one.name if isinstance(one, Raw) else made.path


def _join(path: str, name: str) -> str:
    return f"{path}/{name}" if path and name else path or name
