"""What systemd and a daemon say to each other: ``sd_notify(3)`` and ``sd_listen_fds(3)``."""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping

from virlet.errors import SystemFailure

__all__ = ["listen_fds", "notify"]

FIRST_FD = 3
"""Passed descriptors begin here (``SD_LISTEN_FDS_START``)."""


def notify(state: str, environ: MutableMapping[str, str]) -> bool:
    """Send *state* (``READY=1``) to the service manager; ``False`` when there is none.

    Raises :class:`SystemFailure` when there is one that cannot be reached.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    # A leading @ stands for the NUL of the abstract namespace, which an environment variable cannot hold.
    target = "\0" + address[1:] if address.startswith("@") else address
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto(state.encode(), target)
        except OSError as error:
            raise SystemFailure.of(error, f"cannot notify the service manager at {address}") from None
    return True


def listen_fds(environ: MutableMapping[str, str]) -> dict[str, list[socket.socket]]:
    """The listening sockets that the service manager passed to this process, by name; the variables are removed.

    Nothing when they are meant for another process.  Names come from ``FileDescriptorName=`` of the socket unit;
    unnamed sockets are called ``unknown``, as systemd does.
    """
    pid, count, names = (environ.pop(f"LISTEN_{word}", "") for word in ("PID", "FDS", "FDNAMES"))
    if not pid.isdecimal() or int(pid) != os.getpid() or not count.isdecimal():
        return {}
    named = names.split(":") if names else []
    found: dict[str, list[socket.socket]] = {}
    for index in range(int(count)):
        name = named[index] if index < len(named) else "unknown"
        found.setdefault(name, []).append(_adopt(FIRST_FD + index))
    return found


def _adopt(fd: int) -> socket.socket:
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        raise SystemFailure.of(error, f"descriptor {fd} passed by the service manager is no socket") from None
    sock.set_inheritable(False)
    sock.setblocking(False)
    return sock
