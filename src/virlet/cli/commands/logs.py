"""``virlet logs``."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.sync import Domain

__all__ = ["logs"]

CHUNK = 1 << 20
PAUSE = 0.5
"""Seconds between two looks at a log that is followed: the protocol has no event for a line in a log."""


@command()
@domain_argument()
@click.argument("which", default="qemu", metavar="[qemu|INTERFACE]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is added, until Ctrl-C.")
@pass_app
def logs(app: App, name: str, which: str, follow: bool) -> None:
    """Print the log of QEMU or of a helper.

    A helper is named by the alias of its interface: net0 is the first one's. With --json and --follow each new
    piece is an object with the member "text".
    """
    with app.connection() as server:
        domain = app.find(server, name)
        if app.as_json and not follow:
            data = b"".join(_pieces(domain, which, follow=False))
            app.output.document({"name": domain.name, "log": which, "text": data.decode(errors="replace")})
            return
        for piece in _pieces(domain, which, follow):
            if app.as_json:
                app.output.record({"log": which, "text": piece.decode(errors="replace")}, "")
            else:
                app.output.write_bytes(piece)


def _pieces(domain: Domain, which: str, follow: bool) -> Iterator[bytes]:
    """What the log holds, and with *follow* what comes after."""
    offset = 0
    while True:
        data, offset, ended = domain.logs(which, offset, CHUNK)
        if data:
            yield data
        elif ended and follow:
            time.sleep(PAUSE)
        if ended and not follow:
            return
