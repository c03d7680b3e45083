"""Servers on the host for guests to reach: one connection each, served in a thread."""

from __future__ import annotations

import hashlib
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from guest import Console

__all__ = ["LOOPBACK", "MEGABYTES", "give", "greet", "serving", "sockaddr", "take", "whole_each_way"]

MEGABYTES = int(os.environ.get("VIRLET_MATRIX_MB", "10"))
"""How much is sent each way and family."""

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Served:
    """What became of the one connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.result: Any = None


@contextmanager
def serving(
    version: int, what: Callable[[socket.socket], object], timeout: float = 60, address: str = ""
) -> Iterator[Served]:
    """A port of *address*, or of the loopback of IP *version*; *what* is done with its first connection."""
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as listener:
        listener.bind((address or LOOPBACK[version], 0))
        listener.listen()
        listener.settimeout(timeout)
        served = Served(listener)

        def run() -> None:
            try:
                peer, _ = listener.accept()
                with peer:
                    peer.settimeout(timeout)
                    served.result = what(peer)
            except OSError as error:
                served.result = error

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield served
        finally:
            thread.join()


def greet(peer: socket.socket) -> bytes:
    """Hear a line, answer it, and be told by the end of the connection that the answer has arrived."""
    heard = peer.makefile("rb").readline()
    peer.sendall(b"host\n")
    peer.shutdown(socket.SHUT_WR)
    peer.recv(1)
    return heard


def give(data: bytes) -> Callable[[socket.socket], object]:
    """Send *data*."""

    def run(peer: socket.socket) -> None:
        peer.sendall(data)
        peer.shutdown(socket.SHUT_WR)
        peer.recv(1)

    return run


def take(peer: socket.socket) -> str:
    """Receive everything; its SHA-256 sum."""
    digest = hashlib.sha256()
    while piece := peer.recv(1 << 20):
        digest.update(piece)
    peer.sendall(b"!")
    return digest.hexdigest()


def sockaddr(version: int, address: str, port: int) -> str:
    """A ``struct sockaddr`` as the guest's ``transfer`` takes it, in hexadecimal."""
    packed = socket.inet_pton(FAMILY[version], address)
    head = FAMILY[version].to_bytes(2, "little") + port.to_bytes(2, "big")
    return (head + (packed + bytes(8) if version == 4 else bytes(4) + packed + bytes(4))).hex()


def whole_each_way(console: Console, version: int, host: str, listen: str = "") -> tuple[float, float]:
    """Send MEGABYTES into the guest and the same out of it, with the right sums; seconds in and out.

    *host* is what the guest calls the host, *listen* an address of the host's (loopback when not said).
    """
    data = os.urandom(MEGABYTES << 20)
    right, began = hashlib.sha256(data).hexdigest(), time.monotonic()
    with serving(version, give(data), address=listen) as served:
        said = console.check(f"transfer get {sockaddr(version, host, served.port)}", 240)
    assert said.split()[0] == right
    received = time.monotonic()
    with serving(version, take, address=listen) as served:
        console.check(f"transfer put {sockaddr(version, host, served.port)}", 240)
    assert served.result == right
    return received - began, time.monotonic() - received
