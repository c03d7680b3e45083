"""Descriptors that come with bytes."""

from __future__ import annotations

import contextlib
import os
import socket
from array import array
from collections.abc import Iterable

from virlet.wire.packet import FDS_MAX

__all__ = ["ANCILLARY", "close_all", "received"]

ANCILLARY = socket.CMSG_SPACE(FDS_MAX * array("i").itemsize)
"""Room for the descriptors of one packet."""


def received(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    """The descriptors in what ``recvmsg`` gave beside the bytes."""
    fds = array("i")
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return fds.tolist()


def close_all(fds: Iterable[int]) -> None:
    """Close every one, whatever closing another says."""
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
