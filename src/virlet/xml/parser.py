"""Text to nodes with line and column, within bounds: no DTD, no entities, no surprise in time or memory.

The parser is expat, fed in pieces so that hostile input is refused as soon as it shows; libvirt's error code for XML
that is not well formed is 35 (XML_DETAIL), and its message shows the line with a caret, as ours does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.parsers import expat

from virlet.errors import XmlDetail

__all__ = ["DEFAULTS", "Limits", "Node", "parse"]

_PIECE: Final = 1 << 16
_XML: Final = "http://www.w3.org/XML/1998/namespace"
_SHOWN: Final = 78


@dataclass(frozen=True, slots=True)
class Limits:
    """How much XML is read before it is refused."""

    size: int = 4 << 20
    """Bytes; libvirt's wire protocol carries no longer string."""
    depth: int = 128
    """Nested elements."""
    elements: int = 50_000
    """Elements in all."""
    attributes: int = 100_000
    """Attributes in all."""
    prefixes: int = 64
    """Namespace prefixes in force at one place; each declaration copies them."""


class Node:
    """An element: what was written, and where."""

    __slots__ = ("attributes", "children", "column", "line", "name", "scope", "tag", "tail", "text")

    def __init__(
        self, tag: str, name: str, attributes: dict[str, str], scope: dict[str, str], line: int, column: int
    ) -> None:
        self.tag = tag
        """The local name, with the namespace in braces before it if there is one."""
        self.name = name
        """The name as written, with its prefix."""
        self.attributes = attributes
        """By name as written; namespace declarations are in the scope instead."""
        self.scope = scope
        """Prefix to URI, as it holds inside the element; shared with the parent where nothing is declared."""
        self.line = line
        """1-based line of the start tag."""
        self.column = column
        """1-based column of the start tag, in characters."""
        self.children: list[Node] = []
        self.text = ""
        """Text before the first child."""
        self.tail = ""
        """Text between this element's end and whatever follows it in the parent."""

    @property
    def namespace(self) -> str:
        """The URI of the element's namespace, or nothing."""
        return self.tag[1:].partition("}")[0] if self.tag.startswith("{") else ""

    def __repr__(self) -> str:
        return f"<Node {self.name} at line {self.line}, column {self.column}>"


DEFAULTS: Final = Limits()


def parse(text: str | bytes, *, limits: Limits = DEFAULTS) -> Node:
    """The root element of *text*.

    Raises :class:`virlet.errors.XmlDetail` for anything that is not well formed, has a DTD, or goes beyond *limits*.
    """
    return _Builder(text, limits).run()


class _Builder:
    """One run of expat."""

    def __init__(self, text: str | bytes, limits: Limits) -> None:
        self.limits = limits
        self.data = _encoded(text, limits)
        self.parser = expat.ParserCreate("utf-8" if isinstance(text, str) else None)
        self.parser.ordered_attributes = True
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        # Pieces, joined when an element begins or ends: "a<!---->a<!---->…" must not cost the square of its length.
        self.pieces: list[str] = []
        self.parser.CharacterDataHandler = self.pieces.append
        self.parser.StartDoctypeDeclHandler = self.doctype
        self.stack: list[Node] = []
        self.root: Node | None = None
        self.elements = 0
        self.attributes = 0

    def run(self) -> Node:
        data = self.data
        try:
            for begin in range(0, len(data), _PIECE):
                self.parser.Parse(data[begin : begin + _PIECE], False)
            self.parser.Parse(b"", True)
        except expat.ExpatError as error:
            raise self.error(expat.ErrorString(error.code) or "malformed", error.lineno, error.offset) from None
        except (LookupError, ValueError) as error:
            # pyexpat asks Python's codecs for an encoding that expat does not know.
            raise self.error(str(error), 1, 0) from None
        if self.root is None:  # expat says "no element found" first
            raise self.error("no element found", 1, 0)
        return self.root

    def start(self, name: str, words: list[str]) -> None:
        parser = self.parser
        stack = self.stack
        if self.pieces:
            self.flush()
        self.elements += 1
        if len(stack) >= self.limits.depth:
            raise self.here(f"elements are nested deeper than {self.limits.depth}")
        if self.elements > self.limits.elements:
            raise self.here(f"more than {self.limits.elements} elements")
        scope = stack[-1].scope if stack else {"xml": _XML}
        attributes: dict[str, str] = {}
        if words:
            self.attributes += len(words) // 2
            if self.attributes > self.limits.attributes:
                raise self.here(f"more than {self.limits.attributes} attributes")
            pairs = iter(words)
            attributes = dict(zip(pairs, pairs, strict=True))
            if "xmlns" in "".join(attributes):
                scope = self.declare(attributes, scope)
        tag = name if ":" not in name and "" not in scope else self.resolve(name, scope)
        if ":" in "".join(attributes):
            for attribute in attributes:
                if ":" in attribute:
                    self.resolve(attribute, scope)
        node = Node(tag, name, attributes, scope, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)
        if stack:
            stack[-1].children.append(node)
        else:
            self.root = node
        stack.append(node)

    def end(self, name: str) -> None:
        if self.pieces:
            self.flush()
        self.stack.pop()

    def flush(self) -> None:
        text = "".join(self.pieces)
        self.pieces.clear()
        if not self.stack:
            return
        inside = self.stack[-1]
        if inside.children:
            inside.children[-1].tail = text
        else:
            inside.text = text

    def declare(self, attributes: dict[str, str], scope: dict[str, str]) -> dict[str, str]:
        """Move namespace declarations out of *attributes* into a scope of their own."""
        inner = dict(scope)
        for name in [name for name in attributes if name == "xmlns" or name.startswith("xmlns:")]:
            inner[name[6:]] = attributes.pop(name)
        if len(inner) > self.limits.prefixes:
            raise self.here(f"more than {self.limits.prefixes} namespace prefixes")
        return inner

    def doctype(self, name: str, *rest: object) -> None:
        raise self.here("a document type declaration is not allowed")

    def resolve(self, name: str, scope: dict[str, str]) -> str:
        prefix, colon, local = name.rpartition(":")
        uri = scope.get(prefix)
        if uri is None:
            if colon:
                raise self.here(f"Namespace prefix {prefix} on {local} is not defined")
            return name
        return f"{{{uri}}}{local}" if uri else local

    def here(self, what: str) -> XmlDetail:
        return self.error(what, self.parser.CurrentLineNumber, self.parser.CurrentColumnNumber)

    def error(self, what: str, line: int, column: int) -> XmlDetail:
        shown = _line(self.data, line)
        begin = max(0, column - _SHOWN // 2)
        picture = f"\n{shown[begin : begin + _SHOWN]}\n{'-' * (column - begin)}^" if shown else ""
        return XmlDetail(f"at line {line}: {what} (column {column + 1}){picture}")


def _encoded(text: str | bytes, limits: Limits) -> bytes:
    # A str is at least as long in bytes, so a giant is refused before it is copied.
    if len(text) > limits.size:
        raise XmlDetail(f"at line 1: the document is larger than {limits.size} bytes (column 1)")
    if isinstance(text, bytes):
        return text
    try:
        data = text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        column = error.start - text.rfind("\n", 0, error.start)
        raise XmlDetail(f"at line {line}: not a Unicode character (column {column})") from None
    if len(data) > limits.size:
        raise XmlDetail(f"at line 1: the document is larger than {limits.size} bytes (column 1)")
    return data


def _line(data: bytes, number: int) -> str:
    begin = 0
    for _ in range(number - 1):
        begin = data.find(b"\n", begin) + 1
        if begin == 0:
            return ""
    end = data.find(b"\n", begin)
    line = data[begin : end if end >= 0 else len(data)][: 4 * 4096]
    return "".join(letter if letter.isprintable() else " " for letter in line.decode("utf-8", "replace"))
