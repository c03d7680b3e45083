"""A host, a QEMU and a passt that a test can change, and interfaces from XML."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from virlet.model.domain import parse_interface
from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.plan.facts import Facts, HostFacts, PasstFacts, QemuFacts, Support
from virlet.plan.follow import Uplinks

OPTIONS = frozenset(
    {"foreground", "fd", "mtu", "address", "netmask", "gateway", "interface", "tcp-ports", "udp-ports", "dns-forward"}
)
QEMU = QemuFacts(
    path="/usr/bin/qemu-system-x86_64",
    arch="x86_64",
    version=(7, 2, 0),
    netdevs={"stream": frozenset({"addr", "server"}), "user": frozenset({"hostfwd", "net"})},
)
HOST = HostFacts(
    arch="x86_64",
    hostname="host",
    machine_id="",
    uuid="",
    boot_id="",
    uid=1000,
    gid=1000,
    memory_kib=1 << 20,
    cpus=1,
    uplinks=Uplinks(frozenset({(4, "eth0")})),
    interfaces=frozenset({"lo", "eth0"}),
)
PASST = PasstFacts("/usr/bin/passt", OPTIONS, Support(True, "it ran"))

EnvOf = Callable[..., Env]


@pytest.fixture
def env_of() -> EnvOf:
    """An environment; ``passt``, ``netdevs`` and the members of :class:`HostFacts` can be given."""

    def make(
        *, passt: PasstFacts | None = PASST, netdevs: Any = None, boot_index: int | None = None, **host: Any
    ) -> Env:
        qemu = QEMU if netdevs is None else replace(QEMU, netdevs=netdevs)
        facts = Facts(replace(HOST, **host), {qemu.path: qemu}, passt)
        return Env(
            facts=facts,
            qemu=qemu,
            runtime=Path("/run/v/1"),
            logs=Path("/logs/1"),
            path="devices/interface[1]",
            bus_ids={0: "pcie.0", 1: "pci.1"},
            boot_index=boot_index,
        )

    return make


NicOf = Callable[..., Interface]


@pytest.fixture
def nic_of() -> NicOf:
    """An interface from what stands inside the element, with the alias that it has when it runs."""

    def make(inside: str = "", *, passt: bool = False, kind: str = "user") -> Interface:
        backend = "<backend type='passt'/>" if passt else ""
        mac = "" if "<mac" in inside else "<mac address='52:54:00:12:34:56'/>"
        nic, _ = parse_interface(f"<interface type='{kind}'>{mac}{inside}{backend}</interface>")
        return replace(nic, alias="net0")

    return make
