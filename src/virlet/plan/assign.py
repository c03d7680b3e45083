"""What the XML leaves open, filled in: controllers and addresses at define time, aliases for the running guest."""

from __future__ import annotations

from virlet.model.domain import Domain
from virlet.plan.facts import QemuFacts

__all__ = ["assign_aliases", "assign_defaults"]


def assign_defaults(domain: Domain, qemu: QemuFacts) -> Domain:
    """The definition with implied devices and every address; idempotent, and an address that is there stays.

    Raises ConfigUnsupported when a bus has no free slot, XmlError when an address is used twice.
    """
    raise NotImplementedError


def assign_aliases(domain: Domain) -> Domain:
    """The live form of a definition: each device has its alias; those beginning with ``ua-`` are the user's."""
    raise NotImplementedError
