"""Displays, video cards, sound."""

from __future__ import annotations

from enum import StrEnum

from virlet.model.address import Address
from virlet.model.device import VirtioOptions, address, alias
from virlet.xml.declare import Element, attr, child, element, many, raw
from virlet.xml.kinds import INT, STR, UINT, YES_NO, enum, one_of
from virlet.xml.raw import Raw

__all__ = ["Audio", "Graphics", "GraphicsListen", "GraphicsType", "ListenType", "Sound", "Video", "VideoModel"]


class GraphicsType(StrEnum):
    """Protocols of displays."""

    SDL = "sdl"
    VNC = "vnc"
    RDP = "rdp"
    DESKTOP = "desktop"
    SPICE = "spice"
    EGL_HEADLESS = "egl-headless"
    DBUS = "dbus"


class ListenType(StrEnum):
    """What a display listens on."""

    NONE = "none"
    ADDRESS = "address"
    NETWORK = "network"
    SOCKET = "socket"


@element("listen")
class GraphicsListen(Element):
    """What a display listens on."""

    type: ListenType = attr("@type", enum(ListenType), doc="address, socket or none")
    address: str | None = attr("@address", STR, default=None, doc="address: where; 127.0.0.1 when absent")
    network: str | None = attr("@network", STR, default=None, doc="network: its name")
    socket: str | None = attr("@socket", STR, default=None, doc="socket: path")


@element("graphics")
class Graphics(Element):
    """A display that can be looked at from outside."""

    type: GraphicsType = attr("@type", enum(GraphicsType), doc="the protocol")
    socket: str | None = attr("@socket", STR, default=None, doc="vnc: path of a UNIX socket, old form of listen")
    port: int | None = attr("@port", INT, default=None, doc="TCP port; -1: the next free one at start")
    tls_port: int | None = attr("@tlsPort", INT, default=None, doc="spice only; kept")
    autoport: bool | None = attr("@autoport", YES_NO, default=None, doc="yes: the next free port at start")
    websocket: int | None = attr(
        "@websocket", INT, default=None, doc="vnc: port of the websocket; -1: the next free one"
    )
    listen: str | None = attr("@listen", STR, default=None, doc="address to listen on, the same as the first listen's")
    keymap: str | None = attr("@keymap", STR, default=None, doc="keyboard layout")
    passwd: str | None = attr(
        "@passwd", STR, default=None, secret=True, doc="password; printed only with --security-info"
    )
    passwd_valid_to: str | None = attr("@passwdValidTo", STR, default=None, secret=True, doc="when the password ends")
    connected: str | None = attr(
        "@connected", STR, default=None, secret=True, doc="what happens to a client when it changes"
    )
    share_policy: str | None = attr("@sharePolicy", STR, default=None, doc="allow-exclusive, force-shared or ignore")
    power_control: bool | None = attr(
        "@powerControl", YES_NO, default=None, doc="vnc: the viewer may shut the guest down"
    )
    wait: int | None = attr("@wait", UINT, default=None, doc="kept")
    display: str | None = attr("@display", STR, default=None, doc="sdl: X display")
    xauth: str | None = attr("@xauth", STR, default=None, doc="sdl: X authority file")
    fullscreen: bool | None = attr("@fullscreen", YES_NO, default=None, doc="sdl: fill the screen")
    default_mode: str | None = attr("@defaultMode", STR, default=None, doc="spice only; kept")
    p2p: bool | None = attr("@p2p", YES_NO, default=None, doc="dbus only; kept")
    bus_address: str | None = attr("@address", STR, default=None, doc="dbus only; kept")
    listens: tuple[GraphicsListen, ...] = many(GraphicsListen, default=(), doc="where it listens")
    channels: Raw | None = raw("channel", default=None, doc="spice only; kept")
    image: Raw | None = raw("image", default=None, doc="spice only; kept")
    jpeg: Raw | None = raw("jpeg", default=None, doc="spice only; kept")
    zlib: Raw | None = raw("zlib", default=None, doc="spice only; kept")
    playback: Raw | None = raw("playback", default=None, doc="spice only; kept")
    streaming: Raw | None = raw("streaming", default=None, doc="spice only; kept")
    clipboard: Raw | None = raw("clipboard", default=None, doc="spice only; kept")
    mouse: Raw | None = raw("mouse", default=None, doc="spice only; kept")
    filetransfer: Raw | None = raw("filetransfer", default=None, doc="spice only; kept")
    gl_enable: bool | None = attr("gl/@enable", YES_NO, default=None, doc="OpenGL")
    gl_rendernode: str | None = attr("gl/@rendernode", STR, default=None, doc="DRM device for OpenGL")
    audio_id: int | None = attr("audio/@id", UINT, default=None, doc="vnc: which audio backend")


@element("model")
class VideoModel(Element):
    """The video card."""

    type: str = attr(
        "@type",
        one_of(
            "video model",
            "vga",
            "cirrus",
            "vmvga",
            "xen",
            "vbox",
            "qxl",
            "parallels",
            "virtio",
            "gop",
            "none",
            "bochs",
            "ramfb",
        ),
        doc="which card",
    )
    ram: int | None = attr("@ram", UINT, default=None, doc="qxl: KiB")
    vram: int | None = attr("@vram", UINT, default=None, doc="video memory, KiB")
    vram64: int | None = attr("@vram64", UINT, default=None, doc="qxl: KiB")
    vgamem: int | None = attr("@vgamem", UINT, default=None, doc="qxl: KiB")
    heads: int | None = attr("@heads", UINT, default=None, doc="monitors")
    primary: bool | None = attr("@primary", YES_NO, default=None, doc="the card that the firmware uses")
    device: str | None = attr("@device", STR, default=None, doc="QEMU's device for it")
    blob: str | None = attr("@blob", STR, default=None, doc="virtio: blob resources, on or off")
    edid: str | None = attr("@edid", STR, default=None, doc="on or off")
    accel3d: bool | None = attr("acceleration/@accel3d", YES_NO, default=None, doc="3D")
    accel2d: bool | None = attr("acceleration/@accel2d", YES_NO, default=None, doc="2D")
    rendernode: str | None = attr("acceleration/@rendernode", STR, default=None, doc="DRM device")
    x: int | None = attr("resolution/@x", UINT, default=None, doc="width at start, pixels")
    y: int | None = attr("resolution/@y", UINT, default=None, doc="height at start, pixels")


@element("video")
class Video(Element):
    """A video card."""

    driver: VirtioOptions | None = child(VirtioOptions, default=None, doc="virtio options")
    model: VideoModel | None = child(VideoModel, default=None, doc="the card; the machine's default when absent")
    alias: str | None = alias()
    address: Address | None = address()


@element("sound")
class Sound(Element):
    """A sound card."""

    model: str = attr("@model", STR, doc="ac97, ich6, ich9, usb, virtio, …")
    codecs: Raw | None = raw("codec", default=None, doc="kept")
    audio_id: int | None = attr("audio/@id", UINT, default=None, doc="which audio backend")
    alias: str | None = alias()
    address: Address | None = address()


@element("audio")
class Audio(Element):
    """Where sound goes on the host."""

    id: int = attr("@id", UINT, doc="number that sound cards name")
    type: str = attr("@type", STR, doc="none, alsa, pulseaudio, pipewire, file, …")
    server_name: str | None = attr("@serverName", STR, default=None, doc="pulseaudio: its server")
    path: str | None = attr("@path", STR, default=None, doc="file: its path")
    runtime_dir: str | None = attr("@runtimeDir", STR, default=None, doc="pipewire: its directory")
    timer_period: int | None = attr("@timerPeriod", UINT, default=None, doc="microseconds")
    input: Raw | None = raw("input", default=None, doc="kept")
    output: Raw | None = raw("output", default=None, doc="kept")
