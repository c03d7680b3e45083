"""Addresses of the guest's network that lead to the host: what slirp is told of them, and what it cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from virlet.errors import Problem
from virlet.model.guest_forward import GuestForward
from virlet.model.interface import Interface
from virlet.net.addressing import guest_view

__all__ = ["guest_forward", "no_guest_forwards", "strange_guest_forwards"]

_HELPER = "use <virlet:backend name='slirp-helper'/>"


def guest_forward(forward: GuestForward) -> str:
    """``tcp:10.0.2.100:80-unix:/run/web.sock``, as ``guestfwd`` of QEMU and of the helper."""
    where = f"tcp:{forward.address}:{forward.port}"
    if forward.command is not None:
        return f"{where}-cmd:{forward.command}"
    if forward.socket is not None:
        return f"{where}-unix:{forward.socket}"
    host = forward.host
    assert host is not None  # refused without one when the XML is read
    return f"{where}-tcp:{f'[{host}]' if host.version == 6 else host}:{forward.to_port}"


def no_guest_forwards(nic: Interface, path: str, who: str) -> Iterator[Problem]:
    """For a backend called *who* that knows nothing of them."""
    if nic.guest_forwards:
        text = f"{who} leads no address of the guest's network to the host's programs"
        yield Problem(f"{path}/virlet:guestForward[1]", text, hint=_HELPER)


def strange_guest_forwards(nic: Interface, path: str) -> Iterator[Problem]:
    """Addresses at which libslirp answers for nobody: outside of the network, or somebody's already."""
    view = guest_view(nic.ips, nic.mac or "")
    network = IPv4Network((int(view.guest4), view.prefix4), strict=False)
    taken = {view.host4: "the host's", view.dns4: "the nameserver's", view.guest4: "the guest's"}
    edges = (network.network_address, network.broadcast_address)
    for number, forward in enumerate(nic.guest_forwards, 1):
        address = forward.address
        if address.version == 6:
            continue  # refused when the XML is read
        where = f"{path}/virlet:guestForward[{number}]/@address"
        if address not in network or address in edges:
            yield Problem(where, f"{address} is no address of the guest's network {network}", hint="use one that is")
        elif address in taken:
            yield Problem(where, f"{address} is {taken[address]} own address", hint="use another one of the network")
