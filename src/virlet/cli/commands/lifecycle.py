"""Starting, pausing and ending guests."""

from __future__ import annotations

from collections.abc import Callable

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument
from virlet.cli.root import command, pass_app

__all__ = ["destroy", "reboot", "reset", "resume", "shutdown", "start", "suspend"]

MODES = {"acpi": 1, "agent": 2}
"""``virDomainShutdownFlagValues``."""


def by_mode(help: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The option that says how the guest is asked."""
    return click.option("--mode", type=click.Choice(list(MODES)), help=help)


@command()
@domain_argument()
@click.option("--paused", is_flag=True, help="Do not let it run yet; 'virlet resume' does.")
@click.option("--console", is_flag=True, help="Attach to its serial console.")
@pass_app
def start(app: App, name: str, paused: bool, console: bool) -> None:
    """Start a stored domain.

    Returns when the guest runs and every forwarded port accepts connections.
    """
    from virlet.enums import CreateFlags

    with app.connection() as server:
        domain = app.find(server, name)
        domain.start(CreateFlags.PAUSED if paused else CreateFlags(0))
        app.done("started", domain)
        if console:
            from virlet.cli.commands.console import attach

            attach(app, domain, device=None, force=False)


@command()
@domain_argument()
@by_mode("Press the power button, or ask the guest agent (default: what works).")
@pass_app
def shutdown(app: App, name: str, mode: str | None) -> None:
    """Ask the guest to shut down.

    Returns at once; the guest takes its time, or does not listen. 'virlet events' tells when it is off.
    """
    from virlet.enums import ShutdownFlags

    with app.connection() as server:
        domain = app.find(server, name)
        domain.shutdown(ShutdownFlags(MODES.get(mode or "", 0)))
        app.done("asked", domain, "asked {} to shut down")


@command()
@domain_argument()
@by_mode("Press the power button, or ask the guest agent (default: what works).")
@pass_app
def reboot(app: App, name: str, mode: str | None) -> None:
    """Ask the guest to reboot."""
    from virlet.enums import ShutdownFlags

    with app.connection() as server:
        domain = app.find(server, name)
        domain.reboot(ShutdownFlags(MODES.get(mode or "", 0)))
        app.done("asked", domain, "asked {} to reboot")


@command()
@domain_argument()
@pass_app
def reset(app: App, name: str) -> None:
    """Press the reset button.

    The guest starts over without a chance to write anything back.
    """
    with app.connection() as server:
        domain = app.find(server, name)
        domain.reset()
        app.done("reset", domain)


@command()
@domain_argument()
@pass_app
def suspend(app: App, name: str) -> None:
    """Pause a guest.

    It keeps its memory and its ports and does nothing.
    """
    with app.connection() as server:
        domain = app.find(server, name)
        domain.suspend()
        app.done("suspended", domain)


@command()
@domain_argument()
@pass_app
def resume(app: App, name: str) -> None:
    """Let a paused guest run on."""
    with app.connection() as server:
        domain = app.find(server, name)
        domain.resume()
        app.done("resumed", domain)


@command()
@domain_argument()
@click.option("--graceful", is_flag=True, help="Never kill QEMU: fail when it does not end in time.")
@click.option("--remove-logs", is_flag=True, help="Delete its logs, too.")
@pass_app
def destroy(app: App, name: str, graceful: bool, remove_logs: bool) -> None:
    """End a guest now.

    QEMU is told to end, writes back what it still has in its caches, and is killed when it does not end within ten
    seconds. The operating system in the guest notices nothing: 'virlet shutdown' asks it.
    """
    from virlet.enums import DestroyFlags

    flags = DestroyFlags.GRACEFUL if graceful else DestroyFlags(0)
    if remove_logs:
        flags |= DestroyFlags.REMOVE_LOGS
    with app.connection() as server:
        domain = app.find(server, name)
        domain.destroy(flags)
        app.done("destroyed", domain)
