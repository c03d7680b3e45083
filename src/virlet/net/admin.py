"""What an administrator has to run, once, so that a user's guest can have a device: commands to paste into a shell."""

from __future__ import annotations

import shlex

__all__ = [
    "bridge_acl",
    "give_node",
    "make_bridge",
    "make_macvtap",
    "make_tap",
    "remake_tap",
    "set_address",
    "set_up",
]


def make_tap(name: str, uid: int, *, multi_queue: bool, vnet_hdr: bool) -> str:
    """A tap device that *uid* may open, set up."""
    more = (" multi_queue" if multi_queue else "") + (" vnet_hdr" if vnet_hdr else "")
    word = shlex.quote(name)
    return f"ip tuntap add dev {word} mode tap user {uid}{more}; {set_up(name)}"


def remake_tap(name: str, uid: int, *, multi_queue: bool, vnet_hdr: bool) -> str:
    """A tap's owner and its queues cannot be changed: the same device anew."""
    return f"ip link delete dev {shlex.quote(name)}; {make_tap(name, uid, multi_queue=multi_queue, vnet_hdr=vnet_hdr)}"


def make_macvtap(name: str, lower: str, mac: str, uid: int) -> str:
    """A macvtap device on *lower* whose node *uid* may open."""
    word = shlex.quote(name)
    return (
        f"ip link add link {lower} name {word} address {mac} type macvtap mode bridge; {set_up(name)};"
        f" chown {uid} /dev/tap$(cat /sys/class/net/{word}/ifindex)"
    )


def give_node(node: str, uid: int) -> str:
    """The node of a macvtap device, to *uid* alone."""
    return f"chown {uid} {node}; chmod 0600 {node}"


def set_up(name: str) -> str:
    """``IFF_UP``."""
    return f"ip link set dev {shlex.quote(name)} up"


def set_address(name: str, mac: str) -> str:
    """Another MAC address; a link that is up takes one as well, with a few drivers' exception."""
    return f"ip link set dev {shlex.quote(name)} address {mac}"


def make_bridge(name: str) -> str:
    """A bridge without ports, set up."""
    return f"ip link add {shlex.quote(name)} type bridge; {set_up(name)}"


def bridge_acl(name: str) -> str:
    """Let everybody join *name* by qemu-bridge-helper; its list is compiled into it, this is where it is by default."""
    return f"mkdir -p /etc/qemu; echo {shlex.quote(f'allow {name}')} >> /etc/qemu/bridge.conf"
