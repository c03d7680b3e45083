"""A connection that somebody else has opened and given us (``virDomainFDAssociate``): QEMU gets a copy, no more.

``-netdev socket,fd=`` takes streams and datagrams alike, inherited at a start and by ``getfd`` at run time, on every
QEMU from 7.2 on; ``-netdev stream`` looks a named descriptor up in a thread that knows no monitor.
"""

from __future__ import annotations

from collections.abc import Iterator

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.plan.base import Given, NetPlan

__all__ = ["check_given", "group_of", "plan_given"]

_CARRIES = ("stream", "datagram")


def group_of(nic: Interface) -> str | None:
    """The group that the interface names, if any."""
    return None if nic.forced is None else nic.forced.fdgroup


def check_given(nic: Interface, env: Env) -> Iterator[Problem]:
    """What keeps the interface from being carried by what was given."""
    group, here = group_of(nic) or "", f"{env.path}/virlet:backend/@fdgroup"
    if "fd" not in env.qemu.netdevs.get("socket", ()):
        yield Problem(
            here, f"{env.qemu.path} was built without -netdev socket", "use <interface type='user'> without it"
        )
    yield from _unheard(nic, env.path)
    kinds = env.facts.given.get(group)
    if kinds is None:
        yield Problem(
            here,
            f"file descriptor group '{group}' was not associated with the domain",
            hint="associate it (virDomainFDAssociate) on a connection that stays open until the guest has started",
            code=ErrorCode.INVALID_ARG,
        )
    elif len(kinds) != 1:
        text = f"file descriptor group '{group}' has {len(kinds)} descriptors"
        yield Problem(here, text, hint="an interface needs exactly one", code=ErrorCode.INVALID_ARG)
    elif kinds[0] not in _CARRIES:
        text = f"the descriptor of group '{group}' cannot carry a network: {kinds[0]}"
        hint = "give a connected stream or datagram socket, as of socketpair(2)"
        yield Problem(here, text, hint=hint, code=ErrorCode.INVALID_ARG)


def _unheard(nic: Interface, path: str) -> Iterator[Problem]:
    """What the XML asks for and nobody would hear: whoever is at the other end decides it."""
    hint = "leave it out, and have whoever opened the connection do it"
    asked = (
        ("ip[1]", nic.ips),
        ("route[1]", nic.routes),
        ("portForward[1]", nic.port_forwards),
        ("source/@dev", nic.source is not None and nic.source.dev),
    )
    for below, value in asked:
        if value:
            yield Problem(f"{path}/{below}", "a connection that was given decides this at its other end", hint=hint)


def plan_given(nic: Interface, env: Env, backend: str) -> NetPlan:
    """Nothing to run: the descriptor is all there is."""
    given = Given(group_of(nic) or "")
    return NetPlan(
        alias=nic.alias or "",
        backend=backend,
        mac=nic.mac or "",
        netdev={"type": "socket", "fd": given, "id": netdev_id(nic)},
        device=card(nic, env),
        helper=None,
        fds=(given,),
        link_up=nic.link_up,
    )
