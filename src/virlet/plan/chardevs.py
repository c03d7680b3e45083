"""Character devices: serial ports, consoles and channels, and what is behind them on the host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TypeAlias

from virlet.model.address import SerialAddress
from virlet.model.chardev import Channel, ChardevType, Console, Parallel, Serial
from virlet.model.controller import ControllerType
from virlet.plan.base import Access, FileNeed, Joined, Listener, Word, short_name
from virlet.plan.board import controller_id
from virlet.plan.place import Member, given, place
from virlet.plan.words import Piece, Scene, device, escape

__all__ = ["SUPPORTED", "Chardev", "character_devices", "is_twin"]

Chardev: TypeAlias = Serial | Parallel | Console | Channel

SUPPORTED = frozenset(
    {
        ChardevType.NULL,
        ChardevType.PTY,
        ChardevType.DEV,
        ChardevType.FILE,
        ChardevType.PIPE,
        ChardevType.UDP,
        ChardevType.TCP,
        ChardevType.UNIX,
    }
)
"""What can be behind a character device here."""


def is_twin(console: Console) -> bool:
    """The first serial port under another name, which QEMU is told only once."""
    return console.target is None or console.target.type in (None, "serial")


def character_devices(scene: Scene) -> Iterator[Piece]:
    """Serial and parallel ports, channels, consoles, in libvirt's order."""
    devices = scene.domain.devices
    for n, serial in enumerate(devices.serials, 1):
        yield _piece(serial, f"devices/serial[{n}]", _serial(serial, scene), scene)
    for n, parallel in enumerate(devices.parallels, 1):
        words = device("isa-parallel", (("chardev", f"char{parallel.alias}"), ("id", parallel.alias)))
        yield _piece(parallel, f"devices/parallel[{n}]", words, scene)
    for n, channel in enumerate(devices.channels, 1):
        yield _piece(channel, f"devices/channel[{n}]", _channel(channel, scene), scene)
    for n, console in enumerate(devices.consoles, 1):
        if not is_twin(console):
            words = device("virtconsole", (("chardev", f"char{console.alias}"), ("id", console.alias)))
            yield _piece(console, f"devices/console[{n}]", words, scene)


def _piece(item: Chardev, path: str, front: tuple[Word, ...], scene: Scene) -> Piece:
    name = f"char{item.alias}"
    options, files, leaves = _Backend(item, path, name, scene).render()
    return Piece(
        ("-chardev", options, *front),
        files=files,
        leaves=leaves,
        ptys=(name,) if item.type is ChardevType.PTY else (),
    )


def _serial(serial: Serial, scene: Scene) -> tuple[Word, ...]:
    name = f"char{serial.alias}"
    target = serial.target
    kind = (target.type if target is not None else None) or "isa-serial"
    if kind == "system-serial":
        return ("-serial", f"chardev:{name}")
    driver = kind if target is None or target.model in (None, kind) else target.model or kind
    members: list[Member] = [("chardev", name), ("id", serial.alias)]
    if kind == "isa-serial" and target is not None:
        members += given(("index", target.port))
    return device(driver, (*members, *place(serial.address, scene.bus_ids)))


def _channel(channel: Channel, scene: Scene) -> tuple[Word, ...]:
    port = channel.address if isinstance(channel.address, SerialAddress) else SerialAddress()
    bus = controller_id(scene.domain, ControllerType.VIRTIO_SERIAL, port.controller or 0)
    return device(
        "virtserialport",
        given(
            ("bus", f"{bus}.0"),
            ("nr", port.port),
            ("chardev", f"char{channel.alias}"),
            ("id", channel.alias),
            ("name", channel.target_name),
        ),
    )


class _Backend:
    """One ``-chardev``."""

    def __init__(self, item: Chardev, path: str, name: str, scene: Scene) -> None:
        self._item = item
        self._path = path
        self._name = name
        self._scene = scene
        self._files: list[FileNeed] = []
        self._leaves: list[Path] = []

    def render(self) -> tuple[Word, tuple[FileNeed, ...], tuple[Path, ...]]:
        """The option's value, the files that must be there, and those that are left behind."""
        parts = self._options()
        words = [part for part in parts if isinstance(part, str)]
        options: Word = "".join(words) if len(words) == len(parts) else Joined(tuple(parts))
        return options, tuple(self._files), tuple(self._leaves)

    def _options(self) -> list[str | Listener]:
        source = self._item.source
        path = escape(source.path) if source is not None and source.path else ""
        tail = self._log()
        match self._item.type:
            case ChardevType.FILE:
                self._need(Access.CREATE)
                append = (
                    "" if source is None or source.append is None else f",append={'on' if source.append else 'off'}"
                )
                return [f"file,id={self._name},path={path}{append}{tail}"]
            case ChardevType.DEV:
                self._need(Access.READ_WRITE)
                return [f"serial,id={self._name},path={path}{tail}"]
            case ChardevType.PIPE:
                self._need(Access.PIPE)
                return [f"pipe,id={self._name},path={path}{tail}"]
            case ChardevType.UNIX:
                return [*self._unix(), tail] if tail else self._unix()
            case ChardevType.TCP:
                return [self._tcp() + tail]
            case ChardevType.UDP:
                return [self._udp() + tail]
            case kind:
                return [f"{kind},id={self._name}{tail}"]

    def _need(self, access: Access) -> None:
        source = self._item.source
        if source is not None and source.path:
            self._files.append(
                FileNeed(Path(source.path), access, f"{self._path}/source/@path", f"{self._item.type} device")
            )

    def _log(self) -> str:
        log = self._item.log
        if log is None or not log.file:
            return ""
        self._files.append(FileNeed(Path(log.file), Access.CREATE, f"{self._path}/log/@file", "log file"))
        return f",logfile={escape(log.file)},logappend={'on' if log.append else 'off'}"

    def _unix(self) -> list[str | Listener]:
        source = self._item.source
        path = source.path if source is not None else None
        if source is not None and source.mode == "connect":
            self._need(Access.SOCKET)
            return [f"socket,id={self._name},path={escape(path or '')}{self._reconnect()}"]
        if path and Path(path).parent != self._scene.dirs.runtime:
            self._need(Access.BIND)
        # We bind, so that the socket is there before QEMU is and nobody waits for a path to appear.
        listener = Listener(
            Path(path) if path else self._scene.dirs.runtime / f"{short_name(self._item.alias or '')}.sock"
        )
        self._leaves.append(listener.path)
        return [f"socket,id={self._name},fd=", listener, ",server=on,wait=off"]

    def _reconnect(self) -> str:
        source = self._item.source
        if source is None or not source.reconnect:
            return ""
        seconds = source.reconnect_timeout or 0
        if "reconnect-ms" in self._scene.qemu.chardevs.get("socket", ()):
            return f",reconnect-ms={1000 * seconds}"
        return f",reconnect={seconds}"

    def _tcp(self) -> str:
        source = self._item.source
        host = escape((source.host if source is not None else None) or "127.0.0.1")
        words = f"socket,id={self._name},host={host},port={escape((source.service if source else None) or '0')}"
        telnet = ",telnet=on" if self._item.protocol == "telnet" else ""
        if source is not None and source.mode == "bind":
            return f"{words}{telnet},server=on,wait=off"
        return f"{words}{telnet}{self._reconnect()}"

    def _udp(self) -> str:
        """Where it sends (mode connect) and where it receives (mode bind)."""
        sources = self._item.sources
        far = next((source for source in sources if source.mode != "bind"), None)
        near = next((source for source in sources if source.mode == "bind"), None)
        words = f"udp,id={self._name}"
        if far is not None:
            words += f",host={escape(far.host or '127.0.0.1')},port={escape(far.service or '0')}"
        if near is not None:
            words += f",localaddr={escape(near.host or '')},localport={escape(near.service or '0')}"
        return words
