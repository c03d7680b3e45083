"""Events and logs that go on."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING

from virlet.client.sync import Connection, Domain

if TYPE_CHECKING:
    from tests.cli.conftest import Home

Xml = Callable[[str], str]


class Listening:
    """``virlet events`` as a program that runs beside the test."""

    def __init__(self, home: Home, *args: str) -> None:
        argv = home.argv("events", *args)
        self.process = subprocess.Popen(argv, stdout=subprocess.PIPE, env=home.environ, text=True)

    def __enter__(self) -> Listening:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()

    def hears(self, domain: Domain) -> None:
        """Make sure that it listens: an event is caused until one is printed."""
        import select

        while not select.select([self.process.stdout], [], [], 0.1)[0]:
            domain.set_autostart(False)
            domain.connection.define(domain.xml())

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().rstrip("\n")

    def line_about(self, word: str) -> str:
        line = self.line()
        while word not in line:
            assert line
            line = self.line()
        return line


def test_an_event_is_a_line_with_tabs(home: Home, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    with Listening(home) as program:
        program.hears(domain)
        domain.start()
        time, name, kind, text = program.line_about("started").split("\t")
        assert datetime.fromisoformat(time).tzinfo
        assert (name, kind, text) == ("web", "lifecycle", "started booted")
        domain.reset()
        assert program.line().split("\t")[1:] == ["web", "reboot", "-"]
        assert program.line().split("\t")[1:] == ["web", "helper", "net0 restarted: passt of net0 runs again (pid 7)"]


def test_an_event_is_a_json_object_on_a_line(home: Home, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    with Listening(home, "--json") as program:
        program.hears(domain)
        domain.start()
        event = json.loads(program.line_about("started"))
        assert event | {"time": ""} == {
            "time": "",
            "name": "web",
            "uuid": domain.uuid,
            "id": domain.id(),
            "event": "lifecycle",
            "values": {"event": 2, "detail": 0},
            "change": "started",
            "detail": "booted",
        }


def test_only_the_named_domain_is_heard_and_the_count_ends_it(home: Home, server: Connection, xml: Xml) -> None:
    domain, other = server.define(xml("web")), server.define(xml("other"))
    with Listening(home, "web", "--count", "1") as program:
        other.start()
        program.hears(domain)
        assert program.line().split("\t")[1] == "web"
        assert program.process.wait(30) == 0


def test_a_followed_log_is_printed_as_it_is(home: Home, server: Connection, xml: Xml) -> None:
    server.define(xml("web"))
    argv = home.argv("logs", "web", "--follow")
    with subprocess.Popen(argv, stdout=subprocess.PIPE, env=home.environ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"first line\n"
        assert process.stdout.readline() == b"second \x1b[31mline\n"
        process.kill()
