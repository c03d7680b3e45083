"""Is anybody there?  TCP through a forwarded port."""

from __future__ import annotations

import socket
import time

__all__ = ["answer", "traffic_back"]


def answer(port: int, timeout: float = 10, host: str = "127.0.0.1") -> str:
    """What a TCP service answers to a line.

    The client speaks first: passt of 2023-03 leaves the guest's SYN,ACK unanswered until it has data to send.
    """
    with socket.create_connection((host, port), timeout) as stream:
        stream.settimeout(timeout)
        stream.sendall(b"\n")
        return stream.makefile().readline().strip()


def traffic_back(port: int, since: float) -> float:
    """Seconds until the forwarded port answers again; tries are short, since passt accepts before the guest does."""
    while time.monotonic() - since < 30:
        try:
            if answer(port, 0.5):
                return time.monotonic() - since
        except OSError:
            continue
    raise AssertionError("no traffic within 30 s")
