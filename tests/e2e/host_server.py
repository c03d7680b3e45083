"""Servers on the host's loopback for guests to reach: one connection each, served in a thread."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["LOOPBACK", "give", "greet", "serving", "sockaddr", "take"]

LOOPBACK = {4: "127.0.0.1", 6: "::1"}
FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Served:
    """What became of the one connection."""

    def __init__(self, listener: socket.socket) -> None:
        self.port: int = listener.getsockname()[1]
        self.result: Any = None


@contextmanager
def serving(version: int, what: Callable[[socket.socket], object], timeout: float = 60) -> Iterator[Served]:
    """A port of the loopback of IP *version*; *what* is done with its first connection."""
    with socket.socket(FAMILY[version], socket.SOCK_STREAM) as listener:
        listener.bind((LOOPBACK[version], 0))
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
