"""Where things stand in the text: paths to lines and columns, and what was found beyond the declarations."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable

from virlet.errors import Problem
from virlet.xml.parser import Node

__all__ = ["Source"]

_STEP = re.compile(r"(?P<name>[^\[\]]+)(?:\[(?P<index>[0-9]{1,9})\])?\Z")


class Source:
    """The text behind a loaded value; values themselves know no positions, so that they can be compared."""

    __slots__ = ("_owners", "dropped", "root", "unknown")

    def __init__(self, root: Node, unknown: Iterable[Problem] = (), owners: Iterable[str] = ()) -> None:
        self.root = root
        self._owners = tuple(owners)
        self.unknown = tuple(unknown)
        """Attributes and elements that no declaration names, each with its path and place; kept, not refused.
        And elements that may be there once, and are there again; left out.
        """
        self.dropped: tuple[Problem, ...] = ()
        """What was understood, means nothing where it stands, and is left out as libvirt leaves it out."""

    def unknown_of(self, namespace: str) -> tuple[Problem, ...]:
        """Those of :attr:`unknown` whose names belong to *namespace*."""
        pairs = zip(self.unknown, self._owners, strict=False)
        return tuple(problem for problem, owner in pairs if owner == namespace)

    def position(self, path: str) -> tuple[int, int]:
        """1-based line and column of *path* (``devices/interface[1]/mtu/@size``), or of what is nearest above it."""
        node = self.root
        for step in path.split("/"):
            found = _STEP.match(step)
            if found is None or step.startswith("@"):
                break
            name, index = found["name"], int(found["index"] or 1)
            same = [inner for inner in node.children if inner.name == name or inner.tag == name]
            if not 1 <= index <= len(same):
                break
            node = same[index - 1]
        return node.line, node.column

    def locate(self, problem: Problem) -> Problem:
        """*problem* with its line and column, if it has none yet."""
        if problem.line is not None:
            return problem
        line, column = self.position(problem.path)
        return dataclasses.replace(problem, line=line, column=column)
