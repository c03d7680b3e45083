"""The host's end of the test guest's control channel, at whose other end the test itself sits."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from virlet.testing.guest import Console, GuestSilent


@pytest.fixture
def line() -> Iterator[tuple[Console, socket.socket]]:
    ours, guests = socket.socketpair()
    with ours, guests:
        yield Console(ours), guests


def test_a_second_answer_of_one_boot_is_not_taken_for_the_next_boot(line: tuple[Console, socket.socket]) -> None:
    """A guest that becomes ready while it is asked says so twice."""
    console, guest = line
    guest.sendall(b"VIRLET-LEASE if=eth0 ip=10.0.2.15\r\nVIRLET-READY first\r\nVIRLET-READY first\r\n")
    console.ready(10)
    assert console.lease.ip == "10.0.2.15"
    with pytest.raises(GuestSilent):
        console.again(0.1)
    guest.sendall(b"VIRLET-READY second\r\n")
    console.again(10)


def test_a_guest_that_does_not_tell_its_boots_apart_is_taken_at_its_word(line: tuple[Console, socket.socket]) -> None:
    console, guest = line
    guest.sendall(b"VIRLET-READY\r\nVIRLET-READY\r\n")
    console.ready(10)
    console.again(10)
