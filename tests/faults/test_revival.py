"""``kill -9`` of virletd while a helper that was given up comes back: the guest's link does not stay down."""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress

import pytest
from faultstand import DOMAIN, PASST, SLIRP, Stand, free_ports

from virlet.client.sync import Connection, Domain
from virlet.enums import Affect
from virlet.errors import VirletError

pytestmark = [pytest.mark.faults]

VHOST = """<interface type='vhostuser'><mac address='52:54:00:00:00:{n:02x}'/><backend type='passt'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
KINDS = {"passt": PASST, "slirp": SLIRP, "vhost-user": VHOST}
POINTS = ["helper.dialled", "helper.running", "helper.written", "helper.proceeding"]


class Scene:
    """A guest whose helper was given up, and is dead."""

    def __init__(self, stand: Stand, kind: str) -> None:
        self.stand = stand
        self.nic = KINDS[kind].format(n=1, port=free_ports(1)[0])
        assert stand.begin()
        with stand.client() as connection:
            extra = SHARED if kind == "vhost-user" else ""
            connection.define(DOMAIN.format(name="one", uuid="", extra=extra, devices=self.nic)).start()
        stand.end()
        os.kill(self._give_up(), signal.SIGKILL)

    def _give_up(self) -> int:
        """As the last virletd would have written down at its end; the helper's pid."""
        (path,) = self.stand.base.glob("s/virlet/*/*/*.json")
        record = json.loads(path.read_bytes())
        (helper,) = record["helpers"]
        helper["gave_up"] = True
        path.write_text(json.dumps(record))
        return int(helper["identity"]["pid"])

    def ask(self, connection: Connection) -> Domain:
        """As ``virlet link one net0 up`` does."""
        domain = connection.lookup_by_name("one")
        domain.update_device(self.nic, Affect.LIVE)
        return domain


@pytest.mark.parametrize(
    ("kind", "at"), [(kind, at) for kind in KINDS for at in POINTS if kind != "vhost-user" or at == POINTS[-1]]
)
def test_a_daemon_killed_there_is_followed_by_one_with_whom_it_comes_back(stand: Stand, kind: str, at: str) -> None:
    scene = Scene(stand, kind)
    assert stand.begin(at)
    with stand.client() as connection, suppress(VirletError):
        domain = scene.ask(connection)
        while True:
            domain.state()  # Until the daemon has been killed.
    assert stand.died() == -signal.SIGKILL
    assert stand.begin(), stand.log()
    with stand.client() as connection:
        stand.consistent(connection)
        stand.nothing(connection)
