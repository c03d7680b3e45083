"""The words of a command line, in which descriptors stand that get their numbers when the process is started."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from virlet.plan.sources import SOURCES, FdSource

__all__ = ["Joined", "Json", "JsonValue", "Word", "render", "render_json", "sources_of"]

JsonValue: TypeAlias = (
    "str | int | float | bool | FdSource | Joined | Mapping[str, JsonValue] | tuple[JsonValue, ...] | None"
)
"""JSON in which a descriptor may stand; it becomes the decimal number as a string, as QEMU's schema wants it."""


@dataclass(frozen=True, slots=True)
class Json:
    """A word of a command line that is a JSON object."""

    value: Mapping[str, JsonValue]


@dataclass(frozen=True, slots=True)
class Joined:
    """A word made of pieces, some of which are descriptors: ``socket,id=monitor,fd=`` + 7, or ``19:20``."""

    parts: tuple[str | FdSource, ...]


Word: TypeAlias = str | FdSource | Json | Joined
"""One word of a command line."""


Number: TypeAlias = Callable[[FdSource], int | str]


def render(words: tuple[Word, ...], number: Number) -> list[str]:
    """The command line with every descriptor replaced by what *number* says of it."""
    return [_word(word, number) for word in words]


def _word(word: Word, number: Number) -> str:
    if isinstance(word, str):
        return word
    if isinstance(word, Json):
        return json.dumps(render_json(word.value, number), separators=(",", ":"))
    if isinstance(word, Joined):
        return "".join(part if isinstance(part, str) else str(number(part)) for part in word.parts)
    return str(number(word))


def render_json(value: JsonValue, number: Number) -> object:
    """Plain JSON data with every descriptor replaced by its number as a string."""
    if isinstance(value, Mapping):
        return {key: render_json(item, number) for key, item in value.items()}
    if isinstance(value, tuple):
        return [render_json(item, number) for item in value]
    if isinstance(value, Joined):
        return _word(value, number)
    if isinstance(value, SOURCES):
        return str(number(value))
    return value


def sources_of(words: tuple[Word, ...]) -> tuple[FdSource, ...]:
    """Every descriptor that *words* name, each once, in order."""
    seen: dict[FdSource, None] = {}

    def note(source: FdSource) -> int:
        seen.setdefault(source)
        return 0

    render(words, note)
    return tuple(seen)
