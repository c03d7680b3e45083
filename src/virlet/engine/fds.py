"""The descriptors that a plan names, opened: sockets bound and dialled, pairs made, logs opened.

Every descriptor is registered with the caller's exit stack, so that a failed start closes what it opened; once a
child has its copy, ours is closed as well.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress
from pathlib import Path

from virlet.errors import ConfigUnsupported, SystemFailure
from virlet.net.admin import make_tap
from virlet.plan.base import (
    Accept,
    BridgeTap,
    Dial,
    FdSource,
    Given,
    Listener,
    LogFile,
    OpenMacvtap,
    OpenTap,
    OpenVhost,
    PairEnd,
)
from virlet.proc.logfile import cap, open_log
from virlet.proc.tun import TapFlag, configure, hardware_address, open_macvtap, open_tap, tap_name

__all__ = ["FdTable", "anchor", "dial", "listen"]

log = logging.getLogger(__name__)

FRAMES = 1 << 23
"""Bytes that a passt may send at once: 128 frames of 64 KiB.

A passt that is handed its connection leaves the buffers as they are (one that accepts it does not), and frames that
find no room are lost: the passt of 2023 then waits 2 s for the guest before it sends them again.
"""


def listen(path: Path, backlog: int = 1) -> socket.socket:
    """A listening UNIX socket at *path*, readable to nobody else; raises :class:`SystemFailure`.

    A socket that a dead process left there is replaced: the directory is the guest's own.
    """
    sock = _socket(path)
    try:
        # The mode of the socket before bind is that of the file after it (Linux, unix_bind), so no umask is changed
        # under the feet of other threads.
        os.fchmod(sock.fileno(), 0o600)
        path.unlink(missing_ok=True)
        sock.bind(str(path))
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot listen on '{path}'", hint=_too_long(path)) from error
    return sock


def _socket(path: Path) -> socket.socket:
    try:
        return socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    except OSError as error:
        raise SystemFailure.of(error, f"cannot make a socket for '{path}'") from error


def dial(path: Path) -> socket.socket:
    """A connection to the UNIX socket at *path*, possibly still in its backlog; raises :class:`SystemFailure`.

    Its sender has room for :data:`FRAMES`, or for as much as the kernel allows (net.core.wmem_max, which it doubles).
    """
    sock = _socket(path)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FRAMES)
        sock.setblocking(False)
        sock.connect(str(path))
        sock.setblocking(True)
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot connect to '{path}'") from error
    return sock


def anchor(path: Path) -> int | None:
    """A descriptor of the socket's file, to :func:`dial` it by when its name has vanished; None where it has already.

    A runtime directory is deleted at the last log-out (pam_systemd(8)) while guests run on; connect(2) through
    ``/proc/self/fd`` finds the socket by its inode, which lives as long as its listener.
    """
    try:
        return os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None


def _too_long(path: Path) -> str | None:
    if len(os.fsencode(path)) >= 108:
        return "the path of a UNIX socket has at most 107 bytes: set XDG_RUNTIME_DIR to a shorter directory"
    return None


class FdTable:
    """What every source of a plan became; the same source is the same descriptor."""

    __slots__ = ("_fds", "_paths", "_stack", "_taps")

    def __init__(self) -> None:
        self._fds: dict[FdSource, int] = {}
        self._paths: list[Path] = []
        self._taps: dict[str, str] = {}
        self._stack = ExitStack()

    def __enter__(self) -> FdTable:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getitem__(self, source: FdSource) -> int:
        return self._fds[source]

    def __contains__(self, source: object) -> bool:
        return source in self._fds

    @property
    def paths(self) -> tuple[Path, ...]:
        """The sockets that were bound."""
        return tuple(self._paths)

    @property
    def taps(self) -> dict[str, str]:
        """Interface's alias → what the kernel calls the tap that was opened for it."""
        return dict(self._taps)

    def put(self, source: FdSource, fd: int) -> None:
        """Take over a descriptor that came in another way than by :meth:`open`."""
        self._fds[source] = self._keep(fd)
        if isinstance(source, BridgeTap):
            try:
                self._taps[source.alias] = tap_name(fd)
            except OSError as error:
                raise SystemFailure.of(error, f"what {source.helper} sent is no tap device") from error

    def open(self, sources: Iterable[FdSource]) -> None:
        """Open what is not open yet, listeners first: a connection may be dialled to one of them."""
        for source in sorted(sources, key=lambda item: isinstance(item, Dial)):
            if source not in self._fds:
                self._open(source)

    def open_log(self, source: LogFile) -> None:
        """Open a helper's log unless it is open, and rotate what has grown too large.

        One that cannot be opened, on a disk that is full or read-only by now, costs its messages and not the guest's
        network: a start has opened it before.
        """
        try:
            cap(source.path)
            self.open((source,))
        except SystemFailure as error:
            if source not in self._fds:
                self.put(source, os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
            log.warning("%s; what is said from now on is lost", error)

    def _open(self, source: FdSource) -> None:
        match source:
            case Listener(path, backlog):
                self._fds[source] = self._keep(listen(path, backlog).detach())
                self._paths.append(path)
            case Dial(path):
                self._fds[source] = self._keep(dial(path).detach())
            case PairEnd(name, _, datagram):
                kind = socket.SOCK_DGRAM if datagram else socket.SOCK_STREAM
                for end, sock in enumerate(socket.socketpair(socket.AF_UNIX, kind)):
                    if datagram:  # Room for several of the largest frames; the kernel cuts it to net.core.wmem_max.
                        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
                    self._fds[PairEnd(name, end, datagram)] = self._keep(sock.detach())
            case LogFile(path, truncate):
                self._fds[source] = self._keep(open_log(path, truncate=truncate))
            case OpenTap():
                self._fds[source] = self._keep(self._tap(source))
            case OpenMacvtap():
                self._fds[source] = self._keep(_macvtap(source))
            case OpenVhost(path=path):
                self._fds[source] = self._keep(_vhost(path))
            case Accept():
                raise AssertionError("QEMU has to make that connection: see virlet.engine.supervision.door")
            case BridgeTap():
                raise AssertionError("a bridge's tap is sent by a program: see virlet.engine.taps.open_all")
            case Given():
                raise AssertionError("what a client has given is there already: see virlet.engine.fdgroups")

    def _tap(self, tap: OpenTap) -> int:
        """One more queue of the device that its alias means."""
        known = self._taps.get(tap.alias)
        try:
            fd, name = open_tap(tap.path, known or tap.name, _flags(tap))
        except OSError as error:
            raise _no_tap(tap, error) from error
        self._taps[tap.alias] = name
        if tap.create and known is None:
            try:
                configure(name, mac=tap.mac, mtu=tap.mtu)
            except OSError as error:
                os.close(fd)
                raise SystemFailure.of(error, f"Unable to set up tap device {name}") from error
        return fd

    def _keep(self, fd: int) -> int:
        self._stack.callback(os.close, fd)
        return fd

    def close(self) -> None:
        """Close our copies; the children keep theirs."""
        self._stack.close()
        self._fds.clear()

    def unlink(self) -> None:
        """Remove the sockets that were bound."""
        for path in self._paths:
            with suppress(OSError):
                path.unlink()


def _flags(source: OpenTap | OpenMacvtap) -> int:
    return (TapFlag.VNET_HDR if source.vnet_hdr else 0) | (TapFlag.MULTI_QUEUE if source.multi_queue else 0)


def _no_tap(tap: OpenTap, error: OSError) -> SystemFailure:
    """libvirt's texts; what can be known before was checked before."""
    if error.errno == errno.ENOENT:
        return SystemFailure.of(error, f"Unable to open {tap.path}, is tun module loaded?", hint="modprobe tun")
    if tap.create:
        name = tap.name.replace("%d", "0")
        made = make_tap(name, os.getuid(), multi_queue=tap.multi_queue, vnet_hdr=tap.vnet_hdr)
        hint = f"let root run: {made}; and name it: <target dev='{name}' managed='no'/>"
        return SystemFailure.of(error, f"Unable to create tap device {tap.name}", hint=hint)
    if tap.multi_queue:
        maybe = "existing device was created without multi_queue flag"
        return SystemFailure.of(error, f"Unable to create multiple fds for tap device {tap.name} (maybe {maybe})")
    maybe = "existing device was created with multi_queue flag but device XML lacks 'queues' greater than one"
    busy = "another program has it open: end that first" if error.errno == errno.EBUSY else None
    return SystemFailure.of(error, f"Unable to set tap device {tap.name} (maybe {maybe})", hint=busy)


def _macvtap(tap: OpenMacvtap) -> int:
    """Raises :class:`SystemFailure`, also where the node is that of another link (of another network namespace)."""
    try:
        fd = open_macvtap(tap.node, _flags(tap), tap.device)
    except ValueError:
        raise _other_link(tap) from None
    except OSError as error:
        what = "set vnet or multiqueue flags on macvtap" if error.errno == errno.EINVAL else f"open {tap.node}"
        raise SystemFailure.of(error, f"unable to {what} ({tap.name})") from error
    if (tap_name(fd), hardware_address(fd)) != (tap.name, tap.mac):
        os.close(fd)
        raise _other_link(tap)
    return fd


def _other_link(tap: OpenMacvtap) -> SystemFailure:
    return SystemFailure(
        f"{tap.node} is not {tap.name}: a link of another network namespace has the same number, and the file is its",
        hint=f"let root make {tap.name} anew under a number of its own: ip link add link DEV name {tap.name} index"
        " 100007 type macvtap; then give you /dev/tap100007",
        errno=errno.ENODEV,
    )


def _vhost(path: str) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise ConfigUnsupported(
            "vhost-net was requested for an interface, but is unavailable",
            hint=f"{path}: {error.strerror}; let root run: modprobe vhost_net; chmod a+rw {path}",
        ) from error
