"""The ``<portForward>`` element of an interface: host ports that reach the guest."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from virlet.xml.declare import Element, attr, element, many
from virlet.xml.kinds import IP, POSITIVE, STR, YES_NO, enum

__all__ = ["PortForward", "PortRange", "Proto"]


class Proto(StrEnum):
    """Protocols that can be forwarded."""

    TCP = "tcp"
    UDP = "udp"


@element("range")
class PortRange(Element):
    """Ports to forward, or to leave out."""

    start: int | None = attr("@start", POSITIVE, default=None, doc="first port on the host")
    end: int | None = attr("@end", POSITIVE, default=None, doc="last port on the host; the first when absent")
    to: int | None = attr(
        "@to", POSITIVE, default=None, doc="port of the guest that 'start' reaches; the same when absent"
    )
    exclude: bool | None = attr("@exclude", YES_NO, default=None, doc="yes: these ports are not forwarded")


@element("portForward")
class PortForward(Element):
    """Host ports that reach the guest."""

    proto: Proto = attr("@proto", enum(Proto), doc="which protocol to forward")
    address: IPv4Address | IPv6Address | None = attr(
        "@address",
        IP,
        default=None,
        doc="host address to listen on; all when absent",
        wrong="Invalid address '{value}' in <portForward>",
    )
    dev: str | None = attr("@dev", STR, default=None, doc="host interface to listen on")
    ranges: tuple[PortRange, ...] = many(PortRange, default=(), doc="which ports; all when absent")
