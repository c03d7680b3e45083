"""Does a call touch the world?  Python itself tells, by its audit events (PEP 578)."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["effects"]

_EFFECTS = (
    "open", "socket.", "subprocess.", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system",
    "os.kill", "os.listdir", "os.scandir", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.chmod", "os.chown",
    "os.putenv", "os.link", "os.symlink", "os.truncate", "fcntl.", "shutil.", "tempfile.", "signal.", "ctypes.dlopen",
    "pty.", "urllib.", "http.", "_thread.",
)  # fmt: skip
_seen: ContextVar[list[str] | None] = ContextVar("_seen", default=None)
_hooked: list[bool] = []


def _hear(event: str, arguments: tuple[object, ...]) -> None:
    seen = _seen.get()
    if seen is not None and event.startswith(_EFFECTS):
        seen.append(f"{event}{arguments!r}"[:200])


@contextmanager
def effects() -> Iterator[list[str]]:
    """The audit events of everything inside that makes or asks for an effect: files, sockets, processes.

    A hook cannot be taken away again, so there is one for the life of the process, silent outside of this.  Modules
    that are imported for the first time show as files that are opened: call what is looked at once before.
    """
    if not _hooked:
        sys.addaudithook(_hear)
        _hooked.append(True)
    found: list[str] = []
    token = _seen.set(found)
    try:
        yield found
    finally:
        _seen.reset(token)
