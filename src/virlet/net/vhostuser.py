"""vhost-user with a back end of somebody else's (a software switch), by the UNIX socket that the XML names.

The back end maps the guest's memory, so that has to be shared; and QEMU's monitor does not answer before the back end
has.  libvirt's start call then hangs; ours gives up by name, and destroying the guest ends the wait at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType, SocketMode
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.taps import queues_of
from virlet.plan.base import Access, FileNeed, JsonValue, Need, NetPlan, SocketChardev
from virlet.plan.facts import Facts, QemuFacts, Support

__all__ = ["SHARE_MEMORY", "VhostUser", "shared_memory"]

SHARE_MEMORY = "add <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking> to the domain"

_LONGEST = 107
"""Bytes of a UNIX socket's path."""


def shared_memory(nic: Interface, env: Env) -> Iterator[Problem]:
    """What every vhost-user back end needs; libvirt's words."""
    if not env.shared_memory:
        yield Problem(
            env.path,
            "'interface' requires shared memory",
            hint=SHARE_MEMORY,
        )


class VhostUser:
    """The guest's memory and queues handed to another process, which moves the frames."""

    name = "vhostuser"

    def handles(self, nic: Interface) -> bool:
        """``<interface type='vhostuser'>`` that does not name passt."""
        return nic.type is InterfaceType.VHOSTUSER and not nic.wants_passt

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Was this QEMU built with it?"""
        if "vhost-user" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev vhost-user", "use <interface type='user'>")
        return Support(True, "with a back end of your own")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Shared memory, and a path that a socket can have."""
        yield from shared_memory(nic, env)
        path = _path(nic)
        where = f"{env.path}/source/@path"
        if not path.startswith("/"):
            yield Problem(where, f"'{path}' is not an absolute path", hint="begin it with '/'")
        elif len(path.encode()) > _LONGEST:
            text = f"the path of a UNIX socket has at most {_LONGEST} bytes, this one has {len(path.encode())}"
            yield Problem(where, text, hint="use a shorter directory")

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """A socket of QEMU's own: only by its path it can be reconnected, and passes descriptors."""
        source = nic.source
        assert source is not None
        server = source.mode == SocketMode.SERVER
        chardev = SocketChardev(
            f"char{nic.alias}",
            Path(_path(nic)),
            server,
            1000 * source.reconnect_timeout if source.reconnect and source.reconnect_timeout else None,
            in_seconds="reconnect-ms" not in env.qemu.chardevs.get("socket", ()),
        )
        netdev: dict[str, JsonValue] = {"type": "vhost-user", "chardev": chardev.id}
        if queues_of(nic) > 1:
            netdev["queues"] = queues_of(nic)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={**netdev, "id": netdev_id(nic)},
            device=card(nic, env),
            helper=None,
            fds=(),
            needs=frozenset({Need.SHARED_MEMORY}),
            link_up=nic.link_up,
            chardev=chardev,
            files=() if chardev.reconnect_ms else (_socket(chardev.path, env, server=server),),
            waits_for=f"the vhost-user back end that {'dials' if server else 'listens on'} '{chardev.path}'",
        )


def _socket(path: Path, env: Env, *, server: bool) -> FileNeed:
    access = Access.BIND if server else Access.SOCKET
    return FileNeed(path, access, f"{env.path}/source/@path", "socket of the vhost-user back end")


def _path(nic: Interface) -> str:
    """Refused without one when the XML is read."""
    return (nic.source.path if nic.source is not None else None) or ""
