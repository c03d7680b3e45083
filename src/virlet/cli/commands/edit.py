"""Editing a definition."""

from __future__ import annotations

import sys

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument
from virlet.cli.report import report
from virlet.cli.root import command, pass_app

__all__ = ["edit"]


@command()
@domain_argument()
@pass_app
def edit(app: App, name: str) -> None:
    """Edit a domain's XML in your editor.

    The editor is the one of VISUAL or EDITOR. What is refused can be edited again. A running domain changes at its next
    start.
    """
    from virlet.enums import XmlFlags
    from virlet.errors import VirletError

    with app.connection() as server:
        text = app.find(server, name).xml(XmlFlags.INACTIVE | XmlFlags.SECURE)
    while True:
        edited = click.edit(text, extension=".xml")
        if edited is None or edited == text:
            app.output.say(f"{name} is unchanged")
            return
        text = edited
        try:
            # A connection of its own: an editor may stay open for days.
            with app.connection() as server:
                app.done("changed", server.define(text))
            return
        except VirletError as error:
            if not sys.stdin.isatty():
                raise
            report(error)
            if not click.confirm("Edit it again? What you wrote is lost otherwise", default=True, err=True):
                raise
