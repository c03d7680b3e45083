"""Devices of a guest, changed: in what runs now (LIVE), in the definition (CONFIG), or wherever the guest is (CURRENT).

Interfaces can be changed in both; every other device in the definition alone.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from virlet.engine.define import redefine
from virlet.engine.guest import Guest
from virlet.engine.live import with_backend
from virlet.engine.plug import plug
from virlet.engine.unplug import unplug
from virlet.enums import Affect, ErrorDomain
from virlet.errors import BadConfig, OperationInvalid, OperationUnsupported, Problem, VirletError
from virlet.fault import point
from virlet.model.domain import Device, Domain, parse_device
from virlet.model.fresh import RandomFresh
from virlet.model.interface import Interface
from virlet.net.links import links_named
from virlet.plan.assign import assign_defaults
from virlet.plan.base import Need
from virlet.plan.changes import Wanted, check_attach, find_interface, merge_update
from virlet.plan.check import emulator_of
from virlet.plan.hotplug import HotNet, new_problems, plan_attach, with_interface
from virlet.plan.launch import NO_SANDBOX
from virlet.plan.parts import add_device, find_alias, remove_device, replace_interface, tag_of
from virlet.xml.source import Source

__all__ = ["attach", "detach", "detach_alias", "update"]


class _OneMac(RandomFresh):
    """One address for the running guest and the definition; knows whether it was needed."""

    def __init__(self) -> None:
        self._mac = super().mac()
        self.asked = False

    def mac(self) -> str:
        self.asked = True
        return self._mac


async def attach(guest: Guest, xml: str, flags: int) -> None:
    """``virDomainAttachDeviceFlags``."""
    fresh = _OneMac()
    device, source = parse_device(xml, fresh=fresh)
    async with guest.job.hold("attach a device to"):
        affect = _affected(guest, flags)
        if affect & Affect.LIVE:
            _only_interfaces(device, "attach")
        config = _with_device(guest, device, source) if affect & Affect.CONFIG else None
        if affect & Affect.LIVE and isinstance(device, Interface):
            await _attach_live(guest, device, source)
        if config is not None:
            await redefine(guest, config)


async def _attach_live(guest: Guest, nic: Interface, source: Source) -> None:
    check_attach(nic)
    context, live = guest.context, guest.live
    assert live is not None
    await context.know(live.devices.emulator, live.os.arch)
    await context.know_passts((nic,))
    context.look_again(links_named(with_interface(live, nic)), guest.uuid)
    try:
        dirs = context.guest_dirs(guest.uuid)
        placed, hot = plan_attach(live, nic, context.facts, dirs, context.registry)
        _refuse_in_sandbox(guest, hot)
        await plug(guest, with_backend(placed, hot.net.backend), hot)
    except BadConfig as error:
        raise BadConfig(_located(error.problems, source, len(live.devices.interfaces) + 1)) from None


def _refuse_in_sandbox(guest: Guest, hot: HotNet) -> None:
    """What needs a QEMU without its sandbox can only be part of a start: a sandbox cannot be left."""
    run = guest.running()
    if Need.NO_SANDBOX in hot.net.needs and (not run.record.unconfined or NO_SANDBOX not in run.taints):
        raise OperationUnsupported(
            f"the backend '{hot.net.backend}' needs a QEMU without sandbox, and that of '{guest.name}' has one",
            hint="attach it with --config and start the guest again, or use <backend type='passt'/>",
        )


async def detach(guest: Guest, xml: str, flags: int) -> None:
    """``virDomainDetachDeviceFlags``; a guest that does not answer keeps the device, and that is no error."""
    async with guest.job.hold("detach a device from"):
        affect = _affected(guest, flags)
        config = nic = None
        if affect & Affect.CONFIG:
            config = _whole(guest, remove_device(_config(guest), *_wanted(xml, live=False)))
        if affect & Affect.LIVE:
            device, mac_given = _wanted(xml, live=True)
            nic = _running_nic(guest, Wanted(_only_interfaces(device, "detach"), mac_given))
        await _detach(guest, nic, config)


async def detach_alias(guest: Guest, alias: str, flags: int) -> None:
    """``virDomainDetachDeviceAlias``; returns when the guest has been asked, the event tells when it has answered."""
    async with guest.job.hold("detach a device from"):
        affect = _affected(guest, flags)
        config = nic = None
        if affect & Affect.CONFIG:
            definition = _config(guest)
            config = _whole(guest, remove_device(definition, find_alias(definition, alias), mac_given=True))
        if affect & Affect.LIVE:
            assert guest.live is not None
            nic = _only_interfaces(find_alias(guest.live, alias), "detach")
        await _detach(guest, nic, config, wait=False)


async def _detach(guest: Guest, nic: Interface | None, config: Domain | None, *, wait: bool = True) -> None:
    if nic is not None:
        await unplug(guest, nic, wait=wait)
    if config is not None:
        await redefine(guest, config)


async def update(guest: Guest, xml: str, flags: int) -> None:
    """``virDomainUpdateDeviceFlags``: of a running guest's interface the link, of the definition's all."""
    async with guest.job.hold("update a device of"):
        affect = _affected(guest, flags)
        config = None
        if affect & Affect.CONFIG:
            config = _with_updated(guest, xml)
        if affect & Affect.LIVE:
            device, mac_given = _wanted(xml, live=True, whole=True)
            await _update_live(guest, Wanted(_only_interfaces(device, "update"), mac_given))
        if config is not None:
            await redefine(guest, config)


async def _update_live(guest: Guest, wanted: Wanted) -> None:
    old = _running_nic(guest, wanted)
    new = merge_update(old, wanted)
    helper = guest.running().helpers.get(old.alias or "")
    if new.link_up and not old.link_up and (helper is None or not helper.unlinked):
        await guest.execute("set_link", {"name": old.alias, "up": True})
        point("update.linked")
    # A cable is out on record before it is, and until it is in: see virlet.engine.supervision.links.
    _replace_live(guest, old, new)
    point("update.written")
    if old.link_up and not new.link_up:
        try:
            await guest.execute("set_link", {"name": old.alias, "up": False})
        except VirletError:
            _replace_live(guest, new, old)
            raise
    if helper is not None and helper.record.gave_up and new.link_up:
        helper.revive()  # It raises the link when there is a network behind it.


def _replace_live(guest: Guest, old: Interface, new: Interface) -> None:
    live = guest.live
    if live is not None and old in live.devices.interfaces:
        guest.live = replace_interface(live, live.devices.interfaces.index(old), new)
        guest.changed()
        guest.save()


# What is meant


def _affected(guest: Guest, flags: int) -> Affect:
    wanted = Affect(flags & (Affect.LIVE | Affect.CONFIG)) or (Affect.LIVE if guest.active else Affect.CONFIG)
    if wanted & Affect.LIVE:
        guest.running()
    if wanted & Affect.CONFIG and not guest.persistent:
        raise OperationInvalid("transient domains do not have any persistent config", domain=ErrorDomain.QEMU)
    return wanted


def _wanted(xml: str, *, live: bool, whole: bool = False) -> tuple[Device, bool]:
    """The device, and whether the XML has its MAC address; *whole*: nothing in it may be without effect."""
    fresh = _OneMac()
    device, source = parse_device(xml, live=live, fresh=fresh)
    if whole and source.dropped:
        note = source.dropped[0]
        raise OperationUnsupported(
            f"cannot modify network device {note.path} ({note.where()}): it {note.message}",
            domain=ErrorDomain.QEMU,
            hint="leave it out",
        )
    return device, not fresh.asked


def _only_interfaces(device: Device, verb: str) -> Interface:
    if not isinstance(device, Interface):
        raise OperationUnsupported(
            f"live {verb} of device '{tag_of(device)}' is not supported",
            domain=ErrorDomain.QEMU,
            hint="change the definition (--config); the guest's next start brings it",
        )
    return device


def _running_nic(guest: Guest, wanted: Wanted) -> Interface:
    assert guest.live is not None
    interfaces = guest.live.devices.interfaces
    return interfaces[find_interface(interfaces, wanted)]


def _config(guest: Guest) -> Domain:
    assert guest.config is not None
    return guest.config


# The definition


def _with_device(guest: Guest, device: Device, source: Source) -> Domain:
    before = _config(guest)
    try:
        now = _whole(guest, add_device(before, device))
    except BadConfig as error:
        raise BadConfig(_located(error.problems, source, len(before.devices.interfaces) + 1)) from None
    problems = new_problems(now, before)
    if problems:
        raise BadConfig(_located(problems, source, len(now.devices.interfaces)))
    return now


def _with_updated(guest: Guest, xml: str) -> Domain:
    fresh = _OneMac()
    device, source = parse_device(xml, fresh=fresh)
    if not isinstance(device, Interface):
        raise OperationUnsupported(
            f"persistent update of device '{tag_of(device)}' is not supported",
            domain=ErrorDomain.QEMU,
            hint="edit the definition: virlet edit NAME",
        )
    before = _config(guest)
    place = find_interface(before.devices.interfaces, Wanted(device, not fresh.asked))
    now = _whole(guest, replace_interface(before, place, device))
    problems = new_problems(now, before)
    if problems:
        raise BadConfig(_located(problems, source, place + 1))
    return now


def _whole(guest: Guest, domain: Domain) -> Domain:
    """With the addresses that it left open."""
    qemu = emulator_of(domain, guest.context.facts)
    return domain if qemu is None else assign_defaults(domain, qemu)


def _located(problems: Iterable[Problem], source: Source, number: int) -> list[Problem]:
    """With the lines of the device's own XML, which has nothing above it."""
    front = f"devices/interface[{number}]"
    return [source.locate(replace(each, path=each.path.removeprefix(front).removeprefix("/"))) for each in problems]
