"""Interfaces of a running guest, by real virsh: they come, carry traffic, lose and find their link, and go."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import default_interface, domain, free_ports
from guest import Console
from session import Session, alive, console_of, gone, session, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180), pytest.mark.usefixtures("leaks_allowed")]

FIRST, MAC = "52:54:00:aa:00:01", "52:54:00:aa:00:02"
UNPLUG_WAIT = 5.0


class Guest:
    """A guest with one interface, and room for one more."""

    def __init__(self, one: Session, machine: str) -> None:
        self.session, self.machine = one, machine
        self.port = free_ports().ssh
        self.card = one.base / "card.xml"
        self.card.write_text(
            f"""<interface type='user'><mac address='{MAC}'/><model type='virtio'/>
            <backend type='passt'/><source dev='{default_interface()}'/><ip address='192.168.77.5' prefix='24'/>
            <portForward proto='tcp' address='127.0.0.1'><range start='{self.port}' to='22'/></portForward>
            </interface>"""
        )
        nic = f"<interface type='user'><mac address='{FIRST}'/><model type='virtio'/></interface>"
        one.define(domain("hot", nic, machine=machine))
        one.virsh("start", "hot")
        self.console: Console = console_of(one, "hot")
        self.console.ready(90)

    def virsh(self, *words: str, check: bool = True) -> str:
        return self.session.virsh(*words, check=check)

    def macs(self, *flags: str) -> str:
        return self.virsh("domiflist", "hot", *flags)

    def attach(self) -> None:
        self.virsh("attach-device", "hot", str(self.card), "--live")

    def name(self) -> str:
        """The guest's name of the card that was attached."""
        return self.console.check(f"cd /sys/class/net; grep -l {MAC} */address | cut -d/ -f1").strip()

    def online(self) -> str:
        """Bring the new card up in the guest; returns its name there."""
        self.console.check(f"until grep -q {MAC} /sys/class/net/*/address; do usleep 50000; done", 20)
        name = self.name()
        self.console.check(f"net-up {name}", 30)
        return name

    def sees_carrier(self, name: str, wanted: int) -> None:
        """The guest's driver hears of it by an interrupt, which is later than QEMU's answer."""
        self.console.check(f"until [ $(cat /sys/class/net/{name}/carrier) = {wanted} ]; do usleep 20000; done", 30)

    def gave_back(self, *passts: int) -> None:
        """Nothing of the attached card is left but those *passts*."""
        until(lambda: MAC not in self.macs(), self.macs)
        until(lambda: self.passts() == list(passts), lambda: str(self.passts()))
        until(lambda: len(self.sockets()) == 1, lambda: str(self.sockets()))

    def answers(self, timeout: float = 40) -> str:
        deadline = time.monotonic() + timeout
        while True:
            try:
                with socket.create_connection(("127.0.0.1", self.port), 5) as stream:
                    stream.settimeout(5)
                    stream.sendall(b"\n")
                    if line := stream.makefile().readline().strip():
                        return line
            except OSError:
                if time.monotonic() > deadline:
                    raise
            assert time.monotonic() < deadline, "nobody answers on the forwarded port"

    def passts(self) -> list[int]:
        return self.session.helpers("passt")

    def sockets(self) -> list[str]:
        return [name for name in self.session.runtime_files() if name.endswith(".net")]


@pytest.fixture(scope="module", params=["q35", "pc"])
def guest(request: pytest.FixtureRequest) -> Iterator[Guest]:
    with session() as one:
        one.start_daemon()
        yield Guest(one, request.param)


def test_an_attached_card_gets_its_lease_and_its_forward_answers(guest: Guest) -> None:
    with guest.session.events() as events:
        guest.attach()
        events.wait_for("device-added", "net1")
    assert MAC in guest.macs()
    assert MAC not in guest.macs("--inactive")
    name = guest.online()
    assert "192.168.77.5" in guest.console.check(f"ip -4 addr show {name}")
    assert guest.answers() == "SSH-2.0-virlet-guest"


def test_the_link_goes_down_and_up_as_the_guest_sees_it(guest: Guest) -> None:
    name = guest.name()
    guest.virsh("domif-setlink", "hot", MAC, "down")
    assert guest.virsh("domif-getlink", "hot", MAC).endswith("down")
    guest.sees_carrier(name, 0)
    guest.virsh("domif-setlink", "hot", MAC, "up")
    guest.sees_carrier(name, 1)
    assert guest.virsh("domif-getlink", "hot", MAC).endswith("up")
    assert guest.answers()


def test_a_killed_passt_of_an_attached_card_is_replaced(guest: Guest) -> None:
    pid = newest(guest.passts())
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    assert guest.answers()


def test_an_attached_card_outlives_the_daemon(guest: Guest) -> None:
    one = guest.session
    one.stop_daemon(signal.SIGKILL)
    assert guest.answers()
    pid = newest(guest.passts())
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])
    one.start_daemon()
    assert MAC in guest.macs()
    assert guest.answers()


def test_what_cannot_change_is_refused_and_stays(guest: Guest) -> None:
    other = guest.session.base / "other.xml"
    other.write_text(guest.card.read_text().replace("192.168.77.5", "192.168.77.6"))
    said = guest.virsh("update-device", "hot", str(other), "--live", check=False)
    assert "cannot modify network device ip settings" in said
    assert "192.168.77.5" in guest.virsh("dumpxml", "hot")


def test_a_paused_guest_keeps_its_card_until_it_runs_again(guest: Guest) -> None:
    first = oldest(guest.passts())
    guest.virsh("suspend", "hot")
    begun = time.monotonic()
    guest.virsh("detach-interface", "hot", "user", "--mac", MAC, "--live")
    assert time.monotonic() - begun >= UNPLUG_WAIT
    assert MAC in guest.macs()
    with guest.session.events() as events:
        guest.virsh("resume", "hot")
        events.wait_for("device-removed", "net1")
    guest.gave_back(first)
    (left,) = guest.sockets()
    assert Path(left).name == "net0.net"
    assert guest.console.run(f"grep -q {MAC} /sys/class/net/*/address")[0] != 0


def test_a_guest_that_answers_gives_the_card_back_at_once_and_nothing_stays(guest: Guest) -> None:
    for _ in range(3):
        before = guest.passts()
        guest.attach()
        guest.online()
        with guest.session.events() as events:
            guest.virsh("detach-device", "hot", str(guest.card), "--live")
            events.wait_for("device-removed", "net1")  # A busy machine's guest may need longer than the call waits.
        guest.gave_back(*before)
        with pytest.raises(ConnectionRefusedError), socket.create_connection(("127.0.0.1", guest.port), 2):
            pass


def test_the_slirp_helper_comes_is_replaced_and_goes(guest: Guest) -> None:
    card = guest.session.base / "slirp.xml"
    card.write_text(
        f"""<interface type='user'><mac address='{MAC}'/><model type='virtio'/>
        <portForward proto='tcp' address='127.0.0.1'><range start='{guest.port}' to='22'/></portForward>
        <virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/></interface>"""
    )
    guest.virsh("attach-device", "hot", str(card), "--live")
    guest.online()
    assert guest.answers() == "SSH-2.0-virlet-guest"
    for _ in range(2):
        pid = guest.session.helper("virlet-slirp")
        os.kill(pid, signal.SIGKILL)
        assert gone([pid])
        assert guest.answers()
    guest.virsh("detach-device", "hot", str(card), "--live")
    until(lambda: MAC not in guest.macs(), guest.macs)
    until(lambda: guest.session.helpers("virlet-slirp") == [], "the helper ends")


def test_what_qemu_refuses_is_undone_and_told(guest: Guest) -> None:
    bad = guest.session.base / "bad.xml"
    text = guest.card.read_text()
    # A bus that cannot be hotplugged into, or a card that QEMU's device refuses.
    where = "<rom bar='on' file='/nonexistent/rom'/>"
    bad.write_text(text.replace("</interface>", where + "</interface>"))
    before = guest.passts()
    said = guest.virsh("attach-device", "hot", str(bad), "--live", check=False)
    assert "unable to execute QEMU command 'device_add'" in said, said
    guest.gave_back(*before)


def test_a_second_card_finds_no_port_on_q35_and_a_slot_on_pc(guest: Guest) -> None:
    guest.attach()
    second = guest.session.base / "second.xml"
    second.write_text("<interface type='user'><mac address='52:54:00:aa:00:03'/><model type='virtio'/></interface>")
    said = guest.virsh("attach-device", "hot", str(second), "--live", check=False)
    if guest.machine == "q35":
        assert "No more available PCI slots" in said
    else:
        assert "52:54:00:aa:00:03" in guest.macs()


def test_attach_interface_and_the_definition(guest: Guest) -> None:
    mac = "52:54:00:aa:00:04"
    with guest.session.events() as events:
        guest.virsh("attach-device", "hot", str(guest.card), "--config")
        events.wait_for("Defined", "Updated")
    assert MAC in guest.macs("--inactive")
    live = guest.virsh("domif-getlink", "hot", FIRST)
    for state in ("down", "up"):
        guest.virsh("domif-setlink", "hot", FIRST, state, "--config")
        assert guest.virsh("domif-getlink", "hot", FIRST, "--config").endswith(state)
        assert guest.virsh("domif-getlink", "hot", FIRST) == live, "the running guest's cable is its own"
    guest.virsh("detach-device", "hot", str(guest.card), "--config")
    assert MAC not in guest.macs("--inactive")
    said = guest.virsh("detach-interface", "hot", "user", "--mac", mac, "--config", check=False)
    assert mac in said


def test_destroy_leaves_nothing_of_what_was_attached(guest: Guest) -> None:
    pids = [*guest.passts(), *guest.session.helpers("qemu")]
    assert len(pids) >= 3
    guest.virsh("destroy", "hot")
    assert gone(pids)
    until(lambda: guest.session.runtime_files() == [], lambda: str(guest.session.runtime_files()))
    assert not [pid for pid in pids if alive(pid)]


def newest(pids: list[int]) -> int:
    """The process that was started last."""
    return max(pids, key=born)


def oldest(pids: list[int]) -> int:
    """The process that was started first."""
    return min(pids, key=born)


def born(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])
