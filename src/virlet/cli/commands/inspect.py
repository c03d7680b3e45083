"""What is known about one domain."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from virlet.cli.app import App, identity
from virlet.cli.arguments import domain_argument
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.sync import Domain

__all__ = ["info", "xml"]


@command()
@domain_argument()
@click.option("--inactive", is_flag=True, help="As it will start next, not as it runs.")
@click.option("--secure", is_flag=True, help="With passwords.")
@pass_app
def xml(app: App, name: str, inactive: bool, secure: bool) -> None:
    """Print a domain's XML."""
    from virlet.enums import XmlFlags

    flags = (XmlFlags.INACTIVE if inactive else XmlFlags(0)) | (XmlFlags.SECURE if secure else XmlFlags(0))
    with app.connection() as server:
        domain = app.find(server, name)
        text = domain.xml(flags)
    if app.as_json:
        app.output.document({**identity(domain), "xml": text})
    else:
        app.output.write(text if text.endswith("\n") else text + "\n")


@command()
@domain_argument()
@pass_app
def info(app: App, name: str) -> None:
    """Show what is known about a domain.

    From virletd also what stands behind it: processes, network backends, logs; and of a network that was given up, why
    that was and what to do about it.
    """
    with app.connection() as server:
        domain = app.find(server, name)
        found = _common(domain)
        details = _details(domain)
    if app.as_json:
        app.output.document({**found, "details": details})
        return
    app.output.page(_readable(found))
    if details:
        app.output.tree(details)


def _common(domain: Domain) -> dict[str, object]:
    from virlet.cli.commands.listing import describe

    info = domain.info()
    return {
        **describe(domain, whole=True),
        "max_memory_kib": info.max_memory,
        "memory_kib": info.memory,
        "vcpus": info.vcpus,
        "cpu_time_ns": info.cpu_time,
    }


def _details(domain: Domain) -> dict[str, object] | None:
    """What only virletd tells; ``None`` from a server of another kind."""
    from virlet.errors import NoSupport

    try:
        return domain.details()
    except NoSupport:
        return None


def _readable(found: dict[str, object]) -> list[tuple[str, object]]:
    from virlet.cli.words import size

    state = f"{found['state']} ({found['reason']})" if found["reason"] else found["state"]
    seconds = int(str(found["cpu_time_ns"])) / 1e9
    return [
        ("name", found["name"]),
        ("uuid", found["uuid"]),
        ("id", found["id"]),
        ("state", state),
        ("persistent", found["persistent"]),
        ("autostart", found["autostart"]),
        ("memory", size(int(str(found["memory_kib"])))),
        ("vcpus", found["vcpus"]),
        ("cpu time", f"{seconds:.1f} s"),
    ]
