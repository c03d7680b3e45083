"""The forwarding rules of an interface as the plain values that the arithmetic takes."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.interface import Interface
from virlet.model.port_forward import PortForward
from virlet.net.forwards import Rule, Span, flatten

__all__ = ["privileged_ports", "rule_of", "rules_of"]


def rules_of(nic: Interface, path: str) -> tuple[Rule, ...]:
    """One rule for each ``<portForward>`` of the interface that stands at *path*."""
    return tuple(rule_of(forward, f"{path}/portForward[{n}]") for n, forward in enumerate(nic.port_forwards, 1))


def rule_of(forward: PortForward, path: str) -> Rule:
    """The rule of one ``<portForward>``; ranges without a start mean nothing and are refused elsewhere."""
    return Rule(
        proto=str(forward.proto),
        address=None if forward.address is None else str(forward.address),
        device=forward.dev,
        spans=tuple(
            Span(item.start, item.end, item.to, bool(item.exclude)) for item in forward.ranges if item.start is not None
        ),
        path=path,
    )


def privileged_ports(nic: Interface, path: str, lowest: int) -> Iterator[Problem]:
    """Host ports below *lowest* (``net.ipv4.ip_unprivileged_port_start``), which are root's; one a rule."""
    for rule in rules_of(nic, path):
        low = next((forward for forward in flatten(rule) if forward.start < lowest), None)
        if low is not None:
            yield Problem(
                low.path,
                f"{low.proto} port {low.start} is below {lowest}, where only root may listen",
                hint=f"use {lowest} or more, or let root run: sysctl net.ipv4.ip_unprivileged_port_start={low.start}",
            )
