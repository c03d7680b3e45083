"""A helper process with a test at the other end of its socket, and frames by hand."""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address

import pytest

GUEST_MAC = bytes.fromhex("525400123456")
GUEST, GATEWAY = IPv4Address("10.0.2.15"), IPv4Address("10.0.2.2")
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


def checksum(data: bytes) -> int:
    """RFC 1071."""
    data += b"\0" * (len(data) % 2)
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Wire:
    """The guest's end: frames out, frames in, and the helper's process."""

    def __init__(self, *options: str) -> None:
        self.sock, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.life, held = socket.socketpair()
        ready, told = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "virlet.slirp", "--fd", str(theirs.fileno()), "--exit-with-fd", str(held.fileno()),
             "--ready-fd", str(told), *options],
            pass_fds=[theirs.fileno(), held.fileno(), told],
            stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        for end in (theirs, held):
            end.close()
        os.close(told)
        with open(ready, "rb") as stream:
            self.ready = stream.readline() == b"READY=1\n"
        self.gateway_mac = b"\xff" * 6
        self.sock.settimeout(10)

    def close(self) -> None:
        self.sock.close()
        self.life.close()
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(10)
        assert self.process.stderr is not None
        self.process.stderr.close()

    def send(self, kind: int, payload: bytes) -> None:
        self.sock.send(self.gateway_mac + GUEST_MAC + kind.to_bytes(2, "big") + payload)

    def receive(self, wanted: Callable[[bytes], bool], timeout: float = 10) -> bytes:
        """The first frame that *wanted* likes; ARP questions for the guest are answered meanwhile."""
        deadline = time.monotonic() + timeout
        while select.select([self.sock], [], [], max(0, deadline - time.monotonic()))[0]:
            frame = self.sock.recv(1 << 17)
            if wanted(frame):
                return frame
            if frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\1" and frame[38:42] == GUEST.packed:
                self.gateway_mac = frame[6:12]
                self.arp(2, frame[22:28], frame[28:32])
        raise AssertionError(f"no such frame came; the helper: {self.process.poll()}")

    def arp(self, operation: int, mac: bytes, address: bytes, source: bytes = GUEST.packed) -> None:
        self.send(0x0806, struct.pack("!HHBBH", 1, 0x0800, 6, 4, operation) + GUEST_MAC + source + mac + address)

    def resolve(self) -> bytes:
        """The gateway's MAC address, by ARP."""
        self.arp(1, bytes(6), GATEWAY.packed)
        frame = self.receive(lambda frame: frame[12:14] == b"\x08\x06" and frame[20:22] == b"\0\2")
        self.gateway_mac = frame[22:28]
        return self.gateway_mac

    def ip(self, proto: int, payload: bytes, to: IPv4Address = GATEWAY, source: IPv4Address = GUEST) -> None:
        header = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(payload), 1, 0, 64, proto, 0, source.packed, to.packed)
        self.send(0x0800, header[:10] + checksum(header).to_bytes(2, "big") + header[12:] + payload)

    def udp(self, sport: int, dport: int, data: bytes, to: IPv4Address, source: IPv4Address = GUEST) -> None:
        self.ip(17, struct.pack("!HHHH", sport, dport, 8 + len(data), 0) + data, to, source)

    def tcp(
        self, sport: int, dport: int, seq: int, ack: int, flags: int, data: bytes = b"", *, there: IPv4Address = GATEWAY
    ) -> None:
        header = struct.pack("!HHIIBBHHH", sport, dport, seq, ack, 5 << 4, flags, 65535, 0, 0)
        pseudo = GUEST.packed + there.packed + struct.pack("!BBH", 0, 6, len(header) + len(data))
        total = checksum(pseudo + header + data)
        self.ip(6, header[:16] + total.to_bytes(2, "big") + header[18:] + data, there)

    def receive_tcp(self, port: int, flags: int) -> tuple[int, int, int, bytes]:
        """(source port, sequence number, acknowledged, data) of the next segment to *port* that has *flags*."""

        def wanted(frame: bytes) -> bool:
            return (
                frame[12:14] == b"\x08\x00"
                and frame[23] == 6
                and frame[36:38] == port.to_bytes(2, "big")
                and frame[47] & flags == flags
            )

        frame = self.receive(wanted)
        length = int.from_bytes(frame[16:18], "big")
        sport, _, seq, ack, offset = struct.unpack("!HHIIB", frame[34:47])
        return sport, seq, ack, frame[34 + (offset >> 4) * 4 : 14 + length]


WireOf = Callable[..., Wire]


@pytest.fixture
def wire() -> Iterator[WireOf]:
    """Start a helper with these options; ended after the test."""
    made: list[Wire] = []

    def start(*options: str) -> Wire:
        made.append(Wire(*options))
        return made[-1]

    yield start
    for each in made:
        each.close()
