"""What of an interface could never work, on any host, and libvirt leaves to passt and QEMU to find out at start.

What libvirt itself refuses is refused when the XML is read (:mod:`virlet.model.check_interface`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.interface import DriverName, Interface, InterfaceType
from virlet.model.port_forward import PortForward, PortRange
from virlet.net.forwards import HIGHEST_PORT, clashes, flatten
from virlet.net.refuse_addresses import refuse_addresses
from virlet.net.rules import rules_of
from virlet.plan.base import Forward

__all__ = ["check_forwards_of_all", "refuse", "refuse_at_start"]


def refuse(nic: Interface, path: str) -> Iterator[Problem]:
    """Every problem of the interface that stands at *path*."""
    log_file = nic.backend.log_file if nic.backend is not None else None
    if nic.wants_passt and log_file is not None and not log_file.startswith("/"):
        yield Problem(
            f"{path}/backend/@logFile",
            f"'{log_file}' is not an absolute path",
            hint="begin it with '/'",
            code=ErrorCode.XML_ERROR,
        )
    yield from refuse_addresses(nic, path)
    yield from _forwards(nic, path)


def _forwards(nic: Interface, path: str) -> Iterator[Problem]:
    broken = False
    for number, forward in enumerate(nic.port_forwards, 1):
        for problem in _forward(forward, f"{path}/portForward[{number}]"):
            broken = True
            yield problem
    if not broken:
        forwards = tuple(chain.from_iterable(flatten(rule) for rule in rules_of(nic, path)))
        yield from _clashes(forwards)


def _forward(forward: PortForward, path: str) -> Iterator[Problem]:
    for number, item in enumerate(forward.ranges, 1):
        yield from _range(item, f"{path}/range[{number}]")


def _range(item: PortRange, path: str) -> Iterator[Problem]:
    if item.start is None:
        return
    end = item.start if item.end is None else item.end
    if end < item.start:
        yield _bad_range(f"{path}/@end", f"the range ends at port {end}, before its start {item.start}")
        return
    for name, port in (("start", item.start), ("end", end), ("to", item.to)):
        if port is not None and port > HIGHEST_PORT:
            yield _bad_range(f"{path}/@{name}", f"there is no port {port}: the highest is {HIGHEST_PORT}")
            return
    if item.to is not None and item.exclude:
        yield _bad_range(f"{path}/@to", "ports that are excluded have no port in the guest")
    elif item.to is not None and item.to + end - item.start > HIGHEST_PORT:
        last = item.to + end - item.start
        yield _bad_range(f"{path}/@to", f"the range reaches port {last} of the guest: the highest is {HIGHEST_PORT}")


def _bad_range(path: str, text: str) -> Problem:
    return Problem(path, text, code=ErrorCode.XML_ERROR)


def check_forwards_of_all(nics: Sequence[tuple[Interface, str]]) -> Iterator[Problem]:
    """Host ports that two interfaces of one domain both want; *nics* come with their places in the XML."""
    seen: list[tuple[str, Forward]] = []
    for nic, path in nics:
        for forward in chain.from_iterable(flatten(rule) for rule in rules_of(nic, path)):
            for other_path, other in seen:
                if other_path != path:
                    yield from _clashes((other, forward))
            seen.append((path, forward))


def _clashes(forwards: Sequence[Forward]) -> Iterator[Problem]:
    for one, other in clashes(forwards):
        port = max(one.start, other.start)
        yield Problem(
            other.path,
            f"{other.proto} port {port} of the host is forwarded already by {one.path}",
            hint="forward each host port once",
        )


_QUEUED = frozenset({InterfaceType.ETHERNET, InterfaceType.BRIDGE, InterfaceType.VHOSTUSER})
_VHOST = frozenset({InterfaceType.VHOSTUSER})
_TAPS = frozenset({InterfaceType.ETHERNET, InterfaceType.BRIDGE})
"""Their planners refuse <bandwidth> with libvirt's words."""


def refuse_at_start(nic: Interface, path: str) -> Iterator[Problem]:
    """What may be defined but not started, whichever backend carries the interface."""
    driver = nic.driver
    if driver is not None and nic.is_virtio and (driver.queues or 0) > 1 and nic.type not in _QUEUED:
        yield Problem(
            f"{path}/driver/@queues",
            f"interface {nic.mac} - multiqueue is not supported for network interfaces of type {nic.type}",
        )
    yield from _without_device(nic, path)
    if nic.bandwidth is not None and nic.type not in _TAPS:
        # libvirt writes a warning into its log and goes on without the limit.
        yield Problem(
            f"{path}/bandwidth",
            f"<bandwidth> is not possible on interfaces of type {nic.type}",
            hint="remove it: nothing between the guest and this host can limit the traffic",
        )
    yield from _queue_sizes(nic, path)


def _without_device(nic: Interface, path: str) -> Iterator[Problem]:
    """What is about a device of the host's, where there is none: libvirt drops or ignores all but the first."""
    if nic.type is not InterfaceType.ETHERNET:
        for below, script in (("script", nic.script), ("downscript", nic.downscript)):
            if script is not None:
                text = f"scripts are not supported on interfaces of type {nic.type}"
                yield Problem(f"{path}/{below}", text, hint="leave it out: there is no device to set up")
    if nic.trust_guest_rx_filters:
        text = "trustGuestRxFilters: what the guest wishes for its device can be set up by root alone"
        yield Problem(f"{path}/@trustGuestRxFilters", text, hint="leave it out")
    if nic.type in _TAPS:
        return
    if nic.filterref is not None:
        yield Problem(
            f"{path}/filterref",
            f"<filterref> is not possible on interfaces of type {nic.type}: nothing would be filtered",
            hint="leave it out; what the guest may reach is what this host's user may reach",
        )
    if nic.sndbuf is not None:
        text = f"<sndbuf> is not possible on interfaces of type {nic.type}: it is a tap device's"
        yield Problem(f"{path}/tune/sndbuf", text, hint="leave it out")


def _queue_sizes(nic: Interface, path: str) -> Iterator[Problem]:
    """QEMU's limits: only a worker outside QEMU (vhost-user, vhost-net) may have more than 256 entries to send."""
    driver = nic.driver
    if driver is None or not nic.is_virtio:
        return
    long = nic.type in _VHOST or (nic.type in _QUEUED and driver.name is DriverName.VHOST)
    for name, size, high in (
        ("rx_queue_size", driver.rx_queue_size, 1024),
        ("tx_queue_size", driver.tx_queue_size, 1024 if long else 256),
    ):
        if size and not 256 <= size <= high:
            what = "a user network" if nic.type is InterfaceType.USER else f"interfaces of type {nic.type}"
            hint = f"use 256 to {high}" if high > 256 else "use 256"
            yield Problem(f"{path}/driver/@{name}", f"{name} {size} is not possible on {what}", hint=hint)
