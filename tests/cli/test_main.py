"""The program as a whole: speed, exit codes, errors, and that nobody ever sees a traceback."""

from __future__ import annotations

import os
import resource
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from virlet.cli.catalog import CATALOG
from virlet.cli.exits import MEANINGS, Exit, exit_for
from virlet.client.sync import Connection
from virlet.enums import ErrorCode

if TYPE_CHECKING:
    from tests.cli.conftest import Home, Virlet


HEAVY = ("asyncio", "rich", "virlet.client", "virlet.wire", "json", "subprocess", "socket")


def imported_by(home: Home, *args: str) -> set[str]:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *home.argv(*args)[1:]], capture_output=True, env=home.environ, check=False
    )
    return {line.rsplit("|", 1)[-1].strip() for line in done.stderr.decode().splitlines() if line.startswith("import")}


def test_help_imports_no_command_and_nothing_heavy(home: Home) -> None:
    names = imported_by(home, "--help")
    assert "click" in names
    assert not [name for name in names if name.startswith("virlet.cli.commands")]
    assert not [name for name in names if name in HEAVY or name.startswith(("asyncio.", "rich."))]


def test_a_command_imports_neither_asyncio_nor_rich_when_piped(home: Home, server: Connection) -> None:
    names = imported_by(home, "ls")
    assert "virlet.client.sync" in names
    assert not names & {"asyncio", "rich", "subprocess"}


def cpu_of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_help_is_quick(home: Home) -> None:
    times = []
    for _ in range(5):
        begun = cpu_of_children()
        subprocess.run(home.argv("--help"), stdout=subprocess.DEVNULL, env=home.environ, check=True)
        times.append(cpu_of_children() - begun)
    assert min(times) < 0.4  # Of CPU: some 60 ms; generous, because the machines that run tests are slow.


def test_a_full_disk_at_standard_output_is_an_error_like_any_other(home: Home, server: Connection) -> None:
    for words in (("version",), ("--help",), ("version", "--json")):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                home.argv(*words), stdout=full, stderr=subprocess.PIPE, env=home.environ, text=True, check=False
            )
        assert (done.returncode, done.stderr.count("\n")) == (Exit.FAILED, 1), done.stderr
        assert "No space left on device" in done.stderr


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_streams_that_are_closed_lead_nowhere(home: Home, server: Connection, closed: str) -> None:
    line = f"{shlex.join(home.argv('ls', '--all'))} {closed}"
    done = subprocess.run(["sh", "-c", line], capture_output=True, env=home.environ, text=True, check=False)
    assert (done.returncode, done.stderr) == (Exit.OK, "")


def test_help_lists_every_command_and_every_exit_code(virlet: Virlet) -> None:
    ran = virlet("--help")
    assert ran.code == Exit.OK
    for name, entry in CATALOG.items():
        assert f"  {name} " in ran.out
        assert entry.summary in ran.out
    for meaning in MEANINGS.values():
        assert meaning in ran.out


def test_without_arguments_the_help_is_an_error(virlet: Virlet) -> None:
    ran = virlet()
    assert (ran.code, ran.out) == (Exit.USAGE, "")
    assert "Usage: virlet" in ran.err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["nope"], Exit.USAGE),
        (["start"], Exit.USAGE),
        (["ls", "--nope"], Exit.USAGE),
        (["define", "/nonexistent"], Exit.FAILED),
        (["start", "nobody"], Exit.NO_DOMAIN),
        (["-c", "test:///other?socket=/nonexistent", "ls"], Exit.NOBODY),
        (["-c", "qemu:///system", "ls"], Exit.NOBODY),
        (["suspend", "web"], Exit.WRONG_STATE),
        (["start", "failing"], Exit.FAILED),
        (["define", "-"], Exit.BAD_XML),
        (["reboot", "web"], Exit.FAILED),
    ],
)
def test_exit_codes_say_what_kind_of_failure(
    args: list[str], code: Exit, virlet: Virlet, server: Connection, xml: Callable[[str], str]
) -> None:
    server.define(xml("web"))
    server.define(xml("failing"))
    ran = virlet(*args, stdin="<nonsense")
    assert ran.code == code, ran
    assert ran.out == ""
    assert ran.err.startswith("error: ")
    assert "Traceback" not in ran.err


def test_every_code_of_libvirt_has_an_exit_code() -> None:
    assert {exit_for(code) for code in ErrorCode} <= set(MEANINGS)
    assert exit_for(99_999) is Exit.FAILED


def test_a_hint_of_the_server_is_a_line_of_its_own(
    virlet: Virlet, server: Connection, xml: Callable[[str], str]
) -> None:
    server.define(xml("failing"))
    assert virlet("start", "failing").err == (
        "error: operation failed: port 2022 of 127.0.0.1 is taken by sshd (pid 1)\nhint: choose another port\n"
    )


def test_an_error_says_line_and_column_of_the_xml(virlet: Virlet, xml: Callable[[str], str]) -> None:
    ran = virlet("define", "-", stdin=xml("broken"))
    assert ran.code == Exit.BAD_XML
    assert ran.err == (
        "error: unsupported configuration: no such model (really) (line 7, column 3: devices/interface[1])\n"
        "hint: use virtio (or e1000)\n"
    )


def test_an_unknown_command_is_answered_with_the_one_that_was_meant(virlet: Virlet) -> None:
    ran = virlet("strat")
    assert "did you mean start" in ran.err
    assert "hint: see 'virlet --help'" in ran.err


def test_errors_are_json_where_json_was_asked_for(virlet: Virlet, server: Connection) -> None:
    import json

    ran = virlet("start", "nobody", "--json")
    error = json.loads(ran.err)["error"]
    assert error["code"] == ErrorCode.NO_DOMAIN
    assert error["message"] == "Domain not found: no domain with matching name 'nobody'"
    assert error["hints"]
    assert ran.out == ""


def test_a_traceback_is_shown_with_debug_only(virlet: Virlet, server: Connection) -> None:
    assert "Traceback" not in virlet("start", "nobody").err
    ran = virlet("start", "nobody", "--debug")
    assert "Traceback" in ran.err
    assert ran.code == Exit.NO_DOMAIN


def test_a_reader_that_goes_away_is_no_error(home: Home, server: Connection, xml: Callable[[str], str]) -> None:
    server.define(xml("web"))
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        home.argv("ls", "--all"), stdout=writing, stderr=subprocess.PIPE, env=home.environ, check=False
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (Exit.BROKEN_PIPE, b"")


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started from a background job of a shell inherits that SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_control_c_ends_with_130_and_no_words(
    home: Home, server: Connection, xml: Callable[[str], str], interruptible: None
) -> None:
    with subprocess.Popen(
        home.argv("events"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=home.environ
    ) as process:
        assert process.stdout is not None
        wait_for_event(server, xml, process.stdout.fileno())
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == Exit.INTERRUPTED
    assert err.strip() == b""


def wait_for_event(server: Connection, xml: Callable[[str], str], output: int) -> None:
    """Cause events until the program at the other end of *output* prints one: then it listens."""
    import select

    while not select.select([output], [], [], 0.1)[0]:
        server.define(xml("web"))
