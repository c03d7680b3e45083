"""Tap and macvtap devices: somebody else's (``managed='no'``), or a tap of our own where the user may make one.

libvirt's meaning throughout, but what would silently carry no traffic is refused before the start, with the commands
that an administrator has to run; and a device that was there before is never removed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceType
from virlet.net import admin
from virlet.net.base import Env
from virlet.net.device import card, netdev_id
from virlet.net.links import made_name
from virlet.net.taps import check_tap, members, queues_of, vhost_of
from virlet.plan.base import TUN, Access, FdSource, FileNeed, NetPlan, OpenMacvtap, OpenTap
from virlet.plan.facts import Facts, Link, QemuFacts, Support

__all__ = ["Ethernet"]

_MACVTAP = "macvtap"
_LONGEST = 15
"""Bytes of a link's name (IFNAMSIZ)."""


class Ethernet:
    """A device of the host that carries the guest's frames, opened by us and handed to QEMU."""

    name = "ethernet"

    def handles(self, nic: Interface) -> bool:
        """``<interface type='ethernet'>``."""
        return nic.type is InterfaceType.ETHERNET

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        """Every QEMU of Linux has taps."""
        if "tap" not in qemu.netdevs:
            return Support(False, f"{qemu.path} was built without -netdev tap", "use <interface type='user'>")
        return Support(True, "with a tap or macvtap device that an administrator has made for you")

    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        """Everything about the device that would keep frames from flowing."""
        yield from check_tap(nic, env)
        yield from _host_side(nic, env)
        name = nic.target or ""
        link = env.facts.links.get(name)
        if len(name.encode()) > _LONGEST:
            text = f"'{name}' is too long for a network device: {_LONGEST} bytes at most"
            yield Problem(f"{env.path}/target/@dev", text, code=ErrorCode.XML_ERROR)
        elif nic.target_managed is not False:
            yield from _managed(link, env)
        elif not name:
            yield _internal(env, "target dev must be supplied when managed='no'", f"add dev=; {_commands(nic, env)}")
        elif link is None:
            yield _internal(env, "target managed='no' but specified dev doesn't exist", _commands(nic, env))
        elif link.kind == _MACVTAP:
            yield from _macvtap(nic, link, env)
        else:
            yield from _tap(nic, link, env)

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        """Descriptors of the device, one a queue, for QEMU."""
        link = env.facts.links.get(nic.target or "") if nic.target_managed is False else None
        taps = tuple(_open(nic, link, queue) for queue in range(queues_of(nic)))
        vhosts = vhost_of(nic, env)
        return NetPlan(
            alias=nic.alias or "",
            backend=self.name,
            mac=nic.mac or "",
            netdev={**members(taps, nic, vhosts), "id": netdev_id(nic)},
            device=card(nic, env),
            helper=None,
            fds=(*taps, *vhosts),
            link_up=nic.link_up,
            files=tuple(_scripts(nic, env)),
            script=nic.script or "",
            put_back=_as_found(nic, link),
        )


def _open(nic: Interface, link: Link | None, queue: int) -> FdSource:
    several = queues_of(nic) > 1
    if link is not None and link.kind == _MACVTAP:
        return OpenMacvtap(link.name, link.node, link.mac, link.device, queue, nic.is_virtio, several)
    path = (nic.backend.tap if nic.backend is not None else None) or TUN
    if link is not None:
        return OpenTap(nic.alias or "", link.name, queue, nic.is_virtio, several, path=path)
    # libvirt's address of the host's end: the guest's, with a first byte that no bridge takes for its own.
    mac = f"fe{nic.mac[2:]}" if nic.mac else None
    return OpenTap(nic.alias or "", made_name(nic), queue, nic.is_virtio, several, True, mac, nic.mtu or None, path)


def _as_found(nic: Interface, link: Link | None) -> tuple[OpenTap, ...]:
    """The header of virtio is a setting of the device, not of the descriptor: it is put back when the guest stops."""
    if link is None or link.kind == _MACVTAP or link.vnet_hdr == nic.is_virtio:
        return ()
    return (OpenTap(nic.alias or "", link.name, 0, link.vnet_hdr, bool(link.multi_queue)),)


def _scripts(nic: Interface, env: Env) -> Iterator[FileNeed]:
    for word, path in (("script", nic.script), ("downscript", nic.downscript)):
        if path:
            yield FileNeed(Path(path), Access.EXECUTE, f"{env.path}/{word}/@path", f"{word} of {nic.alias or 'it'}")


def _commands(nic: Interface, env: Env) -> str:
    """How root makes what the interface asks for."""
    name = nic.target or "tap0"
    several, uid = queues_of(nic) > 1, env.facts.host.uid
    return f"let root run: {admin.make_tap(name, uid, multi_queue=several, vnet_hdr=nic.is_virtio)}"


def _internal(env: Env, text: str, hint: str) -> Problem:
    code, domain = ErrorCode.INTERNAL_ERROR, ErrorDomain.DOMAIN
    return Problem(f"{env.path}/target", text, hint=hint, code=code, domain=domain)


def _host_side(nic: Interface, env: Env) -> Iterator[Problem]:
    if nic.source is not None and (nic.source.ips or nic.source.routes):
        yield Problem(
            f"{env.path}/source",
            "addresses and routes of the host's end can be set by root alone",
            hint="leave <source> out, and let root run: ip address add ADDRESS/PREFIX dev NAME",
        )


def _managed(link: Link | None, env: Env) -> Iterator[Problem]:
    if link is not None:
        yield Problem(
            f"{env.path}/target/@dev",
            f"The {link.name} interface already exists",
            hint=f"add managed='no' to <target>, then the device is used as it is and kept; it is a {_kind(link)}",
            code=ErrorCode.OPERATION_INVALID,
            domain=ErrorDomain.QEMU,
        )


def _kind(link: Link) -> str:
    if link.kind == "tun":
        return "tap device" if link.tap else "tun device, which carries packets and no frames"
    return f"{link.kind or 'hardware'} device"


def _macvtap(nic: Interface, link: Link, env: Env) -> Iterator[Problem]:
    if nic.mac != link.mac:
        yield Problem(
            f"{env.path}/mac/@address",
            f"macvtap device {link.name} has the address {link.mac}: it passes on no frame of {nic.mac}",
            hint=f"let root run: {admin.set_address(link.name, nic.mac or '')}; or write <mac address='{link.mac}'/>",
        )
    yield from _down(link, env)
    if link.node_errno:
        yield Problem(
            f"{env.path}/target/@dev",
            f"cannot open tap device {link.node} of {link.name}: {os.strerror(link.node_errno)}",
            hint=f"let root run: {admin.give_node(link.node, env.facts.host.uid)}",
            code=ErrorCode.SYSTEM_ERROR,
        )


def _tap(nic: Interface, link: Link, env: Env) -> Iterator[Problem]:
    uid, several = env.facts.host.uid, queues_of(nic) > 1
    anew = admin.remake_tap(link.name, uid, multi_queue=several, vnet_hdr=nic.is_virtio)
    where = f"{env.path}/target/@dev"
    if not (link.kind == "tun" and link.tap):
        text = f"{link.name} is a {_kind(link)}: a guest can be given a tap or a macvtap device"
        yield Problem(where, text, hint=_other(nic, link, env))
        return
    if not _may_open(link, env):
        yield Problem(
            where,
            f"Unable to set tap device {link.name} (it belongs to {_owner(link)}, you are uid {uid}): "
            "Operation not permitted",
            hint=f"let root run: {anew}",
            code=ErrorCode.SYSTEM_ERROR,
        )
    if link.multi_queue is not None and link.multi_queue != several:
        yield Problem(where, _queues(link, several), hint=f"let root run: {anew}", code=ErrorCode.SYSTEM_ERROR)
    if nic.mac == link.mac:
        yield Problem(
            f"{env.path}/mac/@address",
            f"tap device {link.name} has the guest's own address {link.mac}: frames to the guest would end at the host",
            hint=f"let root run: {admin.set_address(link.name, f'fe{link.mac[2:]}')}; or change <mac>",
        )
    yield from _down(link, env)


def _queues(link: Link, several: bool) -> str:
    """libvirt's texts."""
    if several:
        return (
            f"Unable to create multiple fds for tap device {link.name} (maybe existing device was created without "
            "multi_queue flag): Invalid argument"
        )
    return (
        f"Unable to set tap device {link.name} (maybe existing device was created with multi_queue flag but device XML "
        "lacks 'queues' greater than one): Invalid argument"
    )


def _other(nic: Interface, link: Link, env: Env) -> str:
    """What can be made out of a link that is neither."""
    if link.kind == "bridge":
        return f"use <interface type='bridge'> with <source bridge='{link.name}'/>"
    if link.kind == "tun":
        return _commands(nic, env)
    made = admin.make_macvtap("macvtap0", link.name, nic.mac or "MAC", env.facts.host.uid)
    return f"for a macvtap device on it let root run: {made}"


def _down(link: Link, env: Env) -> Iterator[Problem]:
    if not link.up:
        yield Problem(
            f"{env.path}/target/@dev",
            f"network device {link.name} is down: it would carry nothing",
            hint=f"let root run: {admin.set_up(link.name)}",
        )


def _may_open(link: Link, env: Env) -> bool:
    """The kernel's rule (``tun_not_capable``), without capabilities: those who have them own the device's namespace."""
    host = env.facts.host
    owned = link.owner is None or link.owner == host.uid
    return host.uid == 0 or (owned and (link.group is None or link.group in host.groups))


def _owner(link: Link) -> str:
    return f"uid {link.owner}" if link.owner is not None else f"group {link.group}"
