"""Each command against a server: what it prints for people, for pipes and as JSON, and what it does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

from virlet.cli.catalog import CATALOG
from virlet.client.sync import Connection
from virlet.enums import DomainState

if TYPE_CHECKING:
    from tests.cli.conftest import Home, Virlet


Xml = Callable[[str], str]


def test_a_domain_is_defined_from_a_file_and_from_standard_input(
    virlet: Virlet, server: Connection, home: Home, xml: Xml
) -> None:
    (home.path / "web.xml").write_text(xml("web"))
    assert virlet("define", str(home.path / "web.xml")).out == "defined web\n"
    assert virlet("define", "-", stdin=xml("db")).out == "defined db\n"
    assert sorted(domain.name for domain in server.domains()) == ["db", "web"]


def test_what_is_no_text_and_what_is_too_long_is_not_even_sent(virlet: Virlet, home: Home) -> None:
    (home.path / "a.xml").write_bytes(b"<name>\xff</name>")
    assert virlet("define", str(home.path / "a.xml")).err.endswith("is not UTF-8: byte 7 is 0xff\n")
    assert virlet("define", "-", stdin="<a>\0</a>").err == "error: standard input is no XML: byte 4 is zero\n"
    (home.path / "b.xml").write_bytes(b" " * (4 << 20) + b"x")
    assert "is larger than 4 MiB" in virlet("define", str(home.path / "b.xml")).err


def test_the_life_of_a_domain(virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    for args, said, state in [
        (["start", "web", "--paused"], "started web", DomainState.PAUSED),
        (["resume", "web"], "resumed web", DomainState.RUNNING),
        (["suspend", "web"], "suspended web", DomainState.PAUSED),
        (["resume", "web"], "resumed web", DomainState.RUNNING),
        (["reset", "web"], "reset web", DomainState.RUNNING),
        (["shutdown", "web"], "asked web to shut down", DomainState.SHUTOFF),
        (["start", "web"], "started web", DomainState.RUNNING),
        (["destroy", "web", "--graceful"], "destroyed web", DomainState.SHUTOFF),
    ]:
        ran = virlet(*args)
        assert (ran.code, ran.out, ran.err) == (0, said + "\n", "")
        assert domain.state().state is state
    assert virlet("undefine", "web").out == "undefined web\n"
    assert server.domains() == []


def test_a_transient_domain_is_forgotten_when_it_ends(virlet: Virlet, server: Connection, xml: Xml) -> None:
    assert virlet("create", "-", stdin=xml("passing")).out == "started passing\n"
    assert virlet("destroy", "passing").code == 0
    assert server.domains() == []


def test_a_domain_is_found_by_name_uuid_and_id(virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    domain.start()
    number = domain.id()
    found = [virlet("info", who, "--json").json["name"] for who in ("web", domain.uuid, str(number))]
    assert found == ["web"] * 3
    assert virlet("info", "4000000000").err.startswith("error: Domain not found: no domain with matching name '40000")


def test_a_list_in_a_pipe_is_a_line_each_without_heading(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web"))
    running = server.create(xml("db"))
    assert virlet("ls").out == f"{running.id()}\tdb\trunning (booted)\n"
    assert virlet("ls", "--all").out == f"{running.id()}\tdb\trunning (booted)\n-\tweb\tshut off\n"


def test_a_list_as_json(virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    assert virlet("ls", "--all", "--json").json == [
        {
            "name": "web",
            "uuid": domain.uuid,
            "id": None,
            "state": "shut off",
            "reason": None,
            "persistent": True,
            "autostart": False,
        }
    ]
    assert virlet("--json", "ls").json == []


def test_info_tells_libvirts_part_and_virlets(virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    domain.start()
    assert virlet("info", "web").out == (
        f"name\tweb\nuuid\t{domain.uuid}\nid\t{domain.id()}\nstate\trunning (booted)\npersistent\tyes\nautostart\tno\n"
        "memory\t128 MiB\nvcpus\t2\ncpu time\t1.5 s\n"
        "pid: 4711\ninterfaces:\n  - alias: net0\n    backend: passt\nname: web\n"
    )
    found = virlet("info", "web", "--json").json
    assert (found["memory_kib"], found["max_memory_kib"], found["cpu_time_ns"]) == (131_072, 524_288, 1_500_000_000)
    assert found["details"]["pid"] == 4711


def test_xml_is_printed_as_the_server_gives_it(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web")).start()
    assert virlet("xml", "web", "--inactive").out == xml("web")
    assert "<domain id='" in virlet("xml", "web").out
    assert virlet("xml", "web", "--inactive", "--json").json["xml"] == xml("web")


def test_autostart_goes_on_and_off(virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    assert virlet("autostart", "web").out == "autostart of web is on\n"
    assert domain.autostart()
    assert virlet("autostart", "web", "--disable").out == "autostart of web is off\n"
    assert not domain.autostart()


def test_explain_takes_a_name_or_a_file(virlet: Virlet, server: Connection, home: Home, xml: Xml) -> None:
    server.define(xml("web"))
    (home.path / "web.xml").write_text(xml("web"))
    assert virlet("explain", "web").out == (
        "name: web\ninterfaces:\n  - alias: net0\n"
        "    backend: passt\n    why:\n      - it is the fastest that works here\n"
        "    forwards:\n      - tcp *:2022 reaches 22\n"
        "    backends:\n      - passt: yes, and chosen\n      - slirp: yes, built into QEMU\n"
        "      - slirp-helper: no, there is no libslirp (install it)\n"
        "      - bridge, null: no, not for interfaces of type 'user'\nproblems: none\n"
        "commands:\n  qemu -name x\n  passt --fd 3\n"
    )
    assert virlet("explain", "web", "--json").json["interfaces"][0]["forwards"][0]["to"] == 22
    assert virlet("explain", str(home.path / "web.xml"), "--json").json["name"] == "file"
    assert virlet("explain", "-", "--json", stdin=xml("x")).json["name"] == "file"


def test_explain_says_what_keeps_a_guest_from_starting_and_fails(virlet: Virlet, server: Connection, xml: Xml) -> None:
    assert server.hostname()
    ran = virlet("explain", "-", stdin=xml("nowhere"))
    assert (ran.code, ran.out) == (6, "name: nowhere\ninterfaces: none\nproblems:\n  - there is no QEMU\n")
    assert virlet("explain", "-", "--json", stdin=xml("nowhere")).code == 6


def test_ports_are_a_line_each(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web")).start()
    expected = (
        "web\tnet0\ttcp\t127.0.0.1:2022\t22\trunning\n"
        "web\tnet0\ttcp\t*:5000-5009\t1000-1009\trunning\n"
        "web\tnet0\tudp\t[::1]%lo:all\tsame\trunning\n"
    )
    assert virlet("port").out == expected
    assert virlet("port", "web").out == expected
    rows = virlet("port", "--json").json
    assert [row["domain"] for row in rows] == ["web"] * 3
    assert rows[0]["to"] == 22


def test_a_log_is_printed_whole_and_by_name(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web"))
    assert virlet("logs", "web").out == "first line\nsecond \x1b[31mline\n"
    found = virlet("logs", "web", "net0", "--json").json
    assert found == {"name": "web", "log": "net0", "text": "first line\nsecond \x1b[31mline\n"}


def test_the_uri_is_printed_without_a_server(virlet: Virlet, home: Home) -> None:
    nowhere = {"VIRLET_URI": "test:///nowhere?socket=/nonexistent"}
    socket = home.path / "run" / "virlet" / "virletd.sock"
    assert virlet("uri", "--no-start", env=nowhere).out == f"qemu+unix:///session?socket={socket}\n"
    assert virlet("uri", "--no-start", "--json", env=nowhere).json["socket"] == str(socket)
    assert not socket.parent.exists()


def test_the_uri_is_printed_where_the_daemon_may_not_be_started(virlet: Virlet) -> None:
    done = virlet("uri", env={"VIRLET_AUTOSTART": "0"})
    assert done.out.startswith("qemu+unix:///session?socket=")
    assert done.err.startswith("warning: the daemon does not run: ")


def test_compat_is_switched_and_shown(virlet: Virlet) -> None:
    on = virlet("compat", "enable", "--json").json
    try:
        assert on["enabled"]
        assert any(path.endswith("/libvirt-sock") for path in on["serving"])
        lines = virlet("compat", "status").out.splitlines()
        assert lines[0] == "enabled\tyes"
        assert f"LIBVIRTD_PATH\t{on['directory']}" in lines
    finally:
        off = virlet("compat", "disable")
    assert off.out == "enabled\tno\nLIBVIRTD_PATH\t-\n"


def test_doctor_prints_what_the_server_found(virlet: Virlet) -> None:
    ran = virlet("doctor")
    assert ran.code == 0
    assert ran.out == (
        "no\tKVM\tno /dev/kvm\tload the module kvm\n"
        "ok\tQEMU x86_64\t/usr/bin/qemu-system-x86_64 7.2.19\t-\n"
        "ok\tnetwork passt (x86_64)\t-\t-\n"
        "no\tpasst\tnot installed\tinstall the package 'passt', the better user network\n"
        "no\tguests can ping\t-\tadd your group to the sysctl net.ipv4.ping_group_range\n"
        "ok\tlowest port to forward\t1024\t-\n"
        "ok\tconfig directory\t/c\t-\n"
        "no\tproblem\ta status file cannot be read\t-\n"
    )
    assert virlet("doctor", "--json").json["host"]["kvm"]["ok"] is False


def test_version_tells_the_server_if_it_runs_and_starts_none(virlet: Virlet, home: Home) -> None:
    import virlet as package

    found = virlet("version", "--json").json
    assert found["virlet"] == package.__version__
    assert found["server"]["virletd"] == package.__version__
    assert found["server"]["QEMU"] == "7.2.19"
    assert virlet("version", env={"VIRLET_URI": ""}).out == f"virlet\t{package.__version__}\nserver\tdoes not run\n"
    assert not (home.path / "run" / "virlet").exists()


def test_edit_stores_what_the_editor_left(virlet: Virlet, server: Connection, home: Home, xml: Xml) -> None:
    domain = server.define(xml("web"))
    editor = home.path / "editor"
    editor.write_text('#!/bin/sh\nsed -i s/131072/262144/ "$1"\n')
    editor.chmod(0o755)
    assert virlet("edit", "web", env={"EDITOR": str(editor)}).out == "changed web\n"
    assert "262144" in domain.xml()
    assert virlet("edit", "web", env={"EDITOR": "true"}).out == "web is unchanged\n"


SMALLEST = {
    "define": ["-"],
    "create": ["-"],
    "import": ["--all", "--dry-run"],
    "explain": ["web"],
    "compat": ["status"],
    "console": ["web"],
    "events": ["--timeout", "0"],
    "attach": ["web", "-"],
    "detach": ["web", "net0"],
    "link": ["web", "net0", "down"],
    "uri": ["--no-start"],
    **{name: [] for name in ("ls", "port", "doctor", "version")},
}
STREAMS = ("console", "events", "edit", "reboot")


@pytest.mark.parametrize("name", [name for name in CATALOG if name not in STREAMS])
def test_every_command_prints_one_json_document(name: str, virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web"))
    if name in ("suspend", "resume", "reset", "destroy", "shutdown"):
        domain.start()
    if name in ("detach", "link"):
        domain.attach_device(NIC)
    ran = virlet(name, *SMALLEST.get(name, ["web"]), "--json", stdin=xml("other"))
    assert ran.code == 0, ran
    assert isinstance(ran.json, dict | list)
    assert ran.err == ""


@pytest.mark.parametrize("name", CATALOG)
def test_every_command_has_help_and_fails_without_a_traceback(name: str, virlet: Virlet, xml: Xml) -> None:
    assert virlet(name, "--help").code == 0
    nobody = {"VIRLET_URI": "qemu+unix:///session?socket=/nonexistent"}
    ran = virlet(name, *SMALLEST.get(name, ["web"]), stdin=xml("other"), env=nobody)
    assert ran.code == (0 if name in ("uri", "version") else 3), ran
    assert "Traceback" not in ran.err


def test_uuids_in_json_are_uuids(virlet: Virlet, server: Connection, xml: Xml) -> None:
    server.define(xml("web"))
    assert UUID(virlet("ls", "--all", "--json").json[0]["uuid"]).version == 5


NIC = "<interface type='user'><mac address='52:54:00:00:00:0a'/><alias name='net0'/></interface>"


def test_devices_come_go_and_lose_their_cable(virlet: Virlet, server: Connection, xml: Xml) -> None:
    domain = server.define(xml("web").replace("<devices/>", ""))
    assert virlet("attach", "web", "-", stdin=NIC).out == "attached a device to web\n"
    assert virlet("link", "web", "net0", "down").out == "link of net0 of web is down\n"
    assert '<link state="down"' in domain.xml()
    assert virlet("link", "web", "52:54:00:00:00:0A", "up").code == 0
    assert '<link state="up"' in domain.xml()
    missing = virlet("link", "web", "net7", "up")
    assert missing.code == 1
    assert "'web' has no interface 'net7'" in missing.err
    assert "52:54:00:00:00:0a net0" in missing.err
    assert virlet("detach", "web", "net0", "--config").out == "detached web\n"
    assert "interface" not in domain.xml()
    assert "it has no interface" in virlet("detach", "web", "net0").err
