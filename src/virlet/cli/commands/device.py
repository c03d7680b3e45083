"""Devices of a domain: interfaces that come, go and lose their cable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument, read_xml, xml_argument
from virlet.cli.root import command, pass_app

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from virlet.client.sync import Domain
    from virlet.enums import Affect

__all__ = ["attach", "detach", "link"]

F = TypeVar("F", bound=Callable[..., Any])


def _where(function: F) -> F:
    """The options that say what changes."""
    for name, help in (
        ("--config", "Change the definition, which the next start uses."),
        ("--live", "Change what runs now."),
    ):
        function = click.option(name, is_flag=True, help=help)(function)
    return function


def _affect(live: bool, config: bool) -> Affect:
    from virlet.enums import Affect

    return (Affect.LIVE if live else Affect.CURRENT) | (Affect.CONFIG if config else Affect.CURRENT)


@command()
@domain_argument()
@xml_argument()
@_where
@pass_app
def attach(app: App, name: str, file: str, live: bool, config: bool) -> None:
    """Give a domain one more device.

    FILE holds the device's XML, an <interface> for a guest that runs; '-' reads standard input. Without --live and
    --config the running guest is changed, or the definition when it does not run.
    """
    xml = read_xml(file)
    with app.connection() as server:
        domain = app.find(server, name)
        domain.attach_device(xml, _affect(live, config))
        app.done("attached", domain, "attached a device to {}")


@command()
@domain_argument()
@click.argument("interface")
@_where
@pass_app
def detach(app: App, name: str, interface: str, live: bool, config: bool) -> None:
    """Take an interface from a domain.

    INTERFACE is its MAC address, or its alias as in 'virlet port'. A running guest has to let it go: when it has not
    answered within five seconds the request stands, and 'virlet events' tells when the interface is gone.
    """
    from xml.etree.ElementTree import tostring

    with app.connection() as server:
        domain = app.find(server, name)
        found = _interface(domain, interface, inactive=config and not live)
        domain.detach_device(tostring(found, "unicode"), _affect(live, config))
        app.done("detached", domain, f"asked {{}} to give {interface} back" if domain.is_active() else None)


@command()
@domain_argument()
@click.argument("interface")
@click.argument("state", type=click.Choice(["up", "down"]))
@_where
@pass_app
def link(app: App, name: str, interface: str, state: str, live: bool, config: bool) -> None:
    """Plug the cable of an interface in, or pull it out.

    INTERFACE is its MAC address, or its alias as in 'virlet port'.
    """
    from xml.etree.ElementTree import SubElement, tostring

    with app.connection() as server:
        domain = app.find(server, name)
        found = _interface(domain, interface, inactive=config and not live)
        there = found.find("link")
        (SubElement(found, "link") if there is None else there).set("state", state)
        domain.update_device(tostring(found, "unicode"), _affect(live, config))
        app.done(f"link {state}", domain, f"link of {interface} of {{}} is {state}")


def _interface(domain: Domain, which: str, *, inactive: bool) -> Element:
    """The ``<interface>`` with that MAC address or alias; raises :class:`DeviceMissing` naming those there are."""
    from xml.etree.ElementTree import fromstring

    from virlet.enums import XmlFlags
    from virlet.errors import DeviceMissing

    root = fromstring(domain.xml(XmlFlags.INACTIVE if inactive else XmlFlags(0)))
    names = []
    for found in root.iterfind("devices/interface"):
        own = [each.get(key) for tag, key in (("mac", "address"), ("alias", "name")) for each in found.iterfind(tag)]
        if which.lower() in own or which in own:
            return found
        names.append(" ".join(word for word in own if word))
    hint = f"it has {'; '.join(names)}" if names else "it has no interface"
    raise DeviceMissing(f"'{domain.name}' has no interface '{which}'", hint=hint)
