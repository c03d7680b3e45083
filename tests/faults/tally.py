"""What became of the guest at each point at which virletd was killed, as a table at the end of the suite's output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

__all__ = ["KILLED", "LEFT", "Tally"]

KILLED, LEFT = "killed", "left"
"""Properties of a test: [point, backend], as often as there are; what the next daemon found."""
_BEST = ("runs", "off", "undefined", "FAILED")
"""What may be found, from the most to the least."""


@dataclass
class _Row:
    tests: int = 0
    seconds: float = 0.0
    worst: dict[str, str] = field(default_factory=dict)
    """By backend."""

    def add(self, backend: str, found: str, seconds: float) -> None:
        self.tests += 1
        self.seconds = max(self.seconds, seconds)
        self.worst[backend] = max(found, self.worst.get(backend, found), key=_BEST.index)


class Tally:
    """A row for each point, a column for each backend."""

    def __init__(self) -> None:
        self._rows: dict[str, _Row] = {}

    def add(self, properties: Iterable[tuple[str, object]], *, passed: bool, seconds: float) -> None:
        """One test and its *properties*, others than ours among them."""
        noted = list(properties)
        found = next((str(value) for name, value in noted if name == LEFT), "FAILED") if passed else "FAILED"
        for name, value in noted:
            if name == KILLED and isinstance(value, list | tuple):
                point, backend = map(str, value)
                self._rows.setdefault(point, _Row()).add(backend, found, seconds)

    def lines(self) -> Iterator[str]:
        """The table; nothing where nothing was killed."""
        if not self._rows:
            return
        backends = sorted({backend for row in self._rows.values() for backend in row.worst})
        wide = max(map(len, self._rows))
        tests = sum(row.tests for row in self._rows.values())
        yield f"virletd killed {tests} times at {len(self._rows)} points; what the next one had of the guest, at worst"
        yield self._line("point", "times", backends, "longest", wide, backends)
        for point, row in sorted(self._rows.items()):
            cells = [row.worst.get(backend, "") for backend in backends]
            yield self._line(point, str(row.tests), cells, f"{row.seconds:.2f} s", wide, backends)

    @staticmethod
    def _line(point: str, times: str, cells: list[str], seconds: str, wide: int, backends: list[str]) -> str:
        middle = "".join(f"  {cell:<{max(9, len(backend))}}" for cell, backend in zip(cells, backends, strict=True))
        return f"{point:<{wide}}{times:>7}{middle}{seconds:>9}"
