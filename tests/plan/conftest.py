"""Facts of real programs, and what a plan is made of."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from virlet.model.domain import Domain, parse_domain
from virlet.net.choose import Registry
from virlet.net.passt import Passt
from virlet.net.slirp import Slirp
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import GuestDirs, LaunchPlan
from virlet.plan.facts import Facts, HostFacts, PasstFacts, Support
from virlet.plan.follow import Uplinks
from virlet.plan.launch import plan_launch
from virlet.testing.scene import recorded_qemu

HERE = Path(__file__).parent
OLD_PASST = frozenset(
    {"foreground", "fd", "stderr", "mtu", "address", "netmask", "gateway", "interface"}
    | {"tcp-ports", "udp-ports", "dns", "dns-forward", "quiet", "debug", "trace", "pcap", "mac-addr", "search"}
    | {"outbound", "outbound-if4", "outbound-if6", "no-dhcp-dns", "no-dhcp-search", "no-tcp", "no-udp", "no-icmp"}
    | {"no-dhcp", "no-ndp", "no-dhcpv6", "no-ra", "no-map-gw", "ipv4-only", "ipv6-only", "log-size"}
)
NEW_PASST = OLD_PASST - {"stderr"} | {"hostname", "fqdn", "vhost-user", "dns-host", "map-host-loopback"}
GENERATIONS = ("7.2", "11.1")


def facts_of(generation: str) -> Facts:
    """The facts of a host with that QEMU and the passt of its time."""
    qemu = recorded_qemu(json.loads((HERE / "facts" / f"qemu-{generation}.json").read_text()))
    old = generation == "7.2"
    passt = PasstFacts("/usr/bin/passt", OLD_PASST if old else NEW_PASST, Support(True), needs_route=old)
    host = HostFacts(
        arch="x86_64",
        hostname="host",
        machine_id="0" * 32,
        uuid="",
        boot_id="",
        uid=1000,
        gid=1000,
        memory_kib=4 << 20,
        cpus=2,
        uplinks=Uplinks(frozenset({(4, "eth0")})),
        interfaces=frozenset({"lo", "eth0"}),
        nameservers=("192.0.2.53",),
    )
    return Facts(host, {qemu.path: qemu}, passt)


@pytest.fixture(params=GENERATIONS)
def facts(request: pytest.FixtureRequest) -> Facts:
    """The oldest and the newest generation that we know."""
    return facts_of(request.param)


@pytest.fixture
def newest_facts() -> Facts:
    """The newest generation that we know."""
    return facts_of(GENERATIONS[-1])


@pytest.fixture
def dirs() -> GuestDirs:
    return GuestDirs(Path("/run/v/1"), Path("/logs/1"), Path("/state/1"))


@pytest.fixture
def registry() -> Registry:
    return Registry((Passt(), Slirp()))


def defined(xml: str, facts: Facts) -> Domain:
    """The domain as it is stored."""
    domain, _ = parse_domain(xml)
    return assign_defaults(domain, next(iter(facts.qemu.values())))


PlanOf = Callable[[str, Facts], LaunchPlan]


@pytest.fixture
def plan_of(dirs: GuestDirs, registry: Registry) -> PlanOf:
    """The plan of an XML text."""

    def plan(xml: str, facts: Facts) -> LaunchPlan:
        return plan_launch(assign_aliases(defined(xml, facts), dirs), facts, dirs, registry)

    return plan


@pytest.fixture
def golden_tag(facts: Facts) -> str:
    """Part of the name of recorded plans: the QEMU's major and minor version."""
    return "{}.{}".format(*next(iter(facts.qemu.values())).version)
