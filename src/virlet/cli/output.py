"""What commands print: tables and pages with colour on a terminal, plain lines that stay the same elsewhere, or JSON.

Elsewhere a table is one line a row, cells separated by tabs, without a heading, with ``-`` for an empty cell.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, TextIO

from virlet.cli.exits import Exit

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Output", "clean", "wants_colour"]

STYLES = {
    "running": "green",
    "ok": "green",
    "yes": "green",
    "open": "green",
    "paused": "yellow",
    "warning": "yellow",
    "waiting": "yellow",
    "crashed": "red",
    "failed": "red",
    "no": "red",
    "lost": "red",
    "shut off": "dim",
}
"""Colours of words, by the word's beginning; used on a terminal only."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), *range(127, 160)) if code != 9}


def clean(text: str) -> str:
    """*text* in one line and without control characters: a guest's name must not be able to drive a terminal."""
    return text.translate(_CONTROL)


def wants_colour(stream: TextIO) -> bool:
    """Whether *stream* is a terminal that shows colours, and its user wants them (https://no-color.org)."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


class Output:
    """Standard output."""

    def __init__(self, as_json: bool, stream: TextIO | None = None) -> None:
        self.as_json = as_json
        self.stream = stream or sys.stdout
        self.terminal = self.stream.isatty()

    def write(self, text: str) -> None:
        """Write *text* as it is; when nobody reads any more the program ends quietly."""
        try:
            self.stream.write(text)
            self.stream.flush()
        except BrokenPipeError:
            silence(self.stream)
            raise SystemExit(Exit.BROKEN_PIPE) from None

    def write_bytes(self, data: bytes) -> None:
        """Write *data* as it is, or made harmless for a terminal."""
        if self.terminal:
            text = data.decode(errors="replace").replace("\r\n", "\n")
            self.write("\n".join(map(clean, text.split("\n"))))
            return
        self.write_raw(data)

    def write_raw(self, data: bytes) -> None:
        """Write *data* to the terminal as it is: a console is meant to drive it."""
        try:
            self.stream.buffer.write(data)
            self.stream.buffer.flush()
        except BrokenPipeError:
            silence(self.stream)
            raise SystemExit(Exit.BROKEN_PIPE) from None

    def document(self, value: object) -> None:
        """The one JSON document of a command."""
        self.write(self._dumps(value, indent=2 if self.terminal else None) + "\n")

    def record(self, value: Mapping[str, object], text: str) -> None:
        """One thing of a stream: a line of JSON, or *text*."""
        self.write((self._dumps(value) if self.as_json else text) + "\n")

    def say(self, text: str) -> None:
        """One line for people; nothing when the answer is JSON."""
        if not self.as_json:
            self.write(clean(text) + "\n")

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
        """Rows below *columns*; numbers are aligned to the right on a terminal."""
        if not self.terminal:
            self.write("".join("\t".join(map(_cell, row)) + "\n" for row in rows))
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for number, name in enumerate(columns):
            numeric = bool(rows) and all(isinstance(row[number], int) or row[number] is None for row in rows)
            table.add_column(name, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(_cell(value), style=_style(value)) for value in row))
        self._rich().print(table)

    def page(self, fields: Sequence[tuple[str, object]]) -> None:
        """Names and values, one a line; elsewhere than on a terminal separated by a tab."""
        if not self.terminal:
            self.write("".join(f"{clean(name)}\t{_cell(value)}\n" for name, value in fields))
            return
        from rich.table import Table
        from rich.text import Text

        grid = Table.grid(padding=(0, 2, 0, 0))
        grid.add_column(style="bold")
        grid.add_column(overflow="fold")
        for name, value in fields:
            grid.add_row(Text(clean(name)), Text(_cell(value), style=_style(value)))
        self._rich().print(grid)

    def tree(self, value: Mapping[str, object]) -> None:
        """Nested names and values, indented; an answer that has no page of its own."""
        for depth, name, text in branches(value):
            if self.terminal:
                from rich.text import Text

                line = Text("  " * depth).append(name, "bold").append(" " if name and text else "")
                self._rich().print(line.append(text, _style(text)), soft_wrap=True)
            else:
                self.write(f"{'  ' * depth}{name}{' ' if name and text else ''}{text}\n")

    def _rich(self) -> Console:
        from rich.console import Console

        # Shells on a line without a size export 0 columns, and rich would print nothing at all.
        width = None if os.environ.get("COLUMNS", "1").strip("0") else 80
        return Console(file=self.stream, highlight=False, soft_wrap=False, width=width)

    def _dumps(self, value: object, indent: int | None = None) -> str:
        import json

        unicode = self.stream.encoding.lower().replace("-", "") == "utf8"
        return json.dumps(value, ensure_ascii=not unicode, indent=indent, default=str)


def branches(value: object, depth: int = 0) -> Iterator[tuple[int, str, str]]:
    """JSON data as lines: depth, name with a colon, text."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _branch(f"{clean(str(name).replace('_', ' '))}:", item, depth)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _item(item, depth)
    else:
        yield depth, "", _cell(value)


def _branch(name: str, item: object, depth: int) -> Iterator[tuple[int, str, str]]:
    if not isinstance(item, Mapping | list | tuple):
        yield depth, name, _cell(item)
    elif item:
        yield depth, name, ""
        yield from branches(item, depth + 1)
    else:
        yield depth, name, "none"


def _item(item: object, depth: int) -> Iterator[tuple[int, str, str]]:
    """One of a list; the first line of a nested one stands beside its dash."""
    if not isinstance(item, Mapping) or not item:
        yield from _branch("-", item, depth)
        return
    lines = branches(item, depth + 1)
    _, name, text = next(lines)
    yield depth, f"- {name}", text
    yield from lines


def silence(stream: TextIO) -> None:
    """Send what is still buffered for *stream* nowhere, so that the interpreter's last flush does not complain."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def _cell(value: object) -> str:
    if value is None or value == "":
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return clean(str(value).replace("\t", " ").replace("\n", " "))


def _style(value: object) -> str:
    if isinstance(value, bool):
        return ""  # Neither answer is the better one.
    word = _cell(value)
    return next((style for start, style in STYLES.items() if word == start or word.startswith(f"{start} (")), "")
