"""``<interface type='internal'>``: another spelling of QEMU's user network, as libvirt renders it."""

from __future__ import annotations

from virlet.model.interface import Interface, InterfaceType
from virlet.net.slirp import Slirp

__all__ = ["Internal"]


class Internal(Slirp):
    """A user network of QEMU's own; the name of its ``<source>`` has no effect."""

    name = "internal"

    def handles(self, nic: Interface) -> bool:
        """``<interface type='internal'>``."""
        return nic.type is InterfaceType.INTERNAL
