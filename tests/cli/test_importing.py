"""Taking over a libvirt session: from its files, and from a server."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from virlet.cli.libvirt_home import definitions
from virlet.client.sync import Connection

if TYPE_CHECKING:
    from tests.cli.conftest import Home, Virlet

Xml = Callable[[str], str]


@pytest.fixture
def session(home: Home, xml: Xml) -> Path:
    """What a libvirt session has left: three domains, one of which starts with the daemon and was saved."""
    folder = home.path / ".config" / "libvirt" / "qemu"
    for name in ("autostart", "save", "networks"):
        (folder / name).mkdir(parents=True)
    for name in ("one", "two", "three"):
        (folder / f"{name}.xml").write_text(f"<!--\nWARNING: AUTO-GENERATED\n-->\n{xml(name)}")
    (folder / "autostart" / "one.xml").symlink_to(folder / "one.xml")
    (folder / "save" / "one.save").touch()
    (folder / "networks" / "default.xml").write_text("<network/>")
    return folder


def test_all_definitions_are_imported_with_their_autostart(virlet: Virlet, server: Connection, session: Path) -> None:
    ran = virlet("import", "--all")
    assert ran.code == 0
    assert ran.out == "one\timported\t-\nthree\timported\t-\ntwo\timported\t-\n"
    assert ran.err.startswith("warning: one: its saved state stays with libvirt")
    assert {domain.name: domain.autostart() for domain in server.domains()} == {
        "one": True,
        "two": False,
        "three": False,
    }


def test_named_ones_are_imported_and_one_that_is_not_there_is_a_failure(
    virlet: Virlet, server: Connection, session: Path
) -> None:
    ran = virlet("import", "two", "four")
    assert ran.code == 1
    assert ran.out == f"four\tfailed\t{session} has no domain of this name\ntwo\timported\t-\n"
    assert [domain.name for domain in server.domains()] == ["two"]


def test_what_virlet_has_already_is_skipped_unless_it_is_to_be_replaced(
    virlet: Virlet, server: Connection, session: Path, xml: Xml
) -> None:
    domain = server.define(xml("two"))
    assert virlet("import", "two").out.startswith("two\tskipped\tvirlet has a domain of this name")
    assert "WARNING" not in domain.xml()
    assert virlet("import", "two", "--replace").out == "two\timported\t-\n"
    assert "WARNING" in domain.xml()


OTHER_UUID = "<uuid>11111111-1111-4111-8111-111111111111</uuid>"


def test_one_of_another_uuid_is_replaced_too_unless_it_runs(
    virlet: Virlet, server: Connection, session: Path, xml: Xml
) -> None:
    mine = xml("two").replace("</name>", f"</name>{OTHER_UUID}")
    server.define(mine).start()
    assert "runs and has another uuid" in virlet("import", "two", "--replace").out
    (running,) = server.domains()
    running.destroy()
    assert virlet("import", "two", "--replace").out == "two\timported\t-\n"
    assert [OTHER_UUID in domain.xml() for domain in server.domains()] == [False]


def test_the_replaced_one_comes_back_when_the_other_cannot_be_defined(
    virlet: Virlet, server: Connection, session: Path, xml: Xml
) -> None:
    (session / "third.xml").write_text(xml("third").replace("</name>", f"</name>{OTHER_UUID}<refused/>"))
    server.define(xml("third")).set_autostart(True)
    assert virlet("import", "third", "--replace").out.startswith("third\tfailed\tunsupported")
    assert [(one.name, one.autostart(), OTHER_UUID in one.xml()) for one in server.domains()] == [
        ("third", True, False)
    ]


def test_a_dry_run_changes_nothing(virlet: Virlet, server: Connection, session: Path) -> None:
    found = virlet("import", "--all", "--dry-run", "--json").json
    assert found["source"] == str(session)
    assert [row["result"] for row in found["domains"]] == ["would import"] * 3
    assert server.domains() == []


def test_one_that_cannot_be_defined_does_not_stop_the_others(
    virlet: Virlet, server: Connection, session: Path, xml: Xml
) -> None:
    (session / "broken.xml").write_text(xml("broken"))
    (session / "nonsense.xml").write_bytes(b"\xff")
    ran = virlet("import", "--all")
    assert ran.code == 1
    assert "broken\tfailed\tunsupported configuration: no such model" in ran.out
    assert f"nonsense\tfailed\t{session / 'nonsense.xml'} is not UTF-8" in ran.out
    assert len(server.domains()) == 3


def test_a_server_that_is_no_virletd_is_asked_and_one_that_is_is_not(virlet: Virlet, server: Connection) -> None:
    # The stand answers virlet's own program: what it has are our domains, so the files count.
    assert virlet("import", "--all").out.endswith("libvirt/qemu has no domains\n")


def test_one_must_say_which(virlet: Virlet) -> None:
    assert virlet("import").code == 2
    assert virlet("import", "--all", "two").code == 2
    assert virlet("import", "--all", "--uri", "qemu+unix:///session?socket=/nonexistent").code == 3


def test_files_that_cannot_be_read_are_told(session: Path, home: Home, xml: Xml) -> None:
    (session / "two.xml").unlink()
    (session / "two.xml").mkdir()
    (session / "three.xml").write_bytes(b" " * ((4 << 20) + 1))
    found = {one.name: one.problem for one in definitions(home.environ, os.getuid())}
    assert found == {
        "one": None,
        "two": f"cannot read {session / 'two.xml'}: Is a directory",
        "three": f"{session / 'three.xml'} is larger than 4 MiB",
    }


def test_a_guest_that_runs_under_libvirt_is_told(session: Path, home: Home) -> None:
    (home.path / "run" / "libvirt" / "qemu" / "run").mkdir(parents=True)
    (home.path / "run" / "libvirt" / "qemu" / "run" / "two.xml").touch()
    found = {one.name: one.warnings for one in definitions(home.environ, os.getuid())}
    assert "running under libvirt" in found["two"][0]
    assert found["three"] == ()
