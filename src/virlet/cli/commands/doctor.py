"""``virlet doctor``."""

from __future__ import annotations

from virlet.cli.app import App
from virlet.cli.root import command, pass_app

__all__ = ["doctor"]


@command()
@pass_app
def doctor(app: App) -> None:
    """Say what works on this host, and what to do about the rest."""
    with app.connection() as server:
        answer = server.doctor()
    if app.as_json:
        app.output.document(answer)
    else:
        app.output.tree(answer)
