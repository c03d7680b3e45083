"""The console: typed and printed bytes, the key that leaves, and a terminal that is always put back."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import termios
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from virlet.cli.terminal import raw, until_escape
from virlet.client.sync import Connection

if TYPE_CHECKING:
    from tests.cli.conftest import Home, Virlet

Xml = Callable[[str], str]


class User:
    """Somebody at a terminal in which the program runs."""

    def __init__(self, argv: list[str], environ: dict[str, str]) -> None:
        self.screen, self.near = pty.openpty()
        self.before = termios.tcgetattr(self.near)
        self.process = subprocess.Popen(argv, stdin=self.near, stdout=self.near, stderr=self.near, env=environ)

    def reads(self, text: str) -> str:
        """What is on the screen once *text* is."""
        seen, end = "", time.monotonic() + 30
        while text not in seen:
            assert select.select([self.screen], [], [], end - time.monotonic())[0], seen
            seen += os.read(self.screen, 65_536).decode()
        return seen

    def types(self, text: str) -> None:
        os.write(self.screen, text.encode())

    def leave(self) -> int:
        """Wait for the end; the terminal must be as it was."""
        code = self.process.wait(30)
        assert termios.tcgetattr(self.near) == self.before
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.screen)
        os.close(self.near)


@pytest.fixture
def user(home: Home, server: Connection, xml: Xml) -> Iterator[User]:
    server.define(xml("web")).start()
    made = User(list(home.argv("console", "web")), home.environ | {"TERM": "xterm"})
    yield made
    made.close()


def test_what_is_typed_comes_back_and_the_escape_key_leaves(user: User) -> None:
    assert "Connected to web; Ctrl-] leaves." in user.reads("login: ")
    user.types("root\r")
    user.reads("root\r")
    user.types("\x03")  # Ctrl-C is the guest's
    user.reads("\x03")
    user.types("\x1d")
    assert user.leave() == 0


def test_the_end_of_the_guest_ends_the_console(user: User) -> None:
    user.reads("login: ")
    user.types("bye")
    user.reads("The console has ended.")
    assert user.leave() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_leaves_the_terminal_as_it_was(user: User, number: signal.Signals) -> None:
    user.reads("login: ")
    user.process.send_signal(number)
    assert user.leave() == 128 + number


def test_a_taken_console_is_refused_and_can_be_forced(user: User, virlet: Virlet) -> None:
    user.reads("login: ")
    ran = virlet("console", "web", stdin="bye")
    assert ran.code == 1
    assert "Active console session exists" in ran.err
    ran = virlet("console", "web", "--force", stdin="bye")
    assert (ran.code, ran.out) == (0, "login: bye")
    user.reads("error: ")
    assert user.leave() == 1


def test_a_console_needs_no_terminal_and_loses_no_byte(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web")).start()
    typed = "".join(f"line {number}\n" for number in range(100_000)) + "bye"
    ran = virlet("console", "web", stdin=typed)
    assert ran.code == 0
    assert ran.out == "login: " + typed


def test_start_can_go_on_to_the_console(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web"))
    assert virlet("start", "web", "--console", stdin="bye").out == "started web\nlogin: bye"


def test_typing_ends_at_the_escape_key() -> None:
    assert until_escape(b"abc") == (b"abc", False)
    assert until_escape(b"ab\x1dcd") == (b"ab", True)


def test_what_is_no_terminal_is_left_alone() -> None:
    reading, writing = os.pipe()
    with raw(reading):
        pass
    os.close(reading)
    os.close(writing)
