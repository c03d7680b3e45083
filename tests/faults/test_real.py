"""The same with the real QEMU and passt: a few points, and a guest that does not notice a daemon's death."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
import test_points as points
from faultstand import Stand, free_ports

pytestmark = [pytest.mark.faults]

GUEST = Path(os.environ.get("VIRLET_GUEST_DIR", Path.home() / ".cache/virlet/guest"))
XML = """<domain type='qemu'><name>talker</name><memory unit='MiB'>128</memory>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{guest}/vmlinuz</kernel><initrd>{guest}/initramfs.img</initrd>
<cmdline>console=ttyS0 quiet panic=1</cmdline></os><features><acpi/></features>
<devices><interface type='user'><mac address='52:54:00:00:00:07'/><model type='virtio'/><backend type='passt'/>
<portForward proto='udp' address='127.0.0.1'><range start='{port}' to='7'/></portForward></interface>
<serial type='pty'/></devices></domain>"""


@pytest.fixture
def stand(real: Stand) -> Stand:
    return real


@pytest.mark.parametrize(
    "name",
    ["start.bound", "start.qemu", "start.identified", "start.ready", "start.owned"]
    + ["attach.netdev", "attach.helper", "attach.backed", "attach.plugged", "destroy.intended", "stop.helpers"],
)
def test_a_daemon_killed_there_leaves_every_real_guest_whole_or_gone(stand: Stand, name: str) -> None:
    points.whole(stand, points.killed(stand, name))


UNDERWAY = 32


class Talker:
    """Sends a numbered datagram every 5 ms and notes which ones the guest has echoed.

    No more than :data:`UNDERWAY` are on their way: while a busy machine leaves the guest no processor for a second,
    more would find no room in the queues on the way, and what finds none is lost by rights.
    """

    def __init__(self, port: int) -> None:
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._sock.connect(("127.0.0.1", port))
        self._sock.settimeout(0.005)
        self.sent = 0
        self.heard: set[int] = set()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._talk)

    def listen(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                self.heard.add(int(self._sock.recv(100)))
            except OSError:
                return

    def first(self) -> None:
        """Until the guest answers for the first time."""
        deadline = time.monotonic() + 100
        while not self.heard and time.monotonic() < deadline:
            try:
                self._sock.send(b"0")
            except OSError:
                continue
            self.listen(0.1)
        assert self.heard, "the guest does not answer"

    def _talk(self) -> None:
        while not self._over.is_set():
            if self.sent - len(self.heard - {0}) < UNDERWAY:
                self.sent += 1
                self._sock.send(b"%d" % self.sent)
            self.listen(0.005)

    def __enter__(self) -> Talker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self._sock.settimeout(1)
        deadline = time.monotonic() + 30
        while len(self.heard - {0}) < self.sent and time.monotonic() < deadline:
            self.listen(1)
        self._sock.close()


def test_adoption_costs_a_guest_no_packet(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    (port,) = free_ports(1)
    assert stand.begin()
    with stand.client() as connection:
        connection.define(XML.format(guest=GUEST, port=port)).start()
    talker = Talker(port)
    talker.first()
    with talker:
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            stand.end(how)
            assert stand.begin()
            with stand.client() as connection:
                assert connection.lookup_by_name("talker").is_active()
    with capsys.disabled():
        print(f"\nthree deaths of virletd: {talker.sent} datagrams sent, {len(talker.heard - {0})} echoed")
    assert talker.sent > 20
    assert len(talker.heard - {0}) == talker.sent
    with stand.client() as connection:
        stand.nothing(connection)
