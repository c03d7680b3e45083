"""Small devices: input, watchdog, random numbers, balloon, panic, vsock."""

from __future__ import annotations

from enum import StrEnum

from virlet.enums import ErrorCode
from virlet.model.address import Address
from virlet.model.device import VirtioOptions, address, alias
from virlet.xml.declare import Element, attr, child, element, raw
from virlet.xml.kinds import ON_OFF, STR, UINT, YES_NO, enum, one_of
from virlet.xml.raw import Raw

__all__ = [
    "Input",
    "InputBus",
    "InputType",
    "MemBalloon",
    "Panic",
    "Rng",
    "RngBackend",
    "RngRate",
    "Vsock",
    "Watchdog",
    "WatchdogAction",
]


class InputType(StrEnum):
    """Kinds of input devices."""

    MOUSE = "mouse"
    TABLET = "tablet"
    KEYBOARD = "keyboard"
    PASSTHROUGH = "passthrough"
    EVDEV = "evdev"


class InputBus(StrEnum):
    """What an input device hangs on."""

    PS2 = "ps2"
    USB = "usb"
    XEN = "xen"
    PARALLELS = "parallels"
    VIRTIO = "virtio"
    NONE = "none"


class WatchdogAction(StrEnum):
    """What happens when the watchdog bites."""

    RESET = "reset"
    SHUTDOWN = "shutdown"
    POWEROFF = "poweroff"
    PAUSE = "pause"
    DUMP = "dump"
    NONE = "none"
    INJECT_NMI = "inject-nmi"


@element("input")
class Input(Element):
    """A keyboard, mouse or tablet."""

    type: InputType = attr(
        "@type",
        enum(InputType),
        doc="what it is",
        wrong="unknown input device type '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    bus: InputBus | None = attr(
        "@bus",
        enum(InputBus),
        default=None,
        doc="what it hangs on",
        wrong="unknown input bus type '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    model: str | None = attr("@model", STR, default=None, doc="virtio, virtio-transitional or virtio-non-transitional")
    driver: VirtioOptions | None = child(VirtioOptions, default=None, doc="virtio options")
    alias: str | None = alias()
    source: Raw | None = raw("source", default=None, doc="evdev, passthrough: the host's device; kept")
    address: Address | None = address()


@element("watchdog")
class Watchdog(Element):
    """A timer that the guest must pat."""

    model: str = attr("@model", one_of("watchdog model", "i6300esb", "ib700", "diag288", "itco"), doc="kind of device")
    action: WatchdogAction | None = attr("@action", enum(WatchdogAction), default=None, doc="reset when absent")
    alias: str | None = alias()
    address: Address | None = address()


@element("rate")
class RngRate(Element):
    """How much randomness the guest may take."""

    bytes: int = attr("@bytes", UINT, doc="bytes in a period")
    period: int | None = attr("@period", UINT, default=None, doc="milliseconds; 1000 when absent")


@element("backend")
class RngBackend(Element):
    """Where randomness comes from."""

    model: str = attr("@model", one_of("rng backend", "random", "egd", "builtin"), doc="random: a file")
    type: str | None = attr("@type", STR, default=None, doc="egd: tcp, unix, …")
    path: str | None = attr(".", STR, default=None, doc="random: the file; /dev/urandom when absent")
    source: Raw | None = raw("source", default=None, doc="egd: where; kept")


@element("rng")
class Rng(Element):
    """A source of random numbers."""

    model: str = attr(
        "@model", one_of("rng model", "virtio", "virtio-transitional", "virtio-non-transitional"), doc="kind of device"
    )
    driver: VirtioOptions | None = child(VirtioOptions, default=None, doc="virtio options")
    rate: RngRate | None = child(RngRate, default=None, doc="limit")
    backend: RngBackend = child(
        RngBackend, doc="where the numbers come from", missing="only one RNG backend is supported"
    )
    alias: str | None = alias()
    address: Address | None = address()


@element("memballoon")
class MemBalloon(Element):
    """The device that gives memory back to the host."""

    model: str = attr(
        "@model",
        one_of("balloon model", "virtio", "virtio-transitional", "virtio-non-transitional", "xen", "none"),
        doc="kind of device; none: no balloon",
    )
    autodeflate: bool | None = attr(
        "@autodeflate", ON_OFF, default=None, doc="give memory back before the guest runs out"
    )
    free_page_reporting: bool | None = attr("@freePageReporting", ON_OFF, default=None, doc="report free pages")
    stats_period: int | None = attr("stats/@period", UINT, default=None, doc="seconds between statistics")
    alias: str | None = alias()
    driver: VirtioOptions | None = child(VirtioOptions, default=None, doc="virtio options")
    address: Address | None = address()


@element("panic")
class Panic(Element):
    """The device by which a guest tells that it crashed."""

    model: str | None = attr("@model", STR, default=None, doc="isa, pvpanic, hyperv, …")
    alias: str | None = alias()
    address: Address | None = address()


@element("vsock")
class Vsock(Element):
    """A socket between host and guest that needs no network."""

    model: str | None = attr("@model", STR, default=None, doc="virtio, virtio-transitional or virtio-non-transitional")
    cid_auto: bool | None = attr("cid/@auto", YES_NO, default=None, doc="let the host choose the number")
    cid: int | None = attr("cid/@address", UINT, default=None, doc="context id of the guest, 3 or more")
    driver: VirtioOptions | None = child(VirtioOptions, default=None, doc="virtio options")
    alias: str | None = alias()
    address: Address | None = address()
