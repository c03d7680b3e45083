"""The socket under a connection: dialled by path, read so that file descriptors survive."""

from __future__ import annotations

import os
import socket
from array import array
from collections.abc import Iterable

from virlet.client.uri import Target
from virlet.errors import NoConnect, SystemFailure
from virlet.wire.packet import FDS_MAX

__all__ = ["CHUNK", "close_all", "dial", "receive", "send_fd"]

CHUNK = 65_536
"""Bytes per read."""
_ROOM = socket.CMSG_SPACE(FDS_MAX * array("i").itemsize)
_GONE = (FileNotFoundError, ConnectionRefusedError)


def dial(target: Target) -> socket.socket:
    """Connect to the first of the target's sockets on which somebody listens.

    Raises NoConnect when nobody does, SystemFailure when the kernel says no for another reason.
    """
    for path in target.sockets:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.connect(str(path))
        except _GONE:
            sock.close()
        except OSError as error:
            sock.close()
            # Python itself refuses a path that does not fit, without a number.
            hint = None if error.errno else "the path of a socket has at most 107 bytes: shorten XDG_RUNTIME_DIR"
            raise SystemFailure.of(error, f"cannot connect to {path}", hint=hint) from None
        else:
            return sock
    raise NoConnect(
        f"nobody listens on {' or '.join(map(str, target.sockets))} for {target.uri}",
        hint="start virletd" if target.autostart else "start that server, or use virlet:///session",
    )


def receive(sock: socket.socket, flags: int = 0) -> tuple[bytes, list[int]]:
    """Bytes and the descriptors that came with them; no bytes mean the end.

    Ancillary data is a barrier for recvmsg (unix(7)): reading ahead loses nothing.  Raises OSError.
    """
    data, control, _, _ = sock.recvmsg(CHUNK, _ROOM, socket.MSG_CMSG_CLOEXEC | flags)
    if not control:
        return data, []
    fds = array("i")
    for level, kind, payload in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(payload[: len(payload) - len(payload) % fds.itemsize])
    return data, list(fds)


def send_fd(sock: socket.socket, fd: int, flags: int = 0) -> None:
    """One descriptor with the zero byte that carries it.  Raises OSError."""
    sock.sendmsg([b"\0"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array("i", [fd]))], flags)


def close_all(fds: Iterable[int]) -> None:
    """Close descriptors that nobody wanted."""
    for fd in fds:
        os.close(fd)
