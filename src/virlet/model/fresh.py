"""What a definition needs that no XML says: a uuid, a MAC address.  Injected, so that loading stays a function."""

from __future__ import annotations

import os
import uuid
from typing import Protocol

__all__ = ["Fresh", "RandomFresh"]


class Fresh(Protocol):
    """A source of names that nobody else has."""

    def uuid(self) -> uuid.UUID:
        """A new uuid."""
        ...

    def mac(self) -> str:
        """A new unicast MAC address, lower case with colons."""
        ...


class RandomFresh:
    """Random ones, MAC addresses in QEMU's range 52:54:00 as libvirt makes them."""

    def uuid(self) -> uuid.UUID:
        return uuid.uuid4()

    def mac(self) -> str:
        tail = os.urandom(3)
        return "52:54:00:" + ":".join(f"{octet:02x}" for octet in tail)
