"""The network links of the host that a domain names, so that only those have to be looked at."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.model.elements import Domain
from virlet.model.interface import AUTO_TARGETS, Interface, InterfaceType

__all__ = ["links_named", "made_name", "names_device"]


def links_named(domain: Domain) -> Iterator[str]:
    """Names of taps, macvtaps and bridges."""
    for nic in domain.devices.interfaces:
        if nic.type is InterfaceType.ETHERNET and nic.target:
            yield nic.target
        elif nic.type is InterfaceType.BRIDGE and nic.source is not None and nic.source.bridge:
            yield nic.source.bridge


def names_device(nic: Interface) -> bool:
    """Its ``<target dev=>`` is a device's own name, not one that is made up at start."""
    return bool(nic.target) and (nic.target_managed is False or not (nic.target or "").startswith(AUTO_TARGETS))


def made_name(nic: Interface) -> str:
    """What a device that is made is called; the kernel puts a number where the template has ``%d``."""
    return nic.target if names_device(nic) and nic.target else "vnet%d"
