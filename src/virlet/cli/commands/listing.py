"""``virlet ls``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virlet.cli.app import App, identity
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.sync import Domain

__all__ = ["describe", "ls"]


@command()
@click.option("-a", "--all", "everything", is_flag=True, help="Those that do not run, too.")
@pass_app
def ls(app: App, everything: bool) -> None:
    """List domains.

    The columns are: id, name, state with its reason. Without --all only domains that run are listed.
    """
    from virlet.enums import ListDomainsFlags

    flags = ListDomainsFlags(0) if everything else ListDomainsFlags.ACTIVE
    with app.connection() as server:
        found = [describe(domain, app.as_json) for domain in server.domains(flags)]
    found.sort(key=lambda row: str(row["name"]))
    if app.as_json:
        app.output.document(found)
        return
    app.output.table(("ID", "NAME", "STATE"), [(row["id"], row["name"], _state(row)) for row in found])


def describe(domain: Domain, whole: bool) -> dict[str, object]:
    """What every listing says of *domain*; with *whole* also what costs further calls."""
    from virlet.cli.words import reason_word, state_word

    state, reason = domain.state()
    row: dict[str, object] = {
        **identity(domain),
        "state": state_word(state),
        "reason": reason_word(reason),
    }
    if whole:
        row |= {"persistent": domain.is_persistent(), "autostart": domain.is_persistent() and domain.autostart()}
    return row


def _state(row: dict[str, object]) -> str:
    return f"{row['state']} ({row['reason']})" if row["reason"] else str(row["state"])
