"""``virlet explain``."""

from __future__ import annotations

from collections.abc import Mapping

import click

from virlet.cli.app import App
from virlet.cli.arguments import DomainName, read_xml
from virlet.cli.exits import Exit
from virlet.cli.forwards import guest_side, host_side
from virlet.cli.output import clean
from virlet.cli.root import command, pass_app

__all__ = ["explain"]


@command()
@click.argument("what", type=DomainName(), metavar="NAME|FILE")
@pass_app
def explain(app: App, what: str) -> None:
    """Say what a start would do, and why.

    Which programs would run with which arguments, which network backend carries each interface and why, and what each
    of the others would say. Nothing is started. What keeps it from starting is told; the exit code is 6 where no start
    could be planned. An argument that is '-', ends in .xml or has a slash in it is a FILE, any other is a NAME.
    """
    xml = read_xml(what) if what == "-" or "/" in what or what.endswith(".xml") else None
    with app.connection() as server:
        answer = server.explain(xml) if xml is not None else app.find(server, what).explain()
    commands = answer.get("commands", [])
    if app.as_json:
        app.output.document(answer)
    else:
        readable = {name: item for name, item in _readable(answer).items() if name != "commands"}
        app.output.tree(readable)
        if commands:
            # A script that can be pasted, so not a list.
            app.output.write("commands:\n" + "".join(f"  {clean(line)}\n" for line in commands))
    if not commands:
        raise SystemExit(Exit.BAD_XML)


def _readable(answer: Mapping[str, object]) -> Mapping[str, object]:
    """The same with a line for each forwarded range, and for each backend."""
    nics = answer.get("interfaces")
    if not isinstance(nics, list):
        return answer
    lines = {"forwards": _forwards, "backends": _backends}
    shown = [{name: lines[name](item) if name in lines else item for name, item in nic.items()} for nic in nics]
    return {**answer, "interfaces": shown}


def _backends(rows: object) -> list[str]:
    """Those of other types of interface share one line."""
    verdicts = rows if isinstance(rows, list) else []
    told = [_verdict(row) for row in verdicts if row["concerned"]]
    others = [row for row in verdicts if not row["concerned"]]
    if others:
        told.append(f"{', '.join(row['name'] for row in others)}: no, {others[0]['reason']}")
    return told


def _verdict(row: Mapping[str, object]) -> str:
    word = "yes, and chosen" if row["chosen"] else "yes" if row["ok"] else "no"
    reason, hint = row["reason"], row["hint"]
    return f"{row['name']}: {word}" + (f", {reason}" if reason else "") + (f" ({hint})" if hint else "")


def _forwards(rows: object) -> list[str]:
    return [
        f"{row['proto']} {host_side(row)} reaches {guest_side(row)}" for row in (rows if isinstance(rows, list) else [])
    ]
