"""XML that is kept as it came: metadata, other people's elements, and what no declaration names."""

from __future__ import annotations

from dataclasses import dataclass, field

from virlet.xml.escape import attribute, text
from virlet.xml.parser import Node

__all__ = ["NOTHING", "Raw", "Unknown"]


@dataclass(frozen=True, slots=True)
class Raw:
    """An element that is carried, not understood."""

    name: str
    """As written, with its prefix: ``app:owner``."""
    namespace: str = ""
    """The URI that the prefix stands for; empty for none."""
    attributes: tuple[tuple[str, str], ...] = ()
    """As written, in order, with the ``xmlns`` declarations that the element needs to stand alone."""
    content: tuple[Raw | str, ...] = ()
    """Text and elements in order; blanks between elements are dropped where there is nothing else."""

    @property
    def tag(self) -> str:
        """The name without its prefix."""
        return self.name.rpartition(":")[2]

    @property
    def prefix(self) -> str:
        """The prefix, or nothing."""
        return self.name.rpartition(":")[0]

    @classmethod
    def of(cls, node: Node) -> Raw:
        """A copy of *node* that stands alone: prefixes declared outside it are declared on it."""
        used = dict.fromkeys(_prefixes(node))
        needed = {prefix: node.scope[prefix] for prefix in used if node.scope.get(prefix)}
        needed.pop("xml", None)
        return _copy(node, needed, {})

    def get(self, name: str) -> str | None:
        """The value of an attribute."""
        return next((value for key, value in self.attributes if key == name), None)

    def format(self, level: int = 0, step: int = 2) -> str:
        """Printed with *level* blanks before the first line and *step* more for each level; ends with a newline."""
        out: list[str] = []
        self.write(out, " " * level, " " * step)
        return "".join(out)

    def write(self, out: list[str], pad: str, step: str) -> None:
        """Print into *out*, indented by *pad*."""
        words = self._words()
        if not self.content:
            out.append(f"{pad}<{self.name}{words}/>\n")
        elif any(isinstance(part, str) for part in self.content):
            # Blanks beside text mean something, so mixed content stays on one line.
            out.append(f"{pad}<{self.name}{words}>{self._inside()}</{self.name}>\n")
        else:
            out.append(f"{pad}<{self.name}{words}>\n")
            for part in self.content:
                if isinstance(part, Raw):
                    part.write(out, pad + step, step)
            out.append(f"{pad}</{self.name}>\n")

    def _words(self) -> str:
        return "".join(f" {name}='{attribute(value)}'" for name, value in self.attributes)

    def _inside(self) -> str:
        return "".join(text(part) if isinstance(part, str) else part._tight() for part in self.content)

    def _tight(self) -> str:
        inside = self._inside()
        return f"<{self.name}{self._words()}>{inside}</{self.name}>" if inside else f"<{self.name}{self._words()}/>"


@dataclass(frozen=True, slots=True)
class Unknown:
    """What an element holds beyond its declaration.

    The first word of each entry is the path, from the element, of the child that holds it; empty for itself.
    """

    attributes: tuple[tuple[str, str, str], ...] = ()
    """(path, name, value)"""
    elements: tuple[tuple[str, Raw], ...] = ()
    """(path, element)"""
    seconds: tuple[str, ...] = field(default=(), compare=False)
    """Paths, from the root, of elements that may be there once and were there again: left out, as libvirt does."""

    def __bool__(self) -> bool:
        return bool(self.attributes or self.elements)


NOTHING = Unknown()


def _prefixes(node: Node) -> list[str]:
    """Prefixes that *node* and everything in it use; the depth of nodes is bounded by the parser."""
    found = [node.name.rpartition(":")[0]]
    found += [name.partition(":")[0] for name in node.attributes if ":" in name]
    for inner in node.children:
        found += _prefixes(inner)
    return found


def _copy(node: Node, declare: dict[str, str], outer: dict[str, str]) -> Raw:
    own = {prefix: uri for prefix, uri in node.scope.items() if outer and outer.get(prefix) != uri}
    declared = {**declare, **own}
    words = [(f"xmlns:{prefix}" if prefix else "xmlns", uri) for prefix, uri in declared.items()]
    words += node.attributes.items()
    mixed = bool(node.text.strip()) or any(inner.tail.strip() for inner in node.children)
    parts: list[Raw | str] = [node.text] if mixed and node.text else []
    for inner in node.children:
        parts.append(_copy(inner, {}, node.scope))
        if mixed and inner.tail:
            parts.append(inner.tail)
    return Raw(node.name, node.namespace, tuple(words), tuple(parts))
