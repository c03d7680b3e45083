"""Character devices: serial and parallel ports, consoles and channels, and what is behind them on the host."""

from __future__ import annotations

from enum import StrEnum

from virlet.enums import ErrorCode
from virlet.model.address import Address
from virlet.model.device import address, alias
from virlet.xml.declare import Element, attr, child, element, many
from virlet.xml.kinds import ON_OFF, STR, UINT, YES_NO, enum

__all__ = [
    "Channel",
    "ChardevLog",
    "ChardevSource",
    "ChardevType",
    "Console",
    "ConsoleTarget",
    "Parallel",
    "Serial",
    "SerialTarget",
]

WRONG_TYPE = "unknown type presented to host for character device: {value}"


class ChardevType(StrEnum):
    """What is behind a character device."""

    NULL = "null"
    VC = "vc"
    PTY = "pty"
    DEV = "dev"
    FILE = "file"
    PIPE = "pipe"
    STDIO = "stdio"
    UDP = "udp"
    TCP = "tcp"
    UNIX = "unix"
    SPICEVMC = "spicevmc"
    SPICEPORT = "spiceport"
    NMDM = "nmdm"
    QEMU_VDAGENT = "qemu-vdagent"
    DBUS = "dbus"


@element("source")
class ChardevSource(Element):
    """The host's end; which attributes mean something depends on the device's type."""

    mode: str | None = attr("@mode", STR, default=None, doc="unix, tcp, udp: bind or connect")
    path: str | None = attr("@path", STR, default=None, doc="pty (at run time), dev, file, pipe, unix: path")
    append: bool | None = attr("@append", ON_OFF, default=None, doc="file: keep what is there")
    host: str | None = attr("@host", STR, default=None, doc="tcp, udp: host")
    service: str | None = attr("@service", STR, default=None, doc="tcp, udp: port")
    tls: bool | None = attr("@tls", YES_NO, default=None, doc="tcp: use TLS")
    channel: str | None = attr("@channel", STR, default=None, doc="spiceport, dbus: name")
    reconnect: bool | None = attr("reconnect/@enabled", YES_NO, default=None, doc="connect: dial again")
    reconnect_timeout: int | None = attr("reconnect/@timeout", UINT, default=None, doc="seconds between dials")


@element("log")
class ChardevLog(Element):
    """A file that everything said is copied to."""

    file: str | None = attr("@file", STR, default=None, doc="path")
    append: bool | None = attr("@append", ON_OFF, default=None, doc="keep what is there")


@element("target")
class SerialTarget(Element):
    """What the guest sees of a serial port."""

    type: str | None = attr("@type", STR, default=None, doc="isa-serial, usb-serial, pci-serial, …")
    port: int | None = attr("@port", UINT, default=None, doc="number of the port; the next one when absent")
    model: str | None = attr("model/@name", STR, default=None, doc="QEMU's device for it")


@element("target")
class ConsoleTarget(Element):
    """What the guest sees of a console."""

    type: str | None = attr("@type", STR, default=None, doc="serial (an alias of the first serial port) or virtio")
    port: int | None = attr("@port", UINT, default=None, doc="number of the console")


@element("serial")
class Serial(Element):
    """A serial port."""

    type: ChardevType = attr(
        "@type",
        enum(ChardevType),
        default=ChardevType.PTY,
        doc="what is behind it",
        wrong=WRONG_TYPE,
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    tty: str | None = attr("@tty", STR, default=None, live=True, doc="pty: its path at run time, old form")
    sources: tuple[ChardevSource, ...] = many(ChardevSource, default=(), doc="the host's end; udp has two")
    protocol: str | None = attr("protocol/@type", STR, default=None, doc="tcp: raw or telnet")
    log: ChardevLog | None = child(ChardevLog, default=None, doc="copy of everything said")
    target: SerialTarget | None = child(SerialTarget, default=None, doc="what the guest sees")
    alias: str | None = alias()
    address: Address | None = address()

    @property
    def source(self) -> ChardevSource | None:
        """The first (nearly always only) source."""
        return self.sources[0] if self.sources else None


@element("parallel")
class Parallel(Element):
    """A parallel port."""

    type: ChardevType = attr(
        "@type",
        enum(ChardevType),
        default=ChardevType.PTY,
        doc="what is behind it",
        wrong=WRONG_TYPE,
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    tty: str | None = attr("@tty", STR, default=None, live=True, doc="pty: its path at run time, old form")
    sources: tuple[ChardevSource, ...] = many(ChardevSource, default=(), doc="the host's end")
    protocol: str | None = attr("protocol/@type", STR, default=None, doc="tcp: raw or telnet")
    log: ChardevLog | None = child(ChardevLog, default=None, doc="copy of everything said")
    target: SerialTarget | None = child(SerialTarget, default=None, doc="what the guest sees")
    alias: str | None = alias()
    address: Address | None = address()

    @property
    def source(self) -> ChardevSource | None:
        """The first (nearly always only) source."""
        return self.sources[0] if self.sources else None


@element("console")
class Console(Element):
    """The console that ``virsh console`` opens."""

    type: ChardevType = attr(
        "@type",
        enum(ChardevType),
        default=ChardevType.PTY,
        doc="what is behind it",
        wrong=WRONG_TYPE,
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    tty: str | None = attr("@tty", STR, default=None, live=True, doc="pty: its path at run time, old form")
    sources: tuple[ChardevSource, ...] = many(ChardevSource, default=(), doc="the host's end")
    protocol: str | None = attr("protocol/@type", STR, default=None, doc="tcp: raw or telnet")
    log: ChardevLog | None = child(ChardevLog, default=None, doc="copy of everything said")
    target: ConsoleTarget | None = child(ConsoleTarget, default=None, doc="what the guest sees")
    alias: str | None = alias()
    address: Address | None = address()

    @property
    def source(self) -> ChardevSource | None:
        """The first (nearly always only) source."""
        return self.sources[0] if self.sources else None


@element("channel")
class Channel(Element):
    """A private line between host and guest, such as the guest agent's."""

    type: ChardevType = attr(
        "@type",
        enum(ChardevType),
        default=ChardevType.PTY,
        doc="what is behind it",
        wrong=WRONG_TYPE,
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    sources: tuple[ChardevSource, ...] = many(ChardevSource, default=(), doc="the host's end; ours when absent (unix)")
    protocol: str | None = attr("protocol/@type", STR, default=None, doc="tcp: raw or telnet")
    log: ChardevLog | None = child(ChardevLog, default=None, doc="copy of everything said")
    target_type: str | None = attr("target/@type", STR, default=None, doc="virtio, or guestfwd")
    target_name: str | None = attr(
        "target/@name", STR, default=None, doc="name of the port, as in org.qemu.guest_agent.0"
    )
    target_address: str | None = attr("target/@address", STR, default=None, doc="guestfwd: address")
    target_port: int | None = attr("target/@port", UINT, default=None, doc="guestfwd: port")
    target_state: str | None = attr(
        "target/@state", STR, default=None, live=True, doc="connected or disconnected, at run time"
    )
    alias: str | None = alias()
    address: Address | None = address()

    @property
    def source(self) -> ChardevSource | None:
        """The first (nearly always only) source."""
        return self.sources[0] if self.sources else None

    @property
    def is_agent(self) -> bool:
        """Whether the guest agent of QEMU speaks here."""
        return self.target_name == "org.qemu.guest_agent.0"
