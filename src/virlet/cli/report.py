"""How an error is told: ``error: …`` and ``hint: …`` on standard error, and its exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from virlet.cli.exits import Exit, exit_for
from virlet.cli.output import clean, wants_colour

if TYPE_CHECKING:
    from virlet.errors import VirletError

__all__ = ["complain", "note", "report", "split_hints"]

BUG_HINT = "this is a bug in virlet; run the command again with --debug and report what it prints"


def split_hints(message: str) -> tuple[str, list[str]]:
    """Take the ``(hint: …)`` parts out of a server's message: they are parentheses that may hold parentheses."""
    text, hints = "", []
    rest = message
    while (start := rest.find("(hint: ")) >= 0:
        end = _closing(rest, start)
        text += rest[:start].rstrip() if rest[end + 1 :].lstrip()[:1] in ("", ";") else rest[:start]
        hints.append(rest[start + len("(hint: ") : end].strip())
        rest = rest[end + 1 :]
    return (text + rest).strip(), list(dict.fromkeys(hints))


def _closing(text: str, start: int) -> int:
    depth = 0
    for place in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[place], 0)
        if depth == 0:
            return place
    return len(text)


def complain(message: str, hints: Iterable[str] = (), *, as_json: bool = False, **more: object) -> None:
    """Write an error to standard error; with *as_json* as one JSON object with *more* in it."""
    if as_json:
        import json

        _stderr(json.dumps({"error": {"message": message, "hints": list(hints), **more}}) + "\n")
        return
    _stderr(_label("error: ", "31") + _lines(message))
    for hint in hints:
        note(hint, "hint: ", "36")


def note(message: str, label: str = "warning: ", colour: str = "33") -> None:
    """Write something less than an error to standard error."""
    _stderr(_label(label, colour) + _lines(message))


def report(error: Exception, *, as_json: bool = False) -> Exit:
    """Tell *error* and say with which code to exit."""
    from virlet.errors import VirletError

    if isinstance(error, VirletError):
        return _report_virlet(error, as_json)
    if isinstance(error, OSError):
        what = f"{error.filename}: " if error.filename else ""
        complain(f"{what}{error.strerror or error}", as_json=as_json)
        return Exit.FAILED
    complain(f"internal error: {type(error).__name__}: {error}", [BUG_HINT], as_json=as_json)
    return Exit.FAILED


def _report_virlet(error: VirletError, as_json: bool) -> Exit:
    from virlet.enums import ErrorCode

    message, hints = split_hints(error.message)
    if error.code == ErrorCode.NO_DOMAIN and not hints:
        hints = ["'virlet ls --all' lists all domains"]
    complain(message, hints, as_json=as_json, code=int(error.code), domain=int(error.domain))
    return exit_for(int(error.code))


def _label(text: str, colour: str) -> str:
    return f"\x1b[1;{colour}m{text}\x1b[0m" if wants_colour(sys.stderr) else text


def _lines(message: str) -> str:
    """Every line of *message*, harmless for a terminal: libvirt's XML errors have several."""
    return "\n".join(clean(line) for line in message.splitlines()) + "\n"


def _stderr(text: str) -> None:
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
