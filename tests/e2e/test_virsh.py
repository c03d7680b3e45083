"""Commands of real virsh that need a terminal, an editor, or a session of libvirt's own."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator

import pytest
from domains import default_interface, domain
from session import Session, alive, comm, console_of, session, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def typed(one: Session, argv: tuple[str, ...], lines: list[tuple[bytes, bytes]]) -> tuple[int, bytes]:
    """Run *argv* on a terminal; each of *lines* is typed once the words before it have come.  Exit status, output.

    A line is typed again after a second of silence: a program that makes its terminal raw drops what was typed before.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(argv[0], argv, one.env | {"TERM": "xterm"})
    output, last, deadline = b"", b"", time.monotonic() + 30
    try:
        for words, line in [*lines, (b"\0never", b"")]:
            while words not in output:
                assert time.monotonic() < deadline, output
                if not select.select([terminal], [], [], 1)[0]:
                    os.write(terminal, last)
                    continue
                try:
                    output += os.read(terminal, 4096)
                except OSError:  # EIO: the program has ended.
                    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), output
            os.write(terminal, line)
            last = line
        raise AssertionError("not reached")
    finally:
        os.close(terminal)


def test_somebody_at_a_terminal_talks_to_the_guest_and_leaves(one: Session) -> None:
    one.define(domain("demo"))
    one.virsh("start", "demo")
    console_of(one, "demo").ready()
    os.close(one.consoles.pop())
    for argv in (("virsh", "-c", one.uri, "console", "demo"), ("virlet", "console", "demo")):
        status, said = typed(one, argv, [(b"demo", b'echo he""llo\r'), (b"hello", b"\x1d")])
        assert status == 0, said
    one.virsh("destroy", "demo")


def test_an_edit_by_an_editor_becomes_the_definition(one: Session) -> None:
    one.define(domain("demo"))
    editor = one.base / "editor"
    editor.write_text("#!/bin/sh\nsed -i 's,>1</vcpu>,>2</vcpu>,' \"$1\"\n")
    editor.chmod(0o755)
    one.env["EDITOR"] = str(editor)
    one.virsh("edit", "demo")
    assert one.virsh("vcpucount", "demo", "--config", "--maximum") == "2"
    editor.write_text("#!/bin/sh\nsed -i 's,>2</vcpu>,>-2</vcpu>,' \"$1\"\n")
    assert "maximum vcpus count must be an integer" in one.virlet("edit", "demo", check=False)
    assert one.virsh("vcpucount", "demo", "--config", "--maximum") == "2"


def test_words_of_the_users_for_qemu_are_run_and_taint(one: Session) -> None:
    words = (
        "<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
        "<qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/virlet,string=said'/>"
        "<qemu:env name='VIRLET_TEST' value='was here'/></qemu:commandline>"
    )
    one.define(domain("demo").replace("</domain>", f"{words}</domain>"))
    assert "tainted" not in one.virsh("dominfo", "demo")
    one.virsh("start", "demo")
    assert "custom configuration parameters used" in one.virsh("dominfo", "demo")
    (qemu,) = one.helpers("qemu")
    with open(f"/proc/{qemu}/environ", "rb") as environ:
        assert b"VIRLET_TEST=was here" in environ.read()
    guest = console_of(one, "demo")
    guest.ready()
    one.virsh("destroy", "demo")
    os.close(one.consoles.pop())


def test_the_first_form_of_the_passt_series_is_understood(one: Session) -> None:
    nic = f"<interface type='user'><backend type='passt' upstream='{default_interface()}'/></interface>"
    one.define(domain("demo", nic))
    xml = one.virsh("dumpxml", "demo", "--inactive")
    assert f"<source dev='{default_interface()}'/>" in xml
    assert "upstream" not in xml


def the_one(one: Session, words: str) -> int:
    """The process of those words, once whoever has started it has ended, or become another program."""
    found: list[int] = []

    def alone() -> bool:
        found[:] = [pid for pid, said in one.processes().items() if words in said]
        return len(found) == 1

    until(alone, lambda: f"one {words}, not {found}")
    return found[0]


def test_a_plain_virsh_finds_the_domains_and_starts_the_daemon(one: Session) -> None:
    one.define(domain("demo"))
    one.virlet("compat", "enable")
    assert "demo" in one.run("virsh", "-c", "qemu:///session", "list", "--all").stdout
    one.virsh("start", "demo", "--paused")
    one.stop_daemon()
    one.env["LIBVIRTD_PATH"] = one.env["VIRTD_PATH"] = str(one.base / "config/virlet/compat")
    # The client does not pass XDG_STATE_HOME on, and the daemon still finds the guest that runs.
    assert one.run("virsh", "-c", "qemu:///session", "domstate", "demo").stdout.strip() == "paused"
    started = the_one(one, "compat/")
    one.run("virsh", "-c", "qemu:///session", "destroy", "demo")
    os.kill(started, signal.SIGTERM)


def test_the_backend_that_was_chosen_stands_in_the_live_xml_alone(one: Session) -> None:
    one.define(domain("demo", "<interface type='user'><mac address='52:54:00:00:0c:01'/></interface>"))
    one.virsh("start", "demo", "--paused")
    live = one.virsh("dumpxml", "demo")
    chosen = re.findall(r"<virlet:backend[^>]* name=.([a-z-]+).", live)
    assert chosen == re.findall(r"# net0: (\S+): ", one.virlet("explain", "demo"))
    assert "virlet:backend" not in one.virsh("dumpxml", "demo", "--inactive")
    (nic,) = re.findall(r"<interface .*?</interface>", live, re.DOTALL)
    for link in ("down", "up"):
        (one.base / "nic.xml").write_text(nic.replace("</interface>", f"<link state='{link}'/></interface>"))
        one.virsh("update-device", "demo", str(one.base / "nic.xml"))
        assert one.virsh("domif-getlink", "demo", "52:54:00:00:0c:01").endswith(link)
    one.virsh("domif-setlink", "demo", "52:54:00:00:0c:01", "down")
    one.virsh("destroy", "demo")
    assert "virlet:backend" not in one.virsh("dumpxml", "demo")


def test_the_uri_that_is_printed_is_one_that_virsh_can_use_at_once(one: Session) -> None:
    one.stop_daemon()
    uri = one.virlet("uri")
    assert "Compiled against" in one.run("virsh", "-c", uri, "version").stdout
    os.kill(the_one(one, "virlet.daemon.main"), signal.SIGTERM)


RUNNING, OFF = ("running", ["passt", "qemu-system-x86"], True), ("shut off", [], False)


def becomes(one: Session, *wanted: tuple[str, list[str], bool]) -> None:
    """The guest's state, its processes and its files are one of *wanted*; a new daemon ends what was half done."""
    seen = []

    def settled() -> bool:
        pids = [pid for pid in (*one.helpers("qemu"), *one.helpers("passt")) if alive(pid)]
        seen[:] = [
            (
                one.virsh("domstate", "demo"),
                sorted(comm(pid).partition(".")[0] for pid in pids),
                bool(one.runtime_files()),
            )
        ]
        return seen[0] in wanted

    until(settled, lambda: f"{seen}\n{one.log()}")


def test_a_daemon_killed_at_any_moment_of_a_start_or_an_end_leaves_nothing_unknown(one: Session) -> None:
    one.define(domain("demo", "<interface type='user'><model type='virtio'/><backend type='passt'/></interface>"))
    for step in range(20):
        commands = "start demo; destroy demo" if step % 2 else "start demo"
        client = subprocess.Popen(["virsh", "-c", one.uri, commands], env=one.env, stdout=-3, stderr=-3)
        time.sleep(0.02 + step * 0.009)
        one.stop_daemon(signal.SIGKILL)
        client.wait(30)
        one.start_daemon()
        becomes(one, RUNNING, OFF)
        one.virsh("destroy", "demo", check=False)  # What the last daemon was told to end may have ended by itself.
        becomes(one, OFF)
