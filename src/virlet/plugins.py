"""What installed distributions offer virlet by entry points, ours among them.

``importlib.metadata`` would answer the same, but brings the parser of e-mails, of ZIP and of CSV files along: 2.5 MB in
a daemon that is meant to be small.  The format of ``entry_points.txt`` is the packaging specification's.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from importlib import import_module
from typing import NamedTuple

__all__ = ["EntryPoint", "entry_points"]


class EntryPoint(NamedTuple):
    """Something that a distribution offers."""

    name: str
    value: str
    """``module:attribute``."""

    def load(self) -> object:
        """The object itself; ImportError or AttributeError when it is not what the distribution promised."""
        module, _, attribute = self.value.partition(":")
        found: object = import_module(module)
        for name in filter(None, attribute.split(".")):
            found = getattr(found, name)
        return found


def entry_points(group: str, name: str | None = None) -> tuple[EntryPoint, ...]:
    """The entry points of *group*, and of *name* if one is given, in the order of ``sys.path``.

    Of several copies of a distribution the first counts, as it does for imports.
    """
    found = []
    seen = set()
    for folder in sys.path:
        for project, path in _distributions(folder or "."):
            if project not in seen:
                seen.add(project)
                found += [point for point in _read(path, group) if name is None or point.name == name]
    return tuple(found)


def _distributions(folder: str) -> Iterator[tuple[str, str]]:
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return
    for name in names:
        if name.endswith((".dist-info", ".egg-info")):
            project = name.rpartition(".")[0].partition("-")[0]
            yield project.lower().replace("_", "-").replace(".", "-"), os.path.join(folder, name, "entry_points.txt")


def _read(path: str, group: str) -> Iterator[EntryPoint]:
    try:
        with open(path, encoding="utf-8") as file:
            lines = file.read().splitlines()
    except (OSError, UnicodeDecodeError):
        return  # Most distributions have none, and a broken one is not ours to judge.
    section = ""
    for line in map(str.strip, lines):
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1].strip()
        elif section == group and "=" in line and not line.startswith(("#", ";")):
            name, _, value = line.partition("=")
            yield EntryPoint(name.strip(), value.partition("[")[0].strip())
