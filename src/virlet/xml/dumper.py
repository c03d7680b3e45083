"""Declared values to text, in libvirt's style: two blanks a level, single quotes, declaration order.

The tables are compiled from the declarations when a class is first printed, once for each way of printing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, Final, NamedTuple

from virlet.xml.declare import Element, Form, Property, declaration_of
from virlet.xml.escape import attribute, text
from virlet.xml.raw import Raw, Unknown

__all__ = ["dump"]


class _Way(NamedTuple):
    """What is printed."""

    live: bool
    secret: bool


def dump(value: Element, *, indent: int = 2, live: bool = True, secret: bool = False) -> str:
    """*value* as XML text that ends with a newline.

    ``live=False`` leaves out what belongs to a running domain only, ``secret=True`` prints passwords too; *indent* is
    the number of blanks for each level.
    """
    run = _Dump(_Way(live, secret), " " * indent)
    out: list[str] = []
    run.element(value, out, "")
    if run.namespaces:
        words = "".join(f" xmlns:{prefix}='{attribute(uri)}'" for prefix, uri in run.namespaces.items())
        first = out[0]
        end = len(first) - (3 if first.endswith("/>\n") else 2)
        out[0] = first[:end] + words + first[end:]
    return "".join(out)


@dataclass(slots=True)
class _Words:
    """An attribute or a text: how to get it and how to print it."""

    name: str
    field: str
    made: Property
    format: Callable[[Any], str]


@dataclass(slots=True)
class _Table:
    """How to print one element."""

    tag: str
    inner: str = ""
    """Path from the element that owns the values."""
    fixed: str = ""
    attributes: list[_Words] = field(default_factory=list)
    text: _Words | None = None
    flag: str | None = None
    children: list[_Table | tuple[str, Form]] = field(default_factory=list)
    each: _Words | None = None
    """The property that repeats this element."""
    size: bool = False
    said: Callable[[Any], tuple[object, ...]] | None = None
    """Reads every field that is printed here or below; None for the root."""
    silent: tuple[None, ...] = ()
    """What :attr:`said` finds where there is nothing to print: of what can be said of a domain, most is not."""


_TABLES: Final[dict[tuple[type, _Way], _Table]] = {}


def _table_of(cls: type, way: _Way) -> _Table:
    found = _TABLES.get((cls, way))
    if found is None:
        found = _TABLES[cls, way] = _compile(cls, way)
    return found


def _compile(cls: type, way: _Way) -> _Table:
    declared = declaration_of(cls)
    tag = f"{declared.prefix}:{declared.tag}" if declared.prefix else declared.tag
    root = _Table(tag)
    if declared.variant is not None:
        root.fixed = f" {declared.variant[0]}='{declared.variant[1]}'"
    groups: dict[str, _Table] = {"": root}
    reads: dict[str, list[str]] = {}
    for name, made in declared.properties:
        if (made.live is True and not way.live) or (made.secret and not way.secret):
            continue
        if made.form in (Form.CHILD, Form.MANY, Form.RAW, Form.RAWS):
            root.children.append((name, made.form))
        else:
            _add(groups, reads, name, made)
    for inner, names in reads.items():
        # Of one field attrgetter gives the value itself, so the first stands there twice.
        groups[inner].said = attrgetter(names[0], *names)
        groups[inner].silent = (None,) * (len(names) + 1)
    return root


def _add(groups: dict[str, _Table], reads: dict[str, list[str]], name: str, made: Property) -> None:
    path, _, word = made.path.rpartition("@") if "@" in made.path else (made.path, "", "")
    table, inner = groups[""], ""
    for tag in [tag for tag in path.split("/") if tag and tag != "."]:
        inner = f"{inner}/{tag}" if inner else tag
        if inner not in groups:
            groups[inner] = _Table(tag, inner)
            table.children.append(groups[inner])
        table = groups[inner]
        reads.setdefault(inner, []).append(name)
    words = _Words(word, name, made, made.kind.format if made.kind is not None else str)
    if made.form is Form.FLAG:
        table.flag = name
    elif made.form is Form.EACH:
        table.each = words
    elif word:
        table.attributes.append(words)
    else:
        table.text = words
        table.size = made.form is Form.SIZE


class _Dump:
    """One run over one value."""

    __slots__ = ("declared", "namespaces", "step", "way")

    def __init__(self, way: _Way, step: str) -> None:
        self.way = way
        self.step = step
        self.namespaces: dict[str, str] = {}
        """What the root declares."""
        self.declared = ""
        """The prefix that the element around declares."""

    def element(self, value: Element, out: list[str], pad: str) -> None:
        """Print one value."""
        cls = type(value)
        declared = declaration_of(cls)
        prefix, table, unknown = declared.prefix, _table_of(cls, self.way), value.unknown or None
        if not prefix or prefix == self.declared:
            self.table(table, value, out, pad, unknown, True)
            return
        namespace = ""
        if len(pad) <= len(self.step):
            self.namespaces[prefix] = declared.namespace
        else:
            # Deeper down it is declared where it is used: a device that is copied out of its domain stays whole.
            namespace = f" xmlns:{prefix}='{attribute(declared.namespace)}'"
        around, self.declared = self.declared, prefix
        self.table(table, value, out, pad, unknown, True, namespace)
        self.declared = around

    def table(
        self,
        table: _Table,
        value: Element,
        out: list[str],
        pad: str,
        unknown: Unknown | None,
        always: bool,
        namespace: str = "",
    ) -> None:
        """Print one element of a value; unless *always*, only if it has something to say."""
        words = table.fixed + namespace
        for one in table.attributes:
            found = getattr(value, one.field)
            if found is not None and (word := self.word(one, found)) is not None:
                words += f" {one.name}='{attribute(word)}'"
        if unknown is not None:
            words += "".join(f" {n}='{attribute(v)}'" for path, n, v in unknown.attributes if path == table.inner)
        content = None
        if table.text is not None:
            content = self.word(table.text, getattr(value, table.text.field))
            if content is not None and table.size:
                words += " unit='KiB'"
        inside: list[str] = []
        if table.children or unknown is not None:
            self.children(table, value, inside, pad + self.step, unknown)
        tag = table.tag
        if inside:
            out.append(f"{pad}<{tag}{words}>{text(content) if content else ''}\n")
            out += inside
            out.append(f"{pad}</{tag}>\n")
        elif content:
            out.append(f"{pad}<{tag}{words}>{text(content)}</{tag}>\n")
        elif words or always or (table.flag is not None and getattr(value, table.flag)):
            out.append(f"{pad}<{tag}{words}/>\n")

    def children(self, table: _Table, value: Element, out: list[str], pad: str, unknown: Unknown | None) -> None:
        for child in table.children:
            if isinstance(child, _Table):
                if child.each is not None:
                    self.repeated(child, child.each, value, out, pad)
                elif unknown is not None or child.said is None or child.said(value) != child.silent:
                    self.table(child, value, out, pad, unknown, False)
                continue
            name, form = child
            found = getattr(value, name)
            if not found and (found is None or found == ()):
                continue
            if form is Form.CHILD:
                self.element(found, out, pad)
            elif form is Form.MANY:
                for one in found:
                    self.element(one, out, pad)
            else:
                for raw in (found,) if isinstance(found, Raw) else found:
                    raw.write(out, pad, self.step)
        if unknown is not None:
            for path, raw in unknown.elements:
                if path == table.inner:
                    raw.write(out, pad, self.step)

    def repeated(self, table: _Table, words: _Words, value: Element, out: list[str], pad: str) -> None:
        for found in getattr(value, words.field):
            word = words.format(found)
            if words.name:
                out.append(f"{pad}<{table.tag} {words.name}='{attribute(word)}'/>\n")
            else:
                out.append(f"{pad}<{table.tag}>{text(word)}</{table.tag}>\n")

    def word(self, words: _Words, found: Any) -> str | None:
        """The word to print, or None for nothing."""
        if found is None:
            return None
        made = words.made
        if made.hidden is not None and found == made.hidden:
            return None
        if made.live and not self.way.live and (made.live is True or made.live(found)):
            return None
        return words.format(found)
