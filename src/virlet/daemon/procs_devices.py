"""Devices, and what is opened as a stream."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any
from uuid import UUID

from virlet.daemon.dispatch import Table, check_flags
from virlet.daemon.lookup import running, uuid_of
from virlet.daemon.session import Session
from virlet.engine.api import Console, Streams
from virlet.enums import Affect, ConsoleFlags
from virlet.wire import remote
from virlet.wire.link import Call

__all__ = ["TABLE"]

DEVICE_FLAGS = Affect.LIVE | Affect.CONFIG
FORCE = 4
"""``VIR_DOMAIN_DEVICE_MODIFY_FORCE``."""
CONSOLE_FLAGS = ConsoleFlags.FORCE | ConsoleFlags.SAFE
CHANNEL_FORCE = 1

TABLE = Table()


@TABLE.on(remote.DOMAIN_ATTACH_DEVICE)
async def attach(session: Session, args: remote.DomainAttachDeviceArgs) -> None:
    devices, uuid = session.devices(remote.DOMAIN_ATTACH_DEVICE.api), uuid_of(args.dom)
    # The form without flags is for running guests only, in libvirt too.
    running(session, uuid)
    await devices.attach(uuid, args.xml, Affect.LIVE)


@TABLE.on(remote.DOMAIN_ATTACH_DEVICE_FLAGS)
async def attach_flags(session: Session, args: remote.DomainAttachDeviceFlagsArgs) -> None:
    devices = session.devices(remote.DOMAIN_ATTACH_DEVICE_FLAGS.api)
    check_flags(args.flags, DEVICE_FLAGS, "qemuDomainAttachDeviceFlags")
    await devices.attach(uuid_of(args.dom), args.xml, args.flags)


@TABLE.on(remote.DOMAIN_DETACH_DEVICE)
async def detach(session: Session, args: remote.DomainDetachDeviceArgs) -> None:
    devices, uuid = session.devices(remote.DOMAIN_DETACH_DEVICE.api), uuid_of(args.dom)
    running(session, uuid)
    await devices.detach(uuid, args.xml, Affect.LIVE)


@TABLE.on(remote.DOMAIN_DETACH_DEVICE_FLAGS)
async def detach_flags(session: Session, args: remote.DomainDetachDeviceFlagsArgs) -> None:
    devices = session.devices(remote.DOMAIN_DETACH_DEVICE_FLAGS.api)
    check_flags(args.flags, DEVICE_FLAGS, "qemuDomainDetachDeviceFlags")
    await devices.detach(uuid_of(args.dom), args.xml, args.flags)


@TABLE.on(remote.DOMAIN_DETACH_DEVICE_ALIAS)
async def detach_alias(session: Session, args: remote.DomainDetachDeviceAliasArgs) -> None:
    devices = session.devices(remote.DOMAIN_DETACH_DEVICE_ALIAS.api)
    check_flags(args.flags, DEVICE_FLAGS, "qemuDomainDetachDeviceAlias")
    await devices.detach_alias(uuid_of(args.dom), args.alias, args.flags)


@TABLE.on(remote.DOMAIN_UPDATE_DEVICE_FLAGS)
async def update_flags(session: Session, args: remote.DomainUpdateDeviceFlagsArgs) -> None:
    devices = session.devices(remote.DOMAIN_UPDATE_DEVICE_FLAGS.api)
    check_flags(args.flags, DEVICE_FLAGS | FORCE, "qemuDomainUpdateDeviceFlags")
    await devices.update(uuid_of(args.dom), args.xml, args.flags)


@TABLE.on(remote.DOMAIN_FD_ASSOCIATE)
def fd_associate(session: Session, args: remote.DomainFdAssociateArgs) -> None:
    taker = session.fd_passing(remote.DOMAIN_FD_ASSOCIATE.api)
    # The connection closes its own when the call is over, whatever becomes of it.
    taker.fd_associate(uuid_of(args.dom), args.name, _this_call(session).fds, args.flags, session)


@TABLE.on(remote.DOMAIN_OPEN_CONSOLE)
def open_console(session: Session, args: remote.DomainOpenConsoleArgs) -> Coroutine[Any, Any, None]:
    check_flags(args.flags, CONSOLE_FLAGS, "qemuDomainOpenConsole")
    streams, uuid = _streams(session, args.dom, remote.DOMAIN_OPEN_CONSOLE.api)
    return _open(session, _this_call(session), streams.open_console(uuid, args.dev_name, args.flags))


@TABLE.on(remote.DOMAIN_OPEN_CHANNEL)
def open_channel(session: Session, args: remote.DomainOpenChannelArgs) -> Coroutine[Any, Any, None]:
    check_flags(args.flags, CHANNEL_FORCE, "qemuDomainOpenChannel")
    streams, uuid = _streams(session, args.dom, remote.DOMAIN_OPEN_CHANNEL.api)
    return _open(session, _this_call(session), streams.open_channel(uuid, args.name, args.flags))


def _streams(session: Session, dom: Any, api: str) -> tuple[Streams, UUID]:
    streams, uuid = session.streams(api), uuid_of(dom)
    running(session, uuid)
    return streams, uuid


def _this_call(session: Session) -> Call:
    assert session.call is not None
    return session.call


async def _open(session: Session, call: Call, opening: Coroutine[Any, Any, Console]) -> None:
    session.wire.open_stream(call, await opening)
