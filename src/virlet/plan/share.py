"""Memory that is shared because the user's configuration says so, for networks that are better for it."""

from __future__ import annotations

from dataclasses import replace

from virlet.model.domain import Domain
from virlet.model.interface import InterfaceType
from virlet.model.machine import MemoryAccess, MemoryBacking, MemorySource
from virlet.net.base import Upgrade
from virlet.net.choose import Registry
from virlet.plan.check import emulator_of
from virlet.plan.facts import Facts

__all__ = ["with_shared_memory"]


def with_shared_memory(domain: Domain, facts: Facts, registry: Registry) -> Domain:
    """*domain* with memory that others may map, if the configuration wants that and a user network gains by it.

    A domain that says how its memory is made, or who may see it, keeps that.
    """
    backing, qemu = domain.memory_backing or MemoryBacking(), emulator_of(domain, facts)
    said = backing.access is not None or backing.source is not None or backing.hugepages is not None
    if said or qemu is None or not facts.host.share_memory:
        return domain
    better = [each for each in registry.backends if isinstance(each, Upgrade) and each.judge(facts, qemu)]
    nics = [nic for nic in domain.devices.interfaces if nic.type is InterfaceType.USER and nic.is_virtio]
    if not any(each.handles(nic) and nic.forced_backend in (None, each.name) for each in better for nic in nics):
        return domain
    shared = replace(backing, source=MemorySource.MEMFD, access=MemoryAccess.SHARED)
    return replace(domain, memory_backing=shared)
