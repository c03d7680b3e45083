"""Bad input: one clear error with libvirt's code, and nothing half done, through real virsh."""

from __future__ import annotations

import os
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from domains import domain, free_ports, passt_nic
from session import Session, session

T = TypeVar("T")
pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


@pytest.fixture(autouse=True)
def _nothing_is_left(one: Session) -> Iterator[None]:
    """Whatever a test did wrong, the daemon lives and has neither process, file nor descriptor more than before."""
    assert one.process is not None
    pid = one.process.pid
    one.virsh("list")
    before = set(one.processes()), one.runtime_files(), descriptors(pid)
    yield
    one.virsh("list")
    processes, files, open_before = before
    assert settled(lambda: (set(one.processes()), one.runtime_files()), (processes, files)) == (processes, files)
    assert settled(lambda: descriptors(pid) <= open_before, True), (descriptors(pid), open_before)
    assert one.process.poll() is None


def settled(look: Callable[[], T], wanted: T, seconds: float = 30) -> T:
    """What *look* sees once it is *wanted*, or at last: the daemon hears of a client's end after the client ended."""
    deadline = time.monotonic() + seconds
    while (seen := look()) != wanted and time.monotonic() < deadline:
        time.sleep(0.01)
    return seen


def descriptors(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


def define_error(one: Session, xml: str) -> str:
    path = one.base / "bad.xml"
    path.write_bytes(xml.encode("utf-8", "surrogateescape"))
    return one.virsh("define", str(path), check=False)


def start_error(one: Session, name: str, xml: str) -> str:
    one.define(xml)
    try:
        text = one.virsh("start", name, check=False)
        assert one.virsh("domstate", name) == "shut off"
        return text
    finally:
        one.virsh("undefine", name)


HOSTILE = {
    "a DTD": "<!DOCTYPE domain [<!ELEMENT domain ANY>]><domain type='qemu'><name>x</name></domain>",
    "an external entity": "<!DOCTYPE d [<!ENTITY x SYSTEM 'file:///etc/passwd'>]><domain><name>&x;</name></domain>",
    "a billion laughs": "<!DOCTYPE d [<!ENTITY a 'ha'><!ENTITY b '&a;&a;&a;&a;'>]><domain><name>&b;</name></domain>",
    "10 000 nested elements": "<domain>" + "<a>" * 10_000 + "</a>" * 10_000 + "</domain>",
    "a control character": "<domain type='qemu'><name>x\x01</name></domain>",
    "no end": "<domain type='qemu'><name>x</name>",
    "two roots": "<domain/><domain/>",
    "nothing": " ",
}


@pytest.mark.parametrize("what", HOSTILE)
def test_xml_that_is_not_well_formed_or_hostile_is_one_error_with_its_line(one: Session, what: str) -> None:
    text = define_error(one, HOSTILE[what])
    assert "error:" in text
    assert re.search(r"line \d+", text), text


def test_an_xml_beyond_every_limit_is_refused_by_client_or_daemon(one: Session) -> None:
    path = one.base / "huge.xml"
    with open(path, "w") as out:
        out.write("<domain type='qemu'><name>x</name><description>")
        for _ in range(100):
            out.write("a" * 1_000_000)
        out.write("</description></domain>")
    assert "error:" in one.virsh("define", str(path), check=False)
    path.unlink()


WRONG = {
    "<vcpu>-1</vcpu>": ("vcpu", "<vcpu>1</vcpu>"),
    "<memory unit='MiB'>-5</memory>": ("memory", "<memory unit='MiB'>192</memory>"),
    "<memory unit='parsec'>5</memory>": ("memory", "<memory unit='MiB'>192</memory>"),
    "<vcpu>99999999999999999999</vcpu>": ("vcpu", "<vcpu>1</vcpu>"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_value_names_its_element(one: Session, wrong: str) -> None:
    word, right = WRONG[wrong]
    text = define_error(one, domain("wrong").replace(right, wrong))
    assert "error:" in text
    assert word in text


@pytest.mark.parametrize("mac", ["52:54:00:a8:33", "zz:54:00:a8:33:fc", "01:54:00:a8:33:fc", ""])
def test_a_wrong_mac_is_refused_with_its_line(one: Session, mac: str) -> None:
    text = define_error(one, domain("mac", f"<interface type='user'><mac address='{mac}'/></interface>"))
    assert "mac" in text.lower()
    assert re.search(r"line \d+", text), text


def test_a_name_or_uuid_that_is_taken_is_refused(one: Session) -> None:
    first = "<uuid>11111111-1111-4111-8111-111111111111</uuid>"
    second = "<uuid>22222222-1111-4111-8111-111111111111</uuid>"
    one.define(domain("taken", extra=first))
    assert "already exists with uuid 11111111" in define_error(one, domain("taken", extra=second))
    assert "is already defined with uuid 11111111" in define_error(one, domain("other", extra=first))
    one.virsh("undefine", "taken")


def test_a_missing_kernel_is_named_with_its_line(one: Session) -> None:
    text = start_error(one, "nokernel", domain("nokernel", kernel=Path("/nowhere/vmlinuz")))
    assert "/nowhere/vmlinuz" in text
    assert "No such file or directory" in text
    assert re.search(r"line \d+, column \d+: os/kernel", text), text


def test_a_program_that_is_no_emulator_is_named_with_its_line(one: Session) -> None:
    path = one.base / "true.xml"
    path.write_text(domain("noqemu", "<emulator>/bin/true</emulator>"))
    said = one.virsh("define", str(path), check=False)
    assert "/bin/true cannot be asked what it can do" in said
    assert re.search(r"line \d+, column \d+: devices/emulator", said)
    assert "hint: name a QEMU system emulator" in said


def test_a_missing_emulator_is_named(one: Session) -> None:
    emulator = "<emulator>/nowhere/qemu</emulator>"
    path = one.base / "emulator.xml"
    path.write_text(domain("noqemu", emulator))
    text = one.virsh("define", str(path), check=False)
    if "error:" not in text:
        text = one.virsh("start", "noqemu", check=False)
        one.virsh("undefine", "noqemu")
    assert "/nowhere/qemu" in text


def test_an_interface_that_does_not_exist_is_named(one: Session) -> None:
    nic = "<interface type='user'><model type='virtio'/><backend type='passt'/><source dev='nope0'/></interface>"
    text = start_error(one, "nodev", domain("nodev", nic))
    assert "nope0" in text
    assert re.search(r"line \d+, column \d+: devices/interface", text), text


@pytest.mark.parametrize("words", [("--log-size", "abc"), ("--no-such-option",)], ids=["value", "option"])
def test_what_passt_refuses_is_told_in_its_words_before_the_guest_runs_and_before_a_card_is_in(
    one: Session, words: tuple[str, ...]
) -> None:
    told = "<virlet:passt xmlns:virlet='https://virlet.dev/schemas/domain/1'>{}</virlet:passt>".format(
        "".join(f"<virlet:param value='{word}'/>" for word in words)
    )
    nic = f"<interface type='user'><model type='virtio'/><backend type='passt'/>{told}</interface>"
    text = start_error(one, "refused", domain("refused", nic))
    assert words[0].strip("-") in text
    assert "passt" in text
    one.define(domain("whole"))
    one.virsh("start", "whole", "--paused")
    path = one.base / "card.xml"
    path.write_text(nic)
    assert words[0].strip("-") in one.virsh("attach-device", "whole", str(path), "--live", check=False)
    assert "<interface" not in one.virsh("dumpxml", "whole")
    one.virsh("destroy", "whole")
    one.virsh("undefine", "whole")


def test_all_ports_of_an_address_are_forwarded_or_the_limit_is_named(one: Session) -> None:
    nic = (
        "<interface type='user'><model type='virtio'/><backend type='passt'/>"
        "<portForward proto='tcp' address='127.0.0.1'/></interface>"
    )
    one.define(domain("all", nic))
    text = one.virsh("start", "all", check=False)
    if "error" in text:
        assert "raise the hard limit of open files" in text
        assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] < 100_000
    else:
        one.virsh("destroy", "all")
    one.virsh("undefine", "all")


@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_a_port_that_is_taken_is_named_with_its_address_and_its_owner(one: Session, place: str) -> None:
    ports = free_ports(26000)
    port = {"first": ports.ssh, "middle": ports.first + 50, "last": ports.first + 99}[place]
    with socket.create_server(("127.0.0.1", port)):
        text = start_error(one, "taken", domain("taken", passt_nic(ports, one.base / "p.log")))
    assert f"TCP port {port} on 127.0.0.1 is taken by" in text
    assert f"(pid {os.getpid()})" in text
    assert re.search(r"line \d+", text), text


@pytest.mark.parametrize("backend", ["slirp", "slirp-helper"])
def test_a_port_that_is_taken_is_named_whoever_would_listen(one: Session, backend: str) -> None:
    ports = free_ports(26000)
    forced = f"<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='{backend}'/>"
    ranges = f"<range start='{ports.first}' end='{ports.first + 9}' to='1000'/>"
    nic = f"<interface type='user'><portForward proto='tcp'>{ranges}</portForward>{forced}</interface>"
    with socket.create_server(("127.0.0.1", ports.first + 5)):
        text = start_error(one, "taken", domain("taken", nic))
    assert re.search(rf"TCP port {ports.first + 5}( on 0.0.0.0)? is taken by .*\(pid {os.getpid()}\)", text), text
    assert re.search(r"line \d+", text), text


def test_ports_of_another_guest_are_named_with_that_guest(one: Session) -> None:
    ports = free_ports(26000)
    one.define(domain("owner", passt_nic(ports, one.base / "p.log")))
    one.virsh("start", "owner")
    try:
        text = start_error(one, "second", domain("second", passt_nic(ports, one.base / "q.log")))
    finally:
        one.virsh("destroy", "owner")
        one.virsh("undefine", "owner")
    assert f"TCP port {ports.ssh} on 127.0.0.1 is taken by guest 'owner'" in text
    assert f"TCP ports {ports.first} to {ports.first + 9} on 127.0.0.1 are taken by guest 'owner'" in text


def test_an_address_that_no_guest_can_have_is_refused_with_its_line(one: Session) -> None:
    nic = "<interface type='user'><backend type='passt'/><ip address='127.0.0.1'/></interface>"
    text = define_error(one, domain("nobody", nic))
    assert "'127.0.0.1' is every host's own loopback" in text
    assert re.search(r"line \d+", text), text


def test_the_port_of_a_socket_between_guests_is_looked_at_first(one: Session) -> None:
    with socket.create_server(("127.0.0.1", 0)) as stranger:
        port = stranger.getsockname()[1]
        nic = f"<interface type='server'><source address='127.0.0.1' port='{port}'/></interface>"
        text = start_error(one, "server", domain("server", nic))
    assert f"TCP port {port} on 127.0.0.1 is taken by" in text
    assert re.search(r"line \d+", text), text
    text = start_error(one, "server", domain("server", nic.replace("127.0.0.1", "192.0.2.77")))
    assert "this host has no such address" in text


def test_all_ports_of_an_address_that_the_host_lacks_are_refused_with_their_line(one: Session) -> None:
    nic = "<interface type='user'><backend type='passt'/><portForward proto='tcp' address='192.0.2.77'/></interface>"
    text = start_error(one, "lacks", domain("lacks", nic))
    assert "a TCP port on 192.0.2.77 cannot be bound: this host has no such address" in text
    assert re.search(r"line \d+", text), text


def test_a_udp_port_that_is_taken_is_named(one: Session) -> None:
    ports = free_ports(26000)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stranger:
        stranger.bind(("0.0.0.0", ports.udp))
        text = start_error(one, "udp", domain("udp", passt_nic(ports, one.base / "p.log")))
    assert f"UDP port {ports.udp} is taken by" in text


def test_kvm_where_it_does_not_work_is_refused_with_a_way_out(one: Session) -> None:
    facts = one.virlet_json("doctor")
    text = str(facts).lower()
    assert "kvm" in text
    xml = domain("fast").replace("type='qemu'", "type='kvm'", 1)
    if "'kvm': {'ok': true" in text or "'ok': true, 'name': 'kvm'" in text:
        return
    message = define_error(one, xml)
    if "error:" not in message:
        message = one.virsh("start", "fast", check=False)
        one.virsh("undefine", "fast")
    assert "kvm" in message.lower()
    assert "type='qemu'" in message


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("<serial type='file'><source path='/nowhere/out'/></serial>", "'/nowhere/out': No such file or directory"),
        ("<serial type='file'><source path='/tmp'/></serial>", "'/tmp': Is a directory"),
        ("<serial type='file'><source path='/proc/1/out'/></serial>", "'/proc/1/out'"),
        ("<serial type='pty'><log file='/nowhere/log'/></serial>", "log file '/nowhere/log': No such file"),
        ("<serial type='unix'><source mode='bind' path='/nowhere/s'/></serial>", "'/nowhere/s': No such file"),
        ("<serial type='unix'><source mode='bind' path='/etc/passwd'/></serial>", "'/etc/passwd': File exists"),
        (f"<serial type='unix'><source mode='bind' path='/tmp/{'x' * 104}'/></serial>", "File name too long"),
        ("<graphics type='vnc'><listen type='socket' socket='/nowhere/vnc'/></graphics>", "'/nowhere/vnc': No such"),
        ("<interface type='user'><backend type='passt' logFile='/nowhere/p'/></interface>", "'/nowhere/p': No such"),
        (
            "<interface type='user'><virlet:passt xmlns:virlet='https://virlet.dev/schemas/domain/1'"
            " pcap-file='/nowhere/pcap'/></interface>",
            "capture '/nowhere/pcap': No such",
        ),
    ],
)
def test_what_is_to_be_written_where_nothing_can_be_is_refused_with_its_line(
    one: Session, device: str, said: str
) -> None:
    text = start_error(one, "nowhere", domain("nowhere", device))
    assert said in text
    assert re.search(r"line \d+", text), text
    assert "hint" in text or "Is a directory" in text


def test_a_file_in_the_place_of_a_socket_is_left_alone(one: Session) -> None:
    precious = one.base / "precious"
    precious.write_text("mine")
    text = start_error(
        one, "file", domain("file", f"<serial type='unix'><source mode='bind' path='{precious}'/></serial>")
    )
    assert "it is no socket, and is not replaced by one" in text
    assert precious.read_text() == "mine"


def test_a_word_that_would_lead_qemu_away_from_its_daemon_is_refused_with_its_line(one: Session) -> None:
    own = "<qemu:commandline><qemu:arg value='-daemonize'/></qemu:commandline>"
    xml = domain("away", extra=own).replace(
        "<domain", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'", 1
    )
    text = start_error(one, "away", xml)
    assert "cannot be given '-daemonize'" in text
    assert re.search(r"line \d+, column \d+: qemu:commandline/qemu:arg", text), text


def test_unknown_things_are_not_found_by_libvirts_code(one: Session) -> None:
    assert "failed to get domain 'nobody'" in one.virsh("start", "nobody", check=False)
