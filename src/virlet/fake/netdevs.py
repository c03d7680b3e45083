"""How the fake QEMU meets its helpers: ``-netdev stream``, the chardev behind ``-netdev vhost-user``, hubs."""

from __future__ import annotations

import socket
import time
from collections.abc import Mapping
from contextlib import suppress

from virlet.fake.own_passt import Backend, Machine, OwnPasst
from virlet.fake.qmp_server import CommandError

__all__ = ["Backend", "Dialler", "Stream", "backend_of", "network_of", "stream_socket"]


class HubPort(Backend):
    """``-netdev hubport``: behind it is another netdev, or nothing yet."""

    def __init__(self, hub: object, peer: str) -> None:
        super().__init__("hubport")
        self.hub, self.peer = hub, peer


class Stream(Backend):
    """One ``-netdev stream`` in the server role, or on a connection that was given."""

    def __init__(self, machine: Machine, name: str, sock: socket.socket) -> None:
        super().__init__("stream")
        self.machine, self.name, self.sock = machine, name, sock
        self.peer: socket.socket | None = None
        self._quiet = False
        """The guest has spoken, as one does that boots, and says nothing more by itself."""
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            machine.watch(sock.fileno(), self._accept)
        else:
            self.peer = sock
            machine.watch(sock.fileno(), self._read)

    def _accept(self) -> None:
        self.peer, _ = self.sock.accept()
        self.machine.watch(self.sock.fileno(), None)
        self.machine.watch(self.peer.fileno(), self._read)
        address = {"path": str(self.sock.getsockname()), "type": "unix"}
        self.machine.event("NETDEV_STREAM_CONNECTED", {"netdev-id": self.name, "addr": address})
        if not self._quiet:
            self._quiet = True
            self.announce()

    def _read(self) -> None:
        assert self.peer is not None
        try:
            data = self.peer.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            return  # A frame for a guest that is not there.
        self.machine.watch(self.peer.fileno(), None)
        self.peer.close()
        self.machine.event("NETDEV_STREAM_DISCONNECTED", {"netdev-id": self.name})
        if self.peer is not self.sock:
            self.machine.watch(self.sock.fileno(), self._accept)
        self.peer = None

    def announce(self) -> None:
        """Send one frame, as the real one does for the guest: a length of 4 bytes, then a RARP of no consequence."""
        if self.peer is not None:
            frame = b"\xff" * 6 + b"\x52\x54\0\0\0\1" + b"\x80\x35" + bytes(46)
            with suppress(OSError):  # It has just gone, and we shall read so.
                self.peer.sendall(len(frame).to_bytes(4, "big") + frame)

    def close(self) -> None:
        """``netdev_del``."""
        for sock in {self.peer or self.sock, self.sock}:
            if sock is self.peer or self.peer is None:
                self.machine.watch(sock.fileno(), None)
            sock.close()


class Dialler:
    """One ``-chardev socket,path=…,reconnect-ms=…``."""

    def __init__(self, machine: Machine, name: str, path: str, reconnect_ms: int) -> None:
        self.name = name
        self.netdev = ""
        """Who speaks through it."""
        self._machine, self._path, self._pause = machine, path, reconnect_ms / 1000
        self._peer: socket.socket | None = None
        self._next = 0.0

    def tick(self) -> float | None:
        """Dial when it is time; the seconds until then, None while there is a connection."""
        if self._peer is None and time.monotonic() >= self._next:
            self._dial()
        return None if self._peer is not None else max(0.0, self._next - time.monotonic())

    def _dial(self) -> None:
        sock = socket.socket(socket.AF_UNIX)
        try:
            sock.connect(self._path)
        except OSError:
            sock.close()
            self._next = time.monotonic() + self._pause
            return
        self._peer = sock
        self._machine.watch(sock.fileno(), self._read)
        self.tell()

    def tell(self) -> None:
        """Say that the back end is there, if it is and somebody speaks to it."""
        if self._peer is not None and self.netdev:
            said = {"netdev-id": self.netdev, "chardev-id": self.name}
            self._machine.event("NETDEV_VHOST_USER_CONNECTED", said)

    def _read(self) -> None:
        assert self._peer is not None
        try:
            data = self._peer.recv(1 << 16)
        except OSError:
            data = b""
        if data:
            return
        self.close()
        self._next = time.monotonic() + self._pause
        if self.netdev:
            self._machine.event("NETDEV_VHOST_USER_DISCONNECTED", {"netdev-id": self.netdev})

    def close(self) -> None:
        """Hang up."""
        if self._peer is not None:
            self._machine.watch(self._peer.fileno(), None)
            self._peer.close()
            self._peer = None


def backend_of(machine: Machine, name: str, arguments: Mapping[str, object], there: Mapping[str, Backend]) -> Backend:
    """What ``netdev_add`` makes; raises :class:`CommandError` as it refuses."""
    match arguments:
        case {"type": "stream"}:
            sock = stream_socket(arguments.get("addr"))
            return Backend("stream") if sock is None else Stream(machine, name, sock)
        case {"type": "passt"}:
            return OwnPasst(machine, arguments)
        case {"type": "hubport", "hubid": hub}:
            peer = str(arguments.get("netdev", ""))
            if peer and peer not in there:
                raise CommandError(f"netdev '{peer}' not found")
            return HubPort(hub, peer)
    return Backend(str(arguments["type"]))


def stream_socket(address: object) -> socket.socket | None:
    """What a stream listens on; None for one that never works.

    The real one looks a descriptor up in a thread that knows no monitor, so one named by ``getfd`` is accepted and
    then fails in silence ("connection error" in ``info network``; 7.2 and 11.1): only numbers work, or a path.
    """
    match address:
        case {"type": "fd", "str": str(number)} if number.isdecimal():
            return socket.socket(fileno=int(number))
        case {"type": "unix", "path": str(path)}:
            sock = socket.socket(socket.AF_UNIX)
            sock.bind(path)
            sock.listen(1)
            return sock
    return None


def network_of(netdevs: Mapping[str, Backend]) -> str:
    """HMP's ``info network``: each hub with its ports and what is plugged into them, then the rest."""
    ports = {name: each for name, each in netdevs.items() if isinstance(each, HubPort)}
    lines = []
    for hub in dict.fromkeys(port.hub for port in ports.values()):
        lines.append(f"hub {hub}")
        for name, port in ports.items():
            if port.hub == hub:
                peer = netdevs.get(port.peer)
                lines.append(f" \\ {name}" + (f": {port.peer}: {peer.told()}" if peer is not None else ""))
    behind = {*ports, *(port.peer for port in ports.values())}
    lines += (f"{name}: {each.told()}" for name, each in netdevs.items() if name not in behind)
    return "".join(f"{line}\r\n" for line in lines)
