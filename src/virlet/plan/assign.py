"""What the XML leaves open, filled in: machine, implied devices and addresses at define time, aliases at start."""

from __future__ import annotations

from virlet.model.domain import Domain
from virlet.plan.addresses import place_all
from virlet.plan.aliases import name_all
from virlet.plan.base import GuestDirs
from virlet.plan.defaults import fill
from virlet.plan.facts import QemuFacts
from virlet.xml.declare import replace

__all__ = ["assign_aliases", "assign_defaults"]

_MIB = 1024
"""In KiB, as <memory> is kept."""


def assign_defaults(domain: Domain, qemu: QemuFacts) -> Domain:
    """The definition with its versioned machine type, implied devices and every address.

    Idempotent, and an address that is there stays, so a definition that is read back and defined again is the same.
    Raises XmlError when an address is used twice, BadConfig for a device that has no room on PCI, InternalError when
    USB is full, ConfigUnsupported when a USB device has no controller.
    """
    return place_all(fill(domain, qemu))


def assign_aliases(domain: Domain, dirs: GuestDirs | None = None) -> Domain:
    """The live form of a definition: every device has its alias; those beginning with ``ua-`` are the user's.

    With *dirs*, a channel that leaves its socket to us says where it is.  Memory is rounded up to whole MiB, as libvirt
    does at start (its documentation of <memory>).
    """
    return name_all(_whole_mebibytes(domain), dirs)


def _whole_mebibytes(domain: Domain) -> Domain:
    """QEMU rounds what ``-m`` says up to its pages, and then refuses a memory back end of the size that was meant."""
    memory = -(-domain.memory // _MIB) * _MIB
    if memory == domain.memory:
        return domain
    current = domain.current_memory
    return replace(domain, memory=memory, current_memory=memory if current == domain.memory else current)
