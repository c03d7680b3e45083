"""``virlet import``: the definitions of a libvirt session become ours."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from virlet.cli.app import App, running
from virlet.cli.exits import Exit
from virlet.cli.libvirt_home import Found, definitions, libvirt_config_dir
from virlet.cli.report import note, split_hints
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from virlet.client.sync import Connection, Domain

__all__ = ["import_"]

LIBVIRT = "qemu:///session"


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one domain."""

    name: str
    result: str
    """``imported``, ``would import``, ``skipped`` or ``failed``."""
    reason: str | None = None
    warnings: tuple[str, ...] = ()

    def json(self) -> dict[str, object]:
        """As ``--json`` prints it."""
        return {"name": self.name, "result": self.result, "reason": self.reason, "warnings": list(self.warnings)}


@command("import")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--uri", "source", metavar="URI", help="Take them from this server (default: your libvirt session).")
@click.option("--all", "everything", is_flag=True, help="All of them.")
@click.option("--replace", is_flag=True, help="Also those whose name virlet has already.")
@click.option("--dry-run", is_flag=True, help="Only say what would be done.")
@pass_app
def import_(
    app: App, names: tuple[str, ...], source: str | None, everything: bool, replace: bool, dry_run: bool
) -> None:
    """Take over the domains of a libvirt session.

    Definitions and autostart marks are copied, nothing is taken away from libvirt. They are read through libvirt's
    daemon when it runs, and from its files (~/.config/libvirt/qemu) when it does not; it is never started. Disks stay
    where they are: do not run a domain under both at once.
    """
    if everything == bool(names):
        raise click.UsageError("name the domains to import, or say --all")
    origin, found = _look(source)
    missing = [name for name in names if name not in {one.name for one in found}]
    chosen = [one for one in found if everything or one.name in names]
    results = [Result(name, "failed", f"{origin} has no domain of this name") for name in missing]
    with app.connection() as server:
        results += [_import(server, one, replace, dry_run) for one in chosen]
    _show(app, origin, results)
    if any(result.result == "failed" for result in results):
        raise SystemExit(Exit.FAILED)


def _look(source: str | None) -> tuple[str, list[Found]]:
    """Where the definitions come from, and what is there."""
    from virlet.errors import NoConnect

    try:
        found = _from_server(source or LIBVIRT)
    except NoConnect:
        if source:
            raise
        found = None
    if found is not None:
        return source or LIBVIRT, found
    return str(libvirt_config_dir(os.environ, os.getuid())), list(definitions(os.environ, os.getuid()))


def _from_server(source: str) -> list[Found] | None:
    """Every stored domain that the server at *source* has; ``None`` when that is virletd, which compat puts there."""
    from virlet.enums import ListDomainsFlags
    from virlet.errors import NoSupport

    with running(source) as server:
        try:
            server.server_version()
        except NoSupport:
            return [_fetch(domain) for domain in server.domains(ListDomainsFlags.PERSISTENT)]
    return None


def _fetch(domain: Domain) -> Found:
    running = ("it runs under libvirt: never let both run it on the same disks",) if domain.is_active() else ()
    return Found(domain.name, _xml_of(domain), domain.autostart(), running)


def _xml_of(domain: Domain) -> str:
    from virlet.enums import XmlFlags

    return domain.xml(XmlFlags.INACTIVE | XmlFlags.SECURE)


def _import(server: Connection, one: Found, replace: bool, dry_run: bool) -> Result:
    from virlet.errors import NoDomain, VirletError

    if one.problem:
        return Result(one.name, "failed", one.problem)
    try:
        ours: Domain | None = server.lookup_by_name(one.name)
    except NoDomain:
        ours = None
    if ours is not None and not replace:
        return Result(one.name, "skipped", "virlet has a domain of this name; --replace overwrites it")
    if dry_run:
        return Result(one.name, "would import", warnings=one.warnings)
    try:
        domain = _define(server, one.xml, ours)
        if one.autostart:
            domain.set_autostart(True)
    except VirletError as error:
        return Result(one.name, "failed", error.message, one.warnings)
    return Result(one.name, "imported", warnings=one.warnings)


def _define(server: Connection, xml: str, ours: Domain | None) -> Domain:
    """Define *xml*, in the place of *ours* also where that has another UUID, which define alone refuses."""
    from virlet.errors import OperationFailed, OperationInvalid, VirletError

    try:
        return server.define(xml)
    except OperationFailed:
        if ours is None:
            raise
    if ours.is_active():
        raise OperationInvalid("virlet's domain of this name runs and has another uuid", hint="end it first")
    old, autostart = _xml_of(ours), ours.autostart()
    ours.undefine()
    try:
        return server.define(xml)
    except VirletError:
        back = server.define(old)
        if autostart:
            back.set_autostart(True)
        raise


def _show(app: App, origin: str, results: Sequence[Result]) -> None:
    if app.as_json:
        app.output.document({"source": origin, "domains": [result.json() for result in results]})
        return
    for result in results:
        for warning in result.warnings:
            note(f"{result.name}: {warning}")
    if not results:
        app.output.say(f"{origin} has no domains")
        return
    app.output.table(("NAME", "RESULT", "REASON"), [(row.name, row.result, _reason(row)) for row in results])


def _reason(result: Result) -> str:
    text, hints = split_hints(result.reason or "")
    return " – ".join([text, *hints])
