"""The URI for other clients, libvirt's own path, versions."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from virlet import __version__
from virlet.cli.app import App
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.sync import Connection

__all__ = ["compat", "uri", "version"]


@command()
@click.option("--no-start", is_flag=True, help="Print it only.")
@pass_app
def uri(app: App, no_start: bool) -> None:
    """Print the URI for virsh and other libvirt clients.

    It names your own daemon's socket. The daemon is started if it does not run, because virsh would not start it; where
    it cannot be started the reason goes to standard error, and the URI is printed all the same.

    \b
    export LIBVIRT_DEFAULT_URI=$(virlet uri)
    """
    from urllib.parse import quote

    from virlet.paths import server_socket

    socket = server_socket(os.environ, os.getuid())
    text = f"qemu+unix:///session?socket={quote(os.fspath(socket))}"
    if app.as_json:
        app.output.document({"uri": text, "socket": os.fspath(socket)})
    else:
        app.output.write(text + "\n")
    if not no_start:
        _start_own()


def _start_own() -> None:
    from virlet.cli.report import note
    from virlet.client.sync import connect
    from virlet.client.uri import DEFAULT
    from virlet.errors import VirletError

    try:
        connect(DEFAULT).close()
    except VirletError as error:
        note(f"the daemon does not run: {error}")


@command()
@click.argument("action", type=click.Choice(["enable", "disable", "status"]))
@pass_app
def compat(app: App, action: str) -> None:
    """Serve libvirt's own session path, or no longer.

    Enabled, unmodified clients find virletd where they look for a session's libvirtd, unless one of libvirt's own
    daemons serves that path: it is left alone, and the reason is shown. The directory shown makes clients start virletd
    themselves when it is their LIBVIRTD_PATH.
    """
    with app.connection() as server:
        status = server.compat(action)
    if app.as_json:
        app.output.document(status)
        return
    serving = status.get("serving") or []
    app.output.page(
        [
            ("enabled", status.get("enabled")),
            *(("serving", path) for path in (serving if isinstance(serving, list) else [])),
            ("LIBVIRTD_PATH", status.get("directory") if status.get("enabled") else None),
            *([("not serving", status["reason"])] if status.get("reason") else []),
        ]
    )


@command()
@pass_app
def version(app: App) -> None:
    """Print the versions of virlet and of the daemon.

    A daemon that does not run is not started for it.
    """
    from virlet.errors import NoConnect

    server: dict[str, object] | None = None
    try:
        with app.connection(start=False) as connection:
            server = _server(connection)
    except NoConnect:
        pass
    if app.as_json:
        app.output.document({"virlet": __version__, "server": server})
        return
    rows: list[tuple[str, object]] = [("virlet", __version__)]
    rows += [(name, value) for name, value in server.items()] if server else [("server", "does not run")]
    app.output.page(rows)


def _server(connection: Connection) -> dict[str, object]:
    from virlet.errors import NoSupport

    found: dict[str, object] = {"uri": connection.uri()}
    try:
        found["virletd"], details = connection.server_version()
        found |= {name: value for name, value in details.items() if name != "virlet"}
    except NoSupport:
        found["libvirt"] = _dotted(connection.lib_version())
    found[connection.driver_type()] = _dotted(connection.version())
    return found


def _dotted(number: int) -> str:
    return f"{number // 1_000_000}.{number // 1000 % 1000}.{number % 1000}"
