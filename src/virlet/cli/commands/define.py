"""Definitions: storing, forgetting, and starting without storing."""

from __future__ import annotations

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument, read_xml, xml_argument
from virlet.cli.root import command, pass_app

__all__ = ["autostart", "create", "define", "undefine"]


@command()
@xml_argument()
@click.option("--validate", is_flag=True, help="Refuse elements that nobody knows.")
@pass_app
def define(app: App, file: str, validate: bool) -> None:
    """Store a domain, or change a stored one.

    FILE holds libvirt's domain XML; '-' reads standard input. Changing a running domain takes effect at its next
    start.
    """
    from virlet.enums import DefineFlags

    xml = read_xml(file)
    with app.connection() as server:
        app.done("defined", server.define(xml, DefineFlags.VALIDATE if validate else DefineFlags(0)))


@command()
@xml_argument()
@click.option("--validate", is_flag=True, help="Refuse elements that nobody knows.")
@click.option("--paused", is_flag=True, help="Do not let it run yet; 'virlet resume' does.")
@click.option("--console", is_flag=True, help="Attach to its serial console.")
@pass_app
def create(app: App, file: str, validate: bool, paused: bool, console: bool) -> None:
    """Start a transient domain from XML.

    It is forgotten when it ends. FILE holds libvirt's domain XML; '-' reads standard input.
    """
    from virlet.enums import CreateFlags

    xml = read_xml(file)
    flags = CreateFlags.PAUSED if paused else CreateFlags(0)
    if validate:
        flags |= CreateFlags.VALIDATE
    with app.connection() as server:
        domain = server.create(xml, flags)
        app.done("started", domain)
        if console:
            from virlet.cli.commands.console import attach

            attach(app, domain, device=None, force=False)


@command()
@domain_argument()
@click.option("--keep-nvram", is_flag=True, help="Leave its UEFI variables.")
@click.option("--nvram", is_flag=True, help="Delete its UEFI variables.")
@pass_app
def undefine(app: App, name: str, keep_nvram: bool, nvram: bool) -> None:
    """Forget a stored domain.

    Its disks stay. A running one runs on as a transient domain.
    """
    from virlet.enums import UndefineFlags

    if keep_nvram and nvram:
        raise click.UsageError("--keep-nvram and --nvram exclude each other")
    flags = UndefineFlags(0)
    if keep_nvram or nvram:
        flags = UndefineFlags.NVRAM if nvram else UndefineFlags.KEEP_NVRAM
    with app.connection() as server:
        domain = app.find(server, name)
        domain.undefine(flags)
        app.done("undefined", domain)


@command()
@domain_argument()
@click.option("--disable", is_flag=True, help="Start it no longer.")
@pass_app
def autostart(app: App, name: str, disable: bool) -> None:
    """Start a domain together with the daemon, or no longer."""
    with app.connection() as server:
        domain = app.find(server, name)
        domain.set_autostart(not disable)
        state = "off" if disable else "on"
        app.done(f"autostart {state}", domain, f"autostart of {{}} is {state}")
