"""XML that is kept as it came: metadata, other people's elements, and what no declaration names."""

from __future__ import annotations

from dataclasses import dataclass

from virlet.xml.escape import attribute, text

__all__ = ["NOTHING", "Raw", "Unknown"]


@dataclass(frozen=True, slots=True)
class Raw:
    """An element that is carried, not understood."""

    name: str
    """As written, with its prefix: ``app:owner``."""
    namespace: str
    """The URI that the prefix stands for; empty for none."""
    attributes: tuple[tuple[str, str], ...] = ()
    """As written, in order, with the ``xmlns`` declarations that the element needs to stand alone."""
    content: tuple[Raw | str, ...] = ()
    """Text and elements in order; the blanks between elements are dropped."""

    @property
    def tag(self) -> str:
        """The name without its prefix."""
        return self.name.rpartition(":")[2]

    def format(self, level: int = 0, step: int = 2) -> str:
        """Printed with *level* blanks before the first line and *step* more for each level; ends with a newline."""
        out: list[str] = []
        self._write(out, " " * level, " " * step)
        return "".join(out)

    def _write(self, out: list[str], pad: str, step: str) -> None:
        words = "".join(f" {name}='{attribute(value)}'" for name, value in self.attributes)
        if not self.content:
            out.append(f"{pad}<{self.name}{words}/>\n")
        elif any(isinstance(part, str) for part in self.content):
            # Blanks beside text mean something, so mixed content is printed on one line.
            out.append(f"{pad}<{self.name}{words}>{self._inline()}</{self.name}>\n")
        else:
            out.append(f"{pad}<{self.name}{words}>\n")
            for part in self.content:
                if isinstance(part, Raw):
                    part._write(out, pad + step, step)
            out.append(f"{pad}</{self.name}>\n")

    def _inline(self) -> str:
        return "".join(text(part) if isinstance(part, str) else part._tight() for part in self.content)

    def _tight(self) -> str:
        words = "".join(f" {name}='{attribute(value)}'" for name, value in self.attributes)
        return f"<{self.name}{words}>{self._inline()}</{self.name}>" if self.content else f"<{self.name}{words}/>"


@dataclass(frozen=True, slots=True)
class Unknown:
    """What an element holds beyond its declaration."""

    attributes: tuple[tuple[str, str], ...] = ()
    elements: tuple[Raw, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.attributes or self.elements)


NOTHING = Unknown()
