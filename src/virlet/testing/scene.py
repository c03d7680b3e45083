"""A host as a test wants it: facts and environments for planners, without looking at any machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from virlet.net.base import Env
from virlet.plan.facts import (
    CpuModel,
    Facts,
    HostFacts,
    Link,
    MachineType,
    PasstFacts,
    QemuFacts,
    SlirpHelperFacts,
    Support,
)
from virlet.plan.follow import Uplinks

__all__ = ["example_env", "example_facts", "recorded_qemu", "without_anything"]

_NETDEVS = {
    "dgram": "local remote",
    "hubport": "hubid netdev",
    "socket": "connect fd listen localaddr mcast udp",
    "stream": "addr reconnect-ms server",
    "tap": "fd fds sndbuf vhost vhostfd vhostfds vnet_hdr",
    "user": "dns guestfwd host hostfwd ipv4 ipv6 ipv6-prefix ipv6-prefixlen net restrict",
    "vhost-user": "chardev queues",
}
_PASST = (
    "address dns dns-forward dns-host fd foreground fqdn gateway hostname interface map-host-loopback mtu netmask"
    " tcp-ports udp-ports vhost-user"
)
_HELPER = "ipv4 ipv6 tftp restrict exit-with-parent exit-with-fd mtu hostfwd hostfwd-ipv6 guestfwd dns guest-mac"
_UID = 1000
_BRIDGE_HELPER = "/usr/lib/qemu/qemu-bridge-helper"


def example_facts(*, qemu: QemuFacts | None = None) -> Facts:
    """A host on which every backend of virlet's own can run: a recent QEMU (or *qemu*), passt, the slirp helper.

    It has the links ``eth0``, ``br0`` (a bridge), ``tap0`` (a tap of the user's) and ``macvtap0`` (a macvtap with the
    address 52:54:00:12:34:56).
    """
    found = qemu or QemuFacts(
        path="/usr/bin/qemu-system-x86_64",
        arch="x86_64",
        version=(11, 1, 0),
        netdevs={name: frozenset(("type", "id", *members.split())) for name, members in _NETDEVS.items()},
        chardevs={"socket": frozenset({"addr", "server", "wait", "reconnect-ms"})},
        events=frozenset({"NETDEV_VHOST_USER_CONNECTED"}),
    )
    links = (
        Link("eth0", 2, "", "02:00:00:00:00:02", up=True, mtu=1500),
        Link("br0", 3, "bridge", "02:00:00:00:00:03", up=True, mtu=1500),
        Link("tap0", 4, "tun", "02:00:00:00:00:04", up=True, mtu=1500, tap=True, owner=_UID, multi_queue=False),
        Link("macvtap0", 5, "macvtap", "52:54:00:12:34:56", up=True, mtu=1500, node="/dev/tap5", device="246:1"),
    )
    return Facts(
        host=_host(frozenset({"lo", *(link.name for link in links)})),
        qemu={found.path: found},
        passt=PasstFacts("/usr/bin/passt", frozenset(_PASST.split()), Support(True, "it ran")),
        slirp_helper=SlirpHelperFacts(
            ("/usr/bin/virlet-slirp-helper",), Support(True), frozenset(_HELPER.split()), "4.8.0"
        ),
        links={link.name: link for link in links},
    )


def _host(interfaces: frozenset[str]) -> HostFacts:
    return HostFacts(
        arch="x86_64",
        hostname="host",
        machine_id="0" * 32,
        uuid="",
        boot_id="",
        uid=_UID,
        gid=_UID,
        memory_kib=4 << 20,
        cpus=2,
        uplinks=Uplinks(frozenset((family, link) for family in (4, 6) for link in interfaces - {"lo"})),
        interfaces=interfaces,
        bridge_helper=_BRIDGE_HELPER,
        bridge_helper_may=Support(True, "it is set-user-ID"),
        nameservers=("192.0.2.53", "2001:db8::53"),
    )


def example_env(facts: Facts | None = None, *, number: int = 1) -> Env:
    """The environment of the interface with that 1-based *number*, in a domain whose memory is shared."""
    known = facts or example_facts()
    return Env(
        facts=known,
        qemu=next(iter(known.qemu.values())),
        runtime=Path("/run/user/1000/virlet/0123456789"),
        logs=Path("/home/user/.local/state/virlet/log/0123456789"),
        path=f"devices/interface[{number}]",
        shared_memory=True,
        bus_ids={0: "pcie.0", 1: "pci.1", 2: "pci.2"},
    )


def without_anything(facts: Facts) -> Facts:
    """The same host with none of the programs that a backend may use, and a QEMU that has no network."""
    bare = {path: replace(qemu, netdevs={}, chardevs={}, commands=frozenset()) for path, qemu in facts.qemu.items()}
    host = replace(
        facts.host,
        interfaces=frozenset({"lo"}),
        uplinks=Uplinks(),
        bridge_helper="",
        bridge_helper_may=Support(False, "there is none", "install one"),
        nameservers=(),
    )
    return Facts(host, bare)


def recorded_qemu(said: Mapping[str, Any]) -> QemuFacts:
    """The facts of a QEMU as recorded in JSON: the members of :class:`QemuFacts`, sets as lists."""

    def sets(members: Mapping[str, list[str]]) -> dict[str, frozenset[str]]:
        return {name: frozenset(words) for name, words in members.items()}

    major, minor, micro = said["version"]
    return QemuFacts(
        path=said["path"],
        arch=said["arch"],
        version=(major, minor, micro),
        machines={board["name"]: MachineType(**board) for board in said["machines"]},
        devices=frozenset(said["devices"]),
        objects=frozenset(said["objects"]),
        netdevs=sets(said["netdevs"]),
        chardevs=sets(said["chardevs"]),
        blockdevs=frozenset(said["blockdevs"]),
        commands=frozenset(said["commands"]),
        events=frozenset(said["events"]),
        options=sets(said["options"]),
        accels=frozenset(said["accels"]),
        cpus={cpu["name"]: CpuModel(**{**cpu, "missing": frozenset(cpu["missing"])}) for cpu in said["cpus"]},
    )
