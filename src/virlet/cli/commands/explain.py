"""``virlet explain``."""

from __future__ import annotations

from collections.abc import Mapping

import click

from virlet.cli.app import App
from virlet.cli.arguments import DomainName, read_xml
from virlet.cli.forwards import guest_side, host_side
from virlet.cli.output import clean
from virlet.cli.root import command, pass_app

__all__ = ["explain"]


@command()
@click.argument("what", type=DomainName(), metavar="NAME|FILE")
@pass_app
def explain(app: App, what: str) -> None:
    """Say what a start would do, and why.

    Which programs would run with which arguments, which network backend carries each interface and why not another.
    Nothing is started. An argument that is '-', ends in .xml or has a slash in it is a FILE, any other is a NAME.
    """
    xml = read_xml(what) if what == "-" or "/" in what or what.endswith(".xml") else None
    with app.connection() as server:
        answer = server.explain(xml) if xml is not None else app.find(server, what).explain()
    if app.as_json:
        app.output.document(answer)
    else:
        commands = answer.pop("commands", [])
        app.output.tree(_readable(answer))
        # A script that can be pasted, so not a list.
        app.output.write("commands:\n" + "".join(f"  {clean(line)}\n" for line in commands))


def _readable(answer: Mapping[str, object]) -> Mapping[str, object]:
    """The same with forwarded ports in one word each."""
    nics = answer.get("interfaces")
    if not isinstance(nics, list):
        return answer
    return {**answer, "interfaces": [{**nic, "forwards": _forwards(nic.get("forwards"))} for nic in nics]}


def _forwards(rows: object) -> list[str]:
    return [
        f"{row['proto']} {host_side(row)} reaches {guest_side(row)}" for row in (rows if isinstance(rows, list) else [])
    ]
