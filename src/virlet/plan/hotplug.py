"""A network interface for a guest that runs: the plan of a start, as steps for QEMU's monitor.  Nothing is sent here.

The same :class:`virlet.plan.base.NetPlan` is rendered to words by :mod:`virlet.plan.launch` and to commands here; a
test compares both.  Two things differ, because a running QEMU inherits nothing: descriptors are sent and named
(``getfd``), and a socket that QEMU listens on is bound by QEMU itself.  ``netdev_add`` would take a listening
descriptor that has a name, but looks it up in a thread that knows no monitor, so that it never works and nobody is told
(QEMU 7.2 to 11.1); ``add-fd`` gives a number that works, and 7.2 closes it when the monitor's client leaves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from virlet.errors import BadConfig, InternalError, Problem
from virlet.model.check_domain import check_domain
from virlet.model.domain import Domain
from virlet.model.interface import Interface
from virlet.net.choose import Registry
from virlet.plan.addresses import place_all
from virlet.plan.base import FdSource, GuestDirs, JsonValue, Listener, NetPlan, QmpCommand, render_json
from virlet.plan.check import check_define, check_launch, emulator_of
from virlet.plan.facts import Facts
from virlet.plan.launch import plan_net, scene_of

__all__ = [
    "HotNet",
    "SendFd",
    "heat",
    "kept_name",
    "new_problems",
    "plan_attach",
    "with_interface",
    "without_interface",
]


@dataclass(frozen=True, slots=True)
class SendFd:
    """A descriptor that QEMU is given a copy of (``getfd``)."""

    name: str
    source: FdSource


@dataclass(frozen=True, slots=True)
class HotNet:
    """The steps of an attachment: *sends*, *chardev_add*, *netdev_add*, *then* or the helper, *device_add*, *after*."""

    net: NetPlan
    sends: tuple[SendFd, ...]
    chardev_add: QmpCommand | None
    """What the backend speaks through."""
    netdev_add: QmpCommand
    device_add: QmpCommand
    then: tuple[QmpCommand, ...]
    """Further backends behind *netdev_add*'s, by which QEMU starts the helper itself."""
    after: tuple[QmpCommand, ...]
    listens: Path | None
    """The socket that QEMU binds soon after it has answered *netdev_add*; its helper is given a connection to it."""

    @property
    def netdev(self) -> str:
        """QEMU's id of the backend."""
        return str(self.net.netdev["id"])


def heat(net: NetPlan) -> HotNet:
    """*net* for a QEMU that runs already."""
    listens = next((source.path for source in net.fds if isinstance(source, Listener)), None)
    names: dict[FdSource, str] = {}

    def name(source: FdSource) -> str:
        return names.setdefault(source, f"fd-{net.alias}-{len(names)}")

    netdev = _named(_bound_by_qemu(net.netdev), name)
    device = _named(net.device, name)
    kept = tuple(SendFd(kept_name(net.alias, n), source) for n, source in enumerate(net.keeps))
    helper = net.helper
    return HotNet(
        net=net,
        sends=(*(SendFd(word, source) for source, word in names.items()), *kept),
        chardev_add=_chardev(net),
        netdev_add=QmpCommand("netdev_add", netdev),
        device_add=QmpCommand("device_add", device),
        then=() if helper is None or helper.forked is None else helper.forked.adds,
        after=() if net.starts_up else (QmpCommand("set_link", {"name": net.alias, "up": False}),),
        listens=listens,
    )


def kept_name(alias: str, number: int) -> str:
    """What QEMU calls a descriptor that it only holds for the interface's helper (:attr:`NetPlan.keeps`)."""
    return f"keep-{alias}-{number}"


def _chardev(net: NetPlan) -> QmpCommand | None:
    chardev = net.chardev
    return None if chardev is None else QmpCommand("chardev-add", {"id": chardev.id, "backend": chardev.backend})


def _named(value: Mapping[str, JsonValue], name: Callable[[FdSource], str]) -> Mapping[str, JsonValue]:
    rendered = render_json(value, name)
    assert isinstance(rendered, dict)
    return rendered


def _bound_by_qemu(netdev: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
    match netdev.get("addr"):
        case {"type": "fd", "str": Listener(path=path)}:
            return {**netdev, "addr": {"type": "unix", "path": str(path)}}
    return netdev


def plan_attach(
    live: Domain, nic: Interface, facts: Facts, dirs: GuestDirs, registry: Registry
) -> tuple[Interface, HotNet]:
    """*nic* with the alias and address that it gets beside the devices of *live*, and how it is attached.

    Raises BadConfig with every problem that *live* has only with it, XmlError when its address is taken, InternalError
    when there is no room for it, all with libvirt's words.
    """
    named = nic if nic.alias is not None else replace(nic, alias=_free_alias(live))
    domain = place_all(with_interface(live, named))
    if len(domain.devices.controllers) > len(live.devices.controllers):
        express = any(item.model == "pcie-root" for item in live.devices.controllers)
        more = "pcie-root-port'/>, one for each device to come" if express else "pci-bridge'/>"
        hint = f"for the guest's next start, define more <controller type='pci' model='{more}"
        raise InternalError("No more available PCI slots", hint=hint)
    problems = new_problems(domain, live, lambda each: check_launch(each, facts, registry))
    if problems:
        raise BadConfig(problems)
    qemu = emulator_of(domain, facts)
    assert qemu is not None, "a running guest has an emulator"
    scene = scene_of(domain, facts, qemu, dirs)
    number = len(domain.devices.interfaces)
    placed = domain.devices.interfaces[-1]
    return placed, heat(plan_net(scene, number, placed, registry))


def _free_alias(domain: Domain) -> str:
    taken = {nic.alias for nic in domain.devices.interfaces}
    return next(name for name in (f"net{n}" for n in range(len(taken) + 1)) if name not in taken)


def new_problems(
    now: Domain, before: Domain, check: Callable[[Domain], Iterable[Problem]] = check_define
) -> list[Problem]:
    """What *check* and the reader of XML have against *now* and did not have against *before*."""
    known = {*check_domain(before), *check(before)}
    return [problem for problem in (*check_domain(now), *check(now)) if problem not in known]


def with_interface(domain: Domain, nic: Interface) -> Domain:
    """*domain* with one interface more."""
    return _with(domain, (*domain.devices.interfaces, nic))


def without_interface(domain: Domain, alias: str) -> Domain:
    """*domain* without the interface called *alias*."""
    return _with(domain, (nic for nic in domain.devices.interfaces if nic.alias != alias))


def _with(domain: Domain, nics: Iterable[Interface]) -> Domain:
    return replace(domain, devices=replace(domain.devices, interfaces=tuple(nics)))
