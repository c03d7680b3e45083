"""What the author of the package runs: virlet's conformance kit.  Its own test in tests/testing installs it first."""

from __future__ import annotations

from virlet_quiet import Quiet

from virlet.net.choose import registry
from virlet.testing.backends import NetBackendKit
from virlet.testing.live import LiveBackendKit
from virlet.testing.session import LiveGuest

INTERFACE = """<interface type='user'>
  <mac address='52:54:00:12:34:56'/>
  <model type='virtio'/>
  <virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='quiet'/>
</interface>"""


class TestQuiet(NetBackendKit):
    backend = Quiet
    carries = (INTERFACE, INTERFACE.replace("virtio", "e1000"))
    refuses = (INTERFACE.replace("<virlet", "<portForward proto='tcp'><range start='2022'/></portForward><virlet"),)


def test_virlet_finds_it_by_its_entry_point() -> None:
    assert isinstance(registry().get("quiet"), Quiet)


class TestQuietLive(LiveBackendKit):
    interface = INTERFACE
    backend_name = "quiet"
    leases = "10.0.2.15"

    def look(self, guest: LiveGuest) -> None:
        """The gateway is silent: nobody is reached."""
        assert guest.console.run("nc -w 1 10.0.2.2 22 </dev/null")[0] != 0
