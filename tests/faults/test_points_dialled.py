"""``kill -9`` of virletd while a helper that QEMU dials (vhost-user) comes, goes, or is replaced."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest
from faultstand import DOMAIN, Stand, free_ports

from virlet.client.sync import Connection, Domain
from virlet.enums import Affect
from virlet.errors import VirletError

pytestmark = [pytest.mark.faults]

NIC = """<interface type='vhostuser'><mac address='52:54:00:00:00:{n:02x}'/><backend type='passt'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


class Scene:
    """A guest with one such card, and another card for it."""

    def __init__(self, stand: Stand) -> None:
        self.stand = stand
        self.first, self.second = free_ports(2)
        self.card = NIC.format(n=2, port=self.second)
        nic = NIC.format(n=1, port=self.first)
        self.xml = DOMAIN.format(name="one", uuid="", extra=SHARED, devices=nic)

    def attach(self, domain: Domain) -> None:
        domain.attach_device(self.card, Affect.LIVE)

    def detach(self, domain: Domain) -> None:
        domain.detach_device(self.card, Affect.LIVE)

    def lose(self, domain: Domain) -> None:
        self.stand.kill("/passt")
        while True:
            domain.state()  # Until the daemon has been killed.


def one(connection: Connection) -> Domain:
    return connection.lookup_by_name("one")


def whole(stand: Stand, scene: Scene) -> None:
    """The next daemon has a guest that is whole, or none; and nothing stays."""
    assert stand.begin(), stand.log()
    with stand.client() as connection:
        (domain,) = connection.domains()
        stand.note_left([domain])
        if domain.is_active():
            stand.until(lambda: stand.answers(scene.first), "the guest's network is not back")
            stand.kill("/passt")
            stand.until(lambda: stand.running("/passt") and stand.answers(scene.first), "it is not replaced")
            assert "is taken by" not in stand.log(), "a helper ran that the daemon did not know of"
            domain.destroy()
        (domain,) = stand.consistent(connection)
        domain.start()
        domain.attach_device(scene.card, Affect.LIVE)
        stand.until(lambda: stand.answers(scene.second), "a card that is attached has no network")
        stand.nothing(connection)


@pytest.mark.parametrize("name", ["start.bound", "start.qemu", "start.identified", "start.ready", "start.written"])
def test_a_start(stand: Stand, name: str) -> None:
    scene = Scene(stand)
    stand.note_point(name, "vhost-user")
    assert stand.begin(name)
    with stand.client() as connection, suppress(VirletError):
        connection.define(scene.xml).start()
    assert stand.died() == -signal.SIGKILL
    whole(stand, scene)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("attach.netdev", "attach"),
        ("attach.backed", "attach"),
        ("attach.plugged", "attach"),
        ("detach.asked", "detach"),
        ("helper.dialled", "lose"),
        ("helper.running", "lose"),
        ("helper.written", "lose"),
    ],
)
def test_what_happens_to_a_running_guest(stand: Stand, name: str, what: str) -> None:
    scene = Scene(stand)
    assert stand.begin()
    with stand.client() as connection:
        domain = connection.define(scene.xml)
        domain.start()
        if what == "detach":
            scene.attach(domain)
    stand.end()
    stand.note_point(name, "vhost-user")
    assert stand.begin(name)
    with stand.client() as connection, suppress(VirletError):
        getattr(scene, what)(one(connection))
    assert stand.died() == -signal.SIGKILL
    whole(stand, scene)
