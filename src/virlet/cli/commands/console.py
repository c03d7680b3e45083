"""``virlet console``."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING

import click

from virlet.cli.app import App
from virlet.cli.arguments import domain_argument
from virlet.cli.root import command, pass_app
from virlet.cli.terminal import raw, until_escape

if TYPE_CHECKING:
    from virlet.client.sync import Connection, Domain, Stream

__all__ = ["Pump", "attach", "console"]

CHUNK = 4096
"""Bytes typed at once; little against what a socket takes while it says that it has room."""


@command()
@domain_argument()
@click.option("--force", is_flag=True, help="Take it from whoever has it now.")
@click.option("--device", metavar="ALIAS", help="Another console than the first: serial1, console1.")
@pass_app
def console(app: App, name: str, force: bool, device: str | None) -> None:
    """Talk to a guest's serial console; Ctrl-] leaves.

    Standard input need not be a terminal: what it holds is typed, and the output goes on until the guest ends.
    """
    with app.connection() as server:
        attach(app, app.find(server, name), device=device, force=force)


def attach(app: App, domain: Domain, *, device: str | None, force: bool) -> None:
    """Connect the terminal with the console *device* (the first when None) until one of both ends."""
    from virlet.enums import ConsoleFlags

    flags = ConsoleFlags.FORCE if force else ConsoleFlags(0)
    keyboard = sys.stdin.fileno()
    with domain.open_console(device, flags) as stream:
        if os.isatty(keyboard):
            _tell(f"Connected to {domain.name}; Ctrl-] leaves.\n")
        with raw(keyboard):
            ended = Pump(app, domain.connection, stream, keyboard).run()
        if ended:
            stream.finish()
    if os.isatty(keyboard):
        _tell("\nThe console has ended.\n" if ended else "\n")


def _tell(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()


class Pump:
    """Copies both ways.

    What is typed is read only while the socket has room: blocking in a write while the guest's answers pile up would
    leave both sides waiting for each other.
    """

    def __init__(self, app: App, server: Connection, stream: Stream, keyboard: int) -> None:
        self.output = app.output
        self.server = server
        self.stream = stream
        self.keyboard = keyboard
        self.poll = select.poll()
        self.poll.register(server.fileno(), select.POLLIN)
        self.poll.register(keyboard, select.POLLIN)

    def run(self) -> bool:
        """Until one side ends; whether it was the guest's."""
        while True:
            if self._print():
                return True
            for fd, what in self.poll.poll():
                if fd == self.keyboard:
                    if self._type():
                        return False
                elif what & select.POLLOUT:
                    self.poll.modify(fd, select.POLLIN)
                    self.poll.register(self.keyboard, select.POLLIN)
                else:
                    self.server.pump()

    def _print(self) -> bool:
        """Print what has come; whether that was the end."""
        while self.stream.pending:
            piece = self.stream.read()
            if not piece:
                return True
            self.output.write_raw(piece)
        return False

    def _type(self) -> bool:
        """Send what was typed; whether the user wants to leave."""
        room = select.poll()
        room.register(self.server.fileno(), select.POLLOUT)
        if not room.poll(0):
            self.poll.unregister(self.keyboard)
            self.poll.modify(self.server.fileno(), select.POLLIN | select.POLLOUT)
            return False
        typed = os.read(self.keyboard, CHUNK)
        text, leave = until_escape(typed)
        self.stream.write(text)
        if not typed:
            self.poll.unregister(self.keyboard)
        return leave
