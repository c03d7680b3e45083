"""QEMU's command line, taken apart for the fake one."""

from __future__ import annotations

import json
from collections.abc import Sequence

__all__ = ["fields_of", "options_of"]

_FLAGS = frozenset({"-S", "-nodefaults", "-no-user-config", "-no-shutdown", "-no-reboot", "-nographic", "-daemonize"})
"""Options that take no value."""


def options_of(argv: Sequence[str]) -> list[tuple[str, str]]:
    """The command line in pairs; a flag has an empty value."""
    words, pairs = iter(argv), []
    for word in words:
        name = "-" + word.lstrip("-")
        pairs.append((name, "" if name in _FLAGS else next(words, "")))
    return pairs


def fields_of(text: str) -> dict[str, str]:
    """``socket,id=a,fd=3`` or its JSON; the first word is ``type``."""
    if text.startswith("{"):
        return {key: value if isinstance(value, str) else json.dumps(value) for key, value in json.loads(text).items()}
    first, *rest = text.split(",")
    pairs = dict(part.partition("=")[::2] for part in rest)
    return {"type": first, **pairs} if "=" not in first else {**dict([first.split("=", 1)]), **pairs}
