"""The host's nameservers, and the kernel's word that their file is another one (resolv.conf(5), inotify(7)).

NetworkManager and systemd-resolved replace the file by renaming another one over it, or make it a link into a directory
of theirs; an editor, or a container engine from outside, writes into it.  So the directories of all links on the way
are watched for these names, and the file itself.  As with routes, an event says no more than "look again".
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from virlet.errors import SystemFailure

__all__ = ["RESOLV_CONF", "ResolverWatch", "nameservers"]

RESOLV_CONF = Path("/etc/resolv.conf")

_ATTRIB, _CLOSE_WRITE, _MOVED_FROM, _MOVED_TO = 0x4, 0x8, 0x40, 0x80  # IN_…
_CREATE, _DELETE, _DELETE_SELF, _MOVE_SELF, _OVERFLOW, _IGNORED = 0x100, 0x200, 0x400, 0x800, 0x4000, 0x8000
_ONLYDIR = 0x01000000
_NAMED = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_ITSELF = _DELETE_SELF | _MOVE_SELF
_EVENT = struct.Struct("iIII")  # watch, mask, cookie, length of the name
_PASSES = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EIO, errno.ESTALE})
"""Errors that say nothing about the file."""
_MOST_LINKS = 40
"""As many as the kernel follows (path_resolution(7))."""


def nameservers(path: Path = RESOLV_CONF) -> tuple[str, ...]:
    """``nameserver ADDRESS``, in order; a link-local one keeps its zone.  None where nobody can read such a file.

    Raises OSError where we cannot just now.
    """
    try:
        lines = path.read_text("utf-8", "replace").splitlines()
    except OSError as error:
        if error.errno in _PASSES:
            raise
        return ()
    words = map(str.split, lines)
    return tuple(each[1] for each in words if len(each) > 1 and each[0] == "nameserver")


def _places(path: Path) -> Iterator[tuple[Path, str]]:
    """Each directory that is there, and the name in it on which it depends what *path* is."""
    for _ in range(_MOST_LINKS):
        directory, name = path.parent, path.name
        while not directory.is_dir() and directory != directory.parent:
            directory, name = directory.parent, directory.name
        yield directory, name
        try:
            path = Path(os.path.normpath(path.parent / path.readlink()))
        except OSError:
            return  # It is the file, or it is not there.


class ResolverWatch:
    """A descriptor that becomes readable when something about the file has changed; never blocks.

    Opening raises :class:`SystemFailure` where the kernel has no inotify instance left for this user.
    """

    __slots__ = ("_fd", "_files", "_libc", "_names", "_path")

    def __init__(self, path: Path = RESOLV_CONF) -> None:
        self._path = path
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._names: dict[int, set[str]] = {}
        """Watch of a directory → the names in it that matter."""
        self._files: set[int] = set()
        self._fd = int(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        if self._fd < 0:
            raise SystemFailure.of(_error(), f"cannot watch {path}")
        self._arm()

    def _arm(self) -> None:
        """Watch what is on the way now, and nothing else."""
        names: dict[int, set[str]] = {}
        for directory, name in _places(self._path):
            watch = self._add(directory, _NAMED | _ITSELF | _ONLYDIR)
            if watch >= 0:
                names.setdefault(watch, set()).add(name)
        # A file that is mounted over its place is written to under another name.
        files = {self._add(self._path, _CLOSE_WRITE | _ATTRIB | _ITSELF)} - {-1}
        for gone in (self._names.keys() | self._files) - names.keys() - files:
            self._libc.inotify_rm_watch(self._fd, gone)
        self._names, self._files = names, files

    def _add(self, path: Path, mask: int) -> int:
        """-1 for what is not there, or may not be read."""
        return int(self._libc.inotify_add_watch(self._fd, os.fsencode(path), mask))

    def fileno(self) -> int:
        """For the event loop."""
        return self._fd

    def read(self, most: int = 16) -> bool:
        """Take what there is, *most* buffers at once; whether any of it may matter."""
        found = False
        for _ in range(most):
            try:
                data = os.read(self._fd, 1 << 14)
            except BlockingIOError:
                break
            found |= any(self._matters(*event) for event in _events(data))
        if found:
            self._arm()
        return found

    def _matters(self, watch: int, mask: int, name: str) -> bool:
        if mask & _OVERFLOW:
            return True
        if watch in self._files or name in self._names.get(watch, ()):
            return True
        return bool(watch in self._names and mask & (_ITSELF | _IGNORED))

    def close(self) -> None:
        """Stop watching."""
        with suppress(OSError):
            os.close(self._fd)


def _events(data: bytes) -> Iterator[tuple[int, int, str]]:
    at = 0
    while at + _EVENT.size <= len(data):
        watch, mask, _, length = _EVENT.unpack_from(data, at)
        at += _EVENT.size
        yield watch, mask, os.fsdecode(data[at : at + length].rstrip(b"\0"))
        at += length


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number))
