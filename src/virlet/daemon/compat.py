"""Serving libvirt's own session path, so that unmodified clients find virletd without being told.

Enabled means: the directory ``compat`` beside the configuration exists and holds ``libvirtd`` and ``virtqemud``, both
links to virletd.  Named by ``LIBVIRTD_PATH`` (``VIRTD_PATH``) it makes stock clients start virletd, and its existence
is the setting that outlives the daemon.  A socket that another daemon serves is never touched.

libvirt's clients start a daemon with a chosen few variables (``virCommandAddEnvPassCommon`` and three of XDG's), so
those that decide where our own files are lie in the directory too.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
import socket
import struct
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from virlet.daemon.listener import Listener
from virlet.errors import ResourceBusy, SystemFailure
from virlet.paths import program

__all__ = ["Compat", "CompatStatus", "held_by", "recalled"]

log = logging.getLogger(__name__)

SOCKETS = ("libvirt-sock", "virtqemud-sock")
"""What a client looks for: the first in mode legacy, the second in mode direct (``src/remote/remote_sockets.c``)."""
PROGRAMS = ("libvirtd", "virtqemud")
"""What a client starts when nobody listens; also the stems of the pid files that these programs keep locked."""
KEPT = ("XDG_STATE_HOME",)
"""What says where our files are and a client of libvirt's does not pass on: a daemon that guessed would not see the
guests and the lock of the one that knows."""
ENVIRONMENT = "environment"
"""The file beside the programs that says it, a line ``NAME=value`` for each."""


def recalled(program: str, environ: Mapping[str, str]) -> dict[str, str]:
    """What *environ* lacks and :meth:`Compat.enable` wrote down, for a daemon that was started as *program*."""
    path = Path(program)
    if path.name not in PROGRAMS:
        return {}
    try:
        lines = (path.parent / ENVIRONMENT).read_text("utf-8").splitlines()
    except (OSError, ValueError):
        return {}
    found = (line.partition("=") for line in lines)
    return {name: value for name, _, value in found if name in KEPT and name not in environ}


@dataclass(frozen=True, slots=True)
class CompatStatus:
    """How things stand."""

    enabled: bool
    """The setting: persisted, and the directory of programs is there."""
    serving: tuple[str, ...]
    """Paths of libvirt's that this daemon listens on now."""
    directory: str
    """For ``LIBVIRTD_PATH``."""
    reason: str | None
    """Why the paths are not served although the setting is on."""


def held_by(path: Path) -> int | None:
    """The pid of the process that listens on the socket at *path*, 0 if unknown; ``None`` when nobody does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(os.fspath(path))
        except (FileNotFoundError, ConnectionRefusedError):
            return None
        except BlockingIOError:
            return 0  # its backlog is full: somebody is there
        except OSError as error:
            raise SystemFailure.of(error, f"cannot tell whether somebody serves {path}") from None
        pid, _, _ = struct.unpack("3i", probe.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        return int(pid)


def pid_file_holder(path: Path) -> int | None:
    """The pid of the libvirt daemon that keeps its pid file locked: alive, though it may not listen yet."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        # struct flock on Linux: type, whence, start, length, pid; the kernel fills in the holder.
        asked = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, asked))
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.EBADF):
            return None
        raise
    finally:
        os.close(fd)
    return None if kind == fcntl.F_UNLCK else int(pid)


class Compat:
    """The setting and the listeners that follow from it."""

    def __init__(self, config: Path, directory: Path) -> None:
        """*config*: virlet's configuration directory; *directory*: libvirt's socket directory."""
        self.programs = config / "compat"
        self.directory = directory
        self.listeners: list[Listener] = []
        self.reason: str | None = None

    @property
    def enabled(self) -> bool:
        """Whether the user switched it on."""
        return (self.programs / PROGRAMS[0]).is_symlink()

    def status(self) -> CompatStatus:
        """The setting and what came of it."""
        serving = tuple(str(listener.path) for listener in self.listeners)
        return CompatStatus(self.enabled, serving, str(self.programs), self.reason if self.enabled else None)

    def enable(self, environ: Mapping[str, str]) -> None:
        """Persist the setting and what of *environ* clients would not pass on; :meth:`listen` acts on it.

        Raises :class:`SystemFailure` when the directory cannot be written.
        """
        target = daemon_program()
        try:
            self.programs.mkdir(parents=True, exist_ok=True, mode=0o700)
            for name in PROGRAMS:
                fresh = self.programs / f".{name}.{os.getpid()}"
                fresh.symlink_to(target)
                fresh.replace(self.programs / name)
            kept = "".join(f"{name}={environ[name]}\n" for name in KEPT if environ.get(name, "").startswith("/"))
            (self.programs / ENVIRONMENT).write_text(kept, "utf-8")
        except OSError as error:
            raise SystemFailure.of(error, f"cannot make {self.programs}") from None

    def disable(self) -> None:
        """Undo :meth:`enable` and stop listening."""
        self.close()
        try:
            for name in (*PROGRAMS, ENVIRONMENT):
                (self.programs / name).unlink(missing_ok=True)
            with contextlib.suppress(FileNotFoundError):
                self.programs.rmdir()
        except OSError as error:
            raise SystemFailure.of(error, f"cannot remove {self.programs}") from None

    def listen(self) -> list[Listener]:
        """Listen on libvirt's paths; the new listeners, none when they are served already.

        Raises :class:`ResourceBusy` naming the other daemon: with one of the two paths in other hands neither is
        taken, because clients choose between them and would find sometimes this one, sometimes that.
        """
        self.listeners = [listener for listener in self.listeners if listener.is_ours()]
        served = {listener.path for listener in self.listeners}
        wanted = [self.directory / name for name in SOCKETS if self.directory / name not in served]
        self.reason = next(self._others(wanted), None)
        if self.reason is not None:
            raise ResourceBusy(self.reason, hint="stop it and enable again, or use the URI that 'virlet uri' prints")
        fresh = [Listener(path) for path in wanted]
        self.listeners += fresh
        return fresh

    def _others(self, wanted: list[Path]) -> Iterator[str]:
        for path in wanted:
            pid = held_by(path)
            if pid is not None:
                yield f"{path} is served by another daemon" + (f" (pid {pid})" if pid else "")
        for name in PROGRAMS:
            pid = pid_file_holder(self.directory / f"{name}.pid")
            if pid is not None and pid != os.getpid():
                yield f"{name} (pid {pid}) runs and owns {self.directory}"

    def close(self) -> None:
        """Stop listening on libvirt's paths; a socket that somebody else put there stays."""
        for listener in self.listeners:
            listener.close()
        self.listeners = []


def daemon_program() -> Path:
    """The installed ``virletd``: what started this process if it is called so, else the one beside the interpreter."""
    started = Path(sys.argv[0])
    if started.name in ("virletd", *PROGRAMS) and started.exists():
        return started.resolve()
    beside = Path(sys.executable).with_name("virletd")
    found = str(beside) if beside.exists() else program("virletd")
    if found is None:
        raise SystemFailure("the program virletd is not installed beside this Python, nor in PATH")
    return Path(found)
