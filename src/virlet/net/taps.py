"""What every tap has in common, whoever opens it: queues, vhost-net, and what only root could do to its traffic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import Problem
from virlet.model.interface import DriverName, Interface
from virlet.net.base import Env
from virlet.plan.base import VHOST_NET, FdSource, Joined, JsonValue, OpenVhost

__all__ = ["check_tap", "members", "queues_of", "uses_vhost", "vhost_of"]

_VHOST = "vhost-net was requested for an interface, but is unavailable"


def queues_of(nic: Interface) -> int:
    """Pairs of queues; more than one only where the card is virtio."""
    return max(1, nic.driver.queues or 1) if nic.driver is not None and nic.is_virtio else 1


def vhost_path(nic: Interface) -> str:
    """The kernel's worker, or the file that ``<backend vhost=>`` names."""
    return (nic.backend.vhost if nic.backend is not None else None) or VHOST_NET


def uses_vhost(nic: Interface, env: Env) -> bool:
    """In the kernel's worker, as libvirt decides: virtio under KVM, unless the XML says ``qemu`` or there is none."""
    asked = nic.driver.name if nic.driver is not None else None
    if asked is DriverName.QEMU or not (nic.is_virtio and env.kvm):
        return False
    return asked is DriverName.VHOST or vhost_path(nic) != VHOST_NET or env.facts.host.vhost_net


def vhost_of(nic: Interface, env: Env) -> tuple[OpenVhost, ...]:
    """One worker a queue, or none."""
    if not uses_vhost(nic, env):
        return ()
    return tuple(OpenVhost(nic.alias or "", queue, vhost_path(nic)) for queue in range(queues_of(nic)))


def members(taps: Sequence[FdSource], nic: Interface, vhosts: Sequence[OpenVhost]) -> dict[str, JsonValue]:
    """The netdev without its id, in libvirt's order."""
    netdev: dict[str, JsonValue] = {"type": "tap"}
    netdev.update(_fds("fd", taps))
    if nic.sndbuf is not None:
        netdev["sndbuf"] = nic.sndbuf
    if vhosts:
        netdev["vhost"] = True
        netdev.update(_fds("vhostfd", vhosts))
    return netdev


def _fds(name: str, sources: Sequence[FdSource]) -> dict[str, JsonValue]:
    """``"fd": "19"``, or ``"fds": "19:20"``."""
    if len(sources) == 1:
        return {name: sources[0]}
    parts: list[str | FdSource] = []
    for source in sources:
        parts += [":", source] if parts else [source]
    return {f"{name}s": Joined(tuple(parts))}


def check_tap(nic: Interface, env: Env) -> Iterator[Problem]:
    """What neither a tap of somebody else's nor a bridge can have without root, in libvirt's words and codes."""
    if nic.bandwidth is not None:
        yield Problem(
            f"{env.path}/bandwidth",
            "Network bandwidth tuning is not available in session mode",
            hint="leave <bandwidth> out, and let root limit the device with tc",
            code=ErrorCode.OPERATION_UNSUPPORTED,
        )
    if nic.filterref is not None:
        yield Problem(
            f"{env.path}/filterref",
            "no connection driver available for nwfilter:///session",
            hint="leave <filterref> out, and let root filter the device with nft",
            code=ErrorCode.NO_CONNECT,
            domain=ErrorDomain.NONE,
        )
    asked = nic.driver.name if nic.driver is not None else None
    lacking = vhost_path(nic) == VHOST_NET and not env.facts.host.vhost_net
    if asked is DriverName.VHOST and nic.is_virtio and env.kvm and lacking:
        yield Problem(
            f"{env.path}/driver/@name",
            _VHOST,
            hint="let root run: modprobe vhost_net; chmod a+rw /dev/vhost-net; or leave name='vhost' out",
        )
