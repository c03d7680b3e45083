"""A guest does not notice that virletd dies and comes again, on any of its cards: one for each backend with a helper.

By the real programs, old and new: this belongs to the suites of end-to-end tests, not to that of the faults.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from faultstand import Stand, free_ports

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

GUEST = Path(os.environ.get("VIRLET_GUEST_DIR", Path.home() / ".cache/virlet/guest"))
XML = """<domain type='qemu'><name>talker</name><memory unit='MiB'>128</memory>
<os><type arch='x86_64' machine='q35'>hvm</type><kernel>{guest}/vmlinuz</kernel><initrd>{guest}/initramfs.img</initrd>
<cmdline>console=ttyS0 quiet panic=1</cmdline></os><features><acpi/></features>{extra}
<devices>{cards}<serial type='pty'/></devices></domain>"""
CARD = """<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><ip address='172.17.{n}.0' prefix='24'/>
<model type='virtio'/><portForward proto='udp' address='127.0.0.1'><range start='{port}' to='7'/></portForward>
<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='{backend}'/></interface>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
UNDERWAY = 32


def backends() -> list[str]:
    """Those of this host."""
    said = subprocess.run(["passt", "--help"], capture_output=True, text=True, timeout=30, check=False)
    newer = ["passt-vhost-user"] if "--vhost-user" in said.stdout + said.stderr else []
    return ["passt", "slirp-helper", *newer]


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


def test_adoption_costs_a_guest_no_packet(real: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    stand, names = real, backends()
    ports = free_ports(len(names))
    cards = [
        CARD.format(n=n, port=port, backend=name) for n, (port, name) in enumerate(zip(ports, names, strict=True), 1)
    ]
    extra = SHARED if "passt-vhost-user" in names else ""
    assert stand.begin()
    with stand.client() as connection:
        connection.define(XML.format(guest=GUEST, extra=extra, cards="".join(cards))).start()
    talkers = [Talker(port) for port in ports]
    for talker in talkers:
        talker.first()
    with ExitStack() as talking:
        for talker in talkers:
            talking.enter_context(talker)
        for how in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
            stand.end(how)
            assert stand.begin()
            with stand.client() as connection:
                assert connection.lookup_by_name("talker").is_active()
            heard = [len(talker.heard) + 10 for talker in talkers]
            stand.until(
                lambda heard=heard: all(len(each.heard) > more for each, more in zip(talkers, heard, strict=True)),
                "the guest goes on answering on each card",
            )
    with capsys.disabled():
        for name, talker in zip(names, talkers, strict=True):
            echoed = len(talker.heard - {0})
            print(f"\nthree deaths of virletd, {name}: {talker.sent} datagrams sent, {echoed} echoed", end="")
        print()
    for talker in talkers:
        assert len(talker.heard - {0}) == talker.sent
    with stand.client() as connection:
        stand.nothing(connection)
