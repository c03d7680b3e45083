"""A listening UNIX socket at a path, and who may come in."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
from collections.abc import Iterator
from pathlib import Path

from virlet.engine.files import make_private as make_directory
from virlet.errors import AuthFailed, SystemFailure

__all__ = ["Listener", "Peer", "make_private", "may_enter", "peer_of"]

BACKLOG = 1024
"""Connections that wait to be accepted; libvirt's max_queued_clients is 1000."""
PATH_BYTES = 107
"""What ``sockaddr_un`` holds, without the final NUL."""


class Peer:
    """Who is at the other end (``SO_PEERCRED``)."""

    __slots__ = ("gid", "pid", "uid")

    def __init__(self, pid: int, uid: int, gid: int) -> None:
        self.pid, self.uid, self.gid = pid, uid, gid

    def __repr__(self) -> str:
        return f"pid {self.pid}, uid {self.uid}"


def peer_of(sock: socket.socket) -> Peer:
    """The process that made the connection *sock*."""
    return Peer(*struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)))


def may_enter(peer: Peer, own: int) -> None:
    """Only this user: raise :class:`AuthFailed` for any other uid, root's included.

    Root can become the user; letting it in as root would make files of root's in the user's directories.
    """
    if peer.uid != own:
        raise AuthFailed(f"{peer!r} is not the owner of this daemon (uid {own})", hint="connect as that user")


def make_private(directory: Path) -> None:
    """Make *directory* (0700) with its parents, or check that it is ours alone.

    Raises :class:`AuthFailed` when it belongs to somebody else or others may write to it.
    """
    make_directory(directory)
    try:
        found = os.stat(directory)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot look at the directory {directory}") from None
    if found.st_uid != os.geteuid() or stat.S_IMODE(found.st_mode) & 0o022:
        raise AuthFailed(
            f"{directory} is not safe: owned by uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o}",
            hint="remove it, or set XDG_RUNTIME_DIR to a directory of your own",
        )


class Listener:
    """A non-blocking listening socket, made at its path in one step and removed with it."""

    def __init__(self, path: Path, passed: socket.socket | None = None) -> None:
        """Listen at *path*, replacing what is there: whether that is allowed is the caller's to know (by a lock).

        *passed* is a socket that somebody else bound: it is used as it is and its path is never removed.
        Raises :class:`SystemFailure`.
        """
        self.path = path
        self.passed = passed is not None
        self.sock = passed if passed is not None else _bound(path)
        self._inode = None if self.passed else _inode(path)

    def fileno(self) -> int:
        """The descriptor, for an event loop."""
        return self.sock.fileno()

    def is_ours(self) -> bool:
        """Whether clients that dial the path still reach this socket."""
        return self.sock.fileno() >= 0 and (self.passed or _inode(self.path) == self._inode)

    def close(self) -> None:
        """Stop listening; remove the path if it still is ours."""
        if not self.passed and self.is_ours():
            with contextlib.suppress(FileNotFoundError):
                self.path.unlink()
        self.sock.close()


def _bound(path: Path) -> socket.socket:
    make_private(path.parent)
    # Bound under another name and renamed: nobody ever finds a socket that does not listen yet.
    fresh = path.with_name(f"{path.name}.{os.getpid()}")
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        fresh.unlink(missing_ok=True)
        # The mode of the descriptor becomes the mode of the file (unix(7) leaves that out; net/unix/af_unix.c bind):
        # no moment with a wider one, and no umask changed under other threads.
        os.fchmod(sock.fileno(), 0o600)
        with _address(fresh) as address:
            sock.bind(address)
        sock.listen(BACKLOG)
        fresh.replace(path)
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot listen on {path}") from None
    return sock


@contextlib.contextmanager
def _address(path: Path) -> Iterator[str]:
    """What to bind for *path*, also where it is longer than an address can be."""
    if len(os.fsencode(path)) <= PATH_BYTES:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino
