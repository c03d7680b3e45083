"""``virlet port``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument
from virlet.cli.forwards import guest_side, host_side
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.sync import Domain

__all__ = ["port"]


@command()
@domain_argument(required=False)
@pass_app
def port(app: App, name: str | None) -> None:
    """List forwarded ports.

    The columns are: domain, interface, protocol, host address and ports, guest ports, state. Without NAME the ports of
    all domains that run.
    """
    from virlet.enums import ListDomainsFlags

    with app.connection() as server:
        domains = [app.find(server, name)] if name else server.domains(ListDomainsFlags.ACTIVE)
        rows = [row for domain in sorted(domains, key=lambda one: one.name) for row in _ports(domain)]
    if app.as_json:
        app.output.document(rows)
        return
    app.output.table(("DOMAIN", "INTERFACE", "PROTO", "HOST", "GUEST", "STATE"), [_row(row) for row in rows])


def _ports(domain: Domain) -> list[dict[str, object]]:
    """The forwards of *domain* as the server gives them, each with the domain's name."""
    rows = domain.ports()["result"]
    return [{"domain": domain.name, **row} for row in rows]


def _row(row: Mapping[str, object]) -> tuple[object, ...]:
    return row["domain"], row.get("alias"), row.get("proto"), host_side(row), guest_side(row), row.get("state")
