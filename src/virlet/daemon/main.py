"""The program ``virletd``."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from virlet.lean import without

with without("ssl"):
    import asyncio

from virlet import __version__, paths
from virlet.daemon import sd
from virlet.daemon.compat import PROGRAMS, Compat, recalled
from virlet.daemon.drivers import DEFAULT_URI
from virlet.daemon.idle import IdleExit
from virlet.daemon.listener import Listener, make_private
from virlet.daemon.lock import DaemonLock, LockHeld
from virlet.daemon.logs import reopen, start_logging
from virlet.daemon.server import Server
from virlet.daemon.settle import settle, share_heap
from virlet.daemon.wake import wake
from virlet.errors import BadConfig, Problem, SystemFailure, VirletError
from virlet.fault import arm
from virlet.proc.limits import raise_files

if TYPE_CHECKING:
    import argparse

__all__ = ["Settings", "main", "parse_settings", "settings_of"]

log = logging.getLogger(__name__)

ACTIVATED_TIMEOUT = 120
"""Seconds without clients and guests after which a socket-activated daemon ends: the manager starts it again."""

FILES = 65_536
"""Descriptors that we allow ourselves, if the hard limit does: a client each, and a few for each guest."""

_ELSEWHERE = "set XDG_STATE_HOME, XDG_CONFIG_HOME and XDG_CACHE_HOME to directories that can be written"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the command line and the configuration file say."""

    socket: Path
    config: Path
    """Directory of the configuration."""
    lock: Path
    log_file: Path | None
    timeout: float | None
    """Seconds without clients and guests until the end; ``None``: never, unless socket-activated."""
    verbose: bool
    ready_fd: int | None
    """Gets ``READY=1`` when clients are let in."""
    slirp_helper: Path | None
    """A program that is run in the place of virlet-slirp-helper."""
    confine: bool
    """QEMU may open its guest's files only, where the kernel can see to that."""
    share_memory: bool
    """Guests whose network gains by it share their memory with passt."""
    autostarted: bool
    """A client started us and keeps stderr only until we are ready."""


@dataclass(slots=True)
class _Words:
    """What the command line says."""

    timeout: float | None = None
    socket: Path | None = None
    config: Path | None = None
    ready_fd: int | None = None
    autostarted: bool = False
    verbose: bool = False


def _words(argv: Sequence[str]) -> _Words:
    # argparse and its translations are 0.6 MB, for a daemon that is mostly started without a word.
    return _parser().parse_args(argv, _Words()) if argv else _Words()


def _parser() -> argparse.ArgumentParser:
    import argparse

    parser = argparse.ArgumentParser(
        prog="virletd", description="Run QEMU guests for this user; speaks libvirt's protocol."
    )
    parser.add_argument("--timeout", type=float, metavar="SECONDS", help="end when idle so long: no client, no guest")
    parser.add_argument("--socket", type=Path, metavar="PATH", help="listen here")
    parser.add_argument("--config", type=Path, metavar="FILE", help="read this instead of virletd.toml")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write READY=1 here when clients are let in")
    parser.add_argument("--autostarted", action="store_true", help="started by a client: be silent once ready")
    parser.add_argument("-v", "--verbose", action="store_true", help="log more")
    parser.add_argument("-V", "--version", action="version", version=f"virletd {__version__}")
    return parser


def settings_of(argv: Sequence[str], environ: Mapping[str, str], uid: int) -> Settings:
    """The settings; the command line wins over the file.

    Raises :class:`BadConfig` for a file that says something unknown, :class:`SystemFailure` for an unreadable one.
    """
    options = _words(argv)
    config = paths.config_dir(environ, uid)
    state = paths.state_dir(environ, uid, _machine_id())
    file = _read_file(options.config or config / "virletd.toml", required=options.config is not None)
    timeout = options.timeout if options.timeout is not None else file.get("timeout")
    if timeout is not None and not timeout >= 0:
        raise BadConfig([Problem("timeout", f"'timeout' must be a number of seconds, not {timeout}")])
    return Settings(
        socket=(options.socket or paths.server_socket(environ, uid)).absolute(),
        config=config,
        lock=state / "virletd.lock",
        log_file=state / "virletd.log",
        # libvirtd takes 0 for "never".
        timeout=float(timeout) if timeout else None,
        verbose=options.verbose or bool(file.get("verbose")),
        ready_fd=options.ready_fd,
        slirp_helper=_program(file, "slirp_helper"),
        confine=file.get("confine", True),
        share_memory=file.get("share_memory", False),
        autostarted=options.autostarted,
    )


_KNOWN: Mapping[str, tuple[type, ...]] = {
    "timeout": (int, float),
    "verbose": (bool,),
    "slirp_helper": (str,),
    "confine": (bool,),
    "share_memory": (bool,),
}


def _read_file(path: Path, *, required: bool) -> Mapping[str, Any]:
    try:
        data = path.read_bytes()
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not required:
            return {}
        raise SystemFailure.of(error, f"cannot read {path}") from None
    return parse_settings(data, path)


def parse_settings(data: bytes, path: Path) -> Mapping[str, Any]:
    """What the bytes of a configuration file say; *path* is for messages.  Raises :class:`BadConfig`."""
    import tomllib

    try:
        found = tomllib.loads(data.decode())
    except RecursionError:
        raise BadConfig([Problem(str(path), f"{path}: nested too deeply")]) from None
    except ValueError as error:
        raise BadConfig([Problem(str(path), f"{path}: {error}")]) from None
    problems = [
        Problem(name, f"{path}: '{name}' is unknown or has a wrong type", hint=f"known are {', '.join(_KNOWN)}")
        for name, value in found.items()
        if type(value) not in _KNOWN.get(name, ())
    ]
    problems += [
        Problem(name, f"{path}: '{name}' must be an absolute path, not '{value}'")
        for name, value in found.items()
        if str in _KNOWN.get(name, ()) and type(value) is str and not value.startswith("/")
    ]
    if problems:
        raise BadConfig(problems)
    return found


def _program(file: Mapping[str, Any], name: str) -> Path | None:
    value = file.get(name)
    return None if value is None else Path(value)


def _machine_id() -> str:
    try:
        return Path("/etc/machine-id").read_text("ascii").strip() or "unknown"
    except (OSError, ValueError):
        return "unknown"


async def serve(settings: Settings, passed: dict[str, list[socket.socket]], environ: dict[str, str]) -> None:
    """Be the daemon until a signal or idleness ends it.  Guests are adopted before the first client is let in."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    compat = Compat(settings.config, paths.libvirt_socket_dir(environ, os.getuid()))
    server = Server(compat)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, _hang_up, server, settings.socket)
    try:
        await server.drivers.open(DEFAULT_URI)
        for listener in _listeners(settings.socket, passed):
            server.listen(listener)
        server.serve_compat()
        timeout = settings.timeout or (ACTIVATED_TIMEOUT if passed else None)
        if timeout is not None:
            server.on_change = IdleExit(server, timeout, stop).changed
            server.on_change()
        _announce(settings, environ)
        settle()
        await stop.wait()
        log.info("ending; guests run on")
        sd.notify("STOPPING=1", environ)
    finally:
        await server.close()


def _hang_up(server: Server, path: Path) -> None:
    """SIGHUP: log files anew, and sockets whose paths have vanished or become free."""
    reopen()
    server.restore(path)
    server.serve_compat()


def _listeners(path: Path, passed: dict[str, list[socket.socket]]) -> list[Listener]:
    """The sockets that the service manager passed; our own path as well if it is not among them."""
    given = [Listener(Path(sock.getsockname()), sock) for group in passed.values() for sock in group]
    if any(listener.path == path for listener in given):
        return given
    return [*given, Listener(path)]


def _announce(settings: Settings, environ: dict[str, str]) -> None:
    sd.notify("READY=1", environ)
    if settings.ready_fd is not None:
        try:
            os.write(settings.ready_fd, b"READY=1\n")
            os.close(settings.ready_fd)
        except OSError as error:
            log.warning("nobody waits at --ready-fd: %s", error)
    if settings.autostarted:
        # The client's file for our last words would grow for ever; the log file is rotated.
        silence = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(silence, sys.stderr.fileno())
        os.close(silence)


def _lock(settings: Settings, program: str, environ: dict[str, str]) -> DaemonLock | None:
    """The right to serve; ``None`` when another virletd has it and that will do for the client that started us.

    The lock lies beside the state, not beside the socket: a runtime directory vanishes at the last log-out while the
    daemon and its guests run on, and two daemons must never mind the same guests.
    """
    try:
        make_private(settings.lock.parent)
    except SystemFailure as error:
        raise SystemFailure(error.detail, errno=error.errno, hint=_ELSEWHERE) from error
    make_private(settings.socket.parent)
    try:
        return DaemonLock(settings.lock)
    except LockHeld as error:
        if error.holder is None or not (settings.autostarted or program in PROGRAMS):
            raise
        if not wake(error.holder, settings.socket):
            raise
        _announce(settings, environ)
        return None


def _surroundings() -> None:
    """Files for this user alone, no directory kept from being unmounted, one heap, room for thousands of clients."""
    os.umask(0o077)
    os.chdir("/")
    share_heap()
    raise_files(FILES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``virletd``; the exit status."""
    os.environ.update(recalled(sys.argv[0], os.environ))
    arm(os.environ)
    environ = dict(os.environ)
    passed = sd.listen_fds(environ)
    try:
        settings = settings_of(sys.argv[1:] if argv is None else argv, environ, os.getuid())
        _surroundings()
        if settings.slirp_helper is not None:
            from virlet.engine.facts import SLIRP_HELPER

            os.environ[SLIRP_HELPER] = str(settings.slirp_helper)
        if not settings.confine:
            from virlet.engine.probe.host import CONFINE

            os.environ[CONFINE] = "no"
        if settings.share_memory:
            from virlet.engine.probe.host import SHARE_MEMORY

            os.environ[SHARE_MEMORY] = "yes"
        lock = _lock(settings, Path(sys.argv[0]).name, environ)
        if lock is None:
            return 0
        start_logging(settings.log_file, settings.verbose)
    except VirletError as error:
        print(f"virletd: error: {error}", file=sys.stderr)
        return 1
    try:
        asyncio.run(serve(settings, passed, environ))
    except VirletError as error:
        log.critical("%s", error)
        return 1
    lock.release()
    return 0


if __name__ == "__main__":
    sys.exit(main())
