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
    """Seconds until the forwarded port answers again, which :file:`bench/recovery.py` judges: this only waits.

    The first tries are short, since passt accepts before the guest does; later ones have time for a busy machine.
    """
    patience = 0.5
    while time.monotonic() - since < 60:
        try:
            if answer(port, patience):
                return time.monotonic() - since
        except OSError:
            patience = min(patience * 1.2, 5)
            time.sleep(0.005)
    raise AssertionError("no traffic within 60 s")
