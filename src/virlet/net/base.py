"""What a network backend is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, runtime_checkable

from virlet.errors import Problem
from virlet.model.interface import Interface
from virlet.plan.base import NetPlan
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["Env", "NetBackend", "Upgrade"]


@dataclass(frozen=True, slots=True)
class Env:
    """What a plan may depend on beside the XML."""

    facts: Facts
    qemu: QemuFacts
    """The facts of this domain's emulator."""
    runtime: Path
    """Directory of the guest's sockets; short enough for ``sun_path``."""
    logs: Path
    """Directory of the guest's log files."""
    path: str
    """Where the interface stands in the XML: ``devices/interface[1]``."""
    shared_memory: bool = False
    bus_ids: Mapping[int, str] = field(default_factory=dict)
    """PCI bus number → what QEMU calls that bus: ``{0: "pcie.0", 1: "pci.1"}``."""
    kvm: bool = False
    """The domain runs under KVM."""
    boot_index: int | None = None
    """Place in the boot order when ``<os><boot>`` gives it; the interface's own ``<boot>`` excludes that."""


@runtime_checkable
class NetBackend(Protocol):
    """One way to connect a guest; entry-point group ``virlet.net``, ours register the same way as a stranger's."""

    name: str
    """As ``explain`` and ``doctor`` print it."""

    def handles(self, nic: Interface) -> bool:
        """Does the XML ask for this backend by name, or leave the choice to us?"""
        ...

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Can this host and this QEMU do it, and why not?"""
        ...

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Every problem of this interface on this backend."""
        ...

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """What to run and what QEMU is told; the interface has its alias, MAC and address."""
        ...


@runtime_checkable
class Upgrade(Protocol):
    """What a backend has besides that carries, better, what others carry too, at a price for the rest of the domain."""

    def offer(self, nic: Interface, env: Env) -> Support | None:
        """None where the interface asks for this backend; else whether the price is paid already, gain and price."""
        ...
