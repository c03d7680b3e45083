"""What libvirt has no word for in a user network of slirp's: addresses of the network that lead to the host."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from virlet.model.namespaces import VIRLET
from virlet.xml.declare import Element, attr, element
from virlet.xml.kinds import IP, POSITIVE, STR

__all__ = ["GuestForward"]


@element("guestForward", namespace=VIRLET, prefix="virlet")
class GuestForward(Element):
    """virlet's own: an address and TCP port of the guest's network behind which something of the host's answers."""

    address: IPv4Address | IPv6Address = attr("@address", IP, doc="IPv4, inside the network, and nobody else's in it")
    port: int = attr("@port", POSITIVE, doc="TCP port")
    command: str | None = attr("@command", STR, default=None, doc="run for each connection (slirp-helper alone)")
    socket: str | None = attr("@socket", STR, default=None, doc="path of a UNIX stream socket of the host's")
    host: IPv4Address | IPv6Address | None = attr("@host", IP, default=None, doc="address that the host reaches")
    host_port: int | None = attr("@hostPort", POSITIVE, default=None, doc="and its TCP port; the same when absent")

    @property
    def to_port(self) -> int:
        """The TCP port at *host*."""
        return self.port if self.host_port is None else self.host_port
