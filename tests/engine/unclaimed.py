"""Ports that are nobody's, and stay so until the test takes them."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from functools import cache

__all__ = ["free_port"]

_KERNELS_OWN = 32_768
"""Those from here on the kernel gives to whoever asks for any (``ip_local_port_range``)."""


def free_port() -> int:
    """A TCP port of 127.0.0.1, another one each time: from below those that the kernel gives away."""
    return next(_ports())


@cache
def _ports() -> Iterator[int]:
    return _free()


def _free() -> Iterator[int]:
    # Two runs of the tests at once begin at different places.
    for port in range(24_000 + os.getpid() % 300 * 20, _KERNELS_OWN):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        yield port
    raise AssertionError("no port is free")
