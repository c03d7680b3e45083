"""One device of a definition: added, found again, removed."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

from virlet.enums import ErrorDomain
from virlet.errors import DeviceMissing, InternalError, OperationFailed, OperationInvalid
from virlet.model.disk import Disk
from virlet.model.domain import Device, Domain
from virlet.model.elements import Devices
from virlet.model.interface import Interface
from virlet.plan.changes import Wanted, find_interface
from virlet.xml.declare import Form, declaration_of

__all__ = ["add_device", "find_alias", "remove_device", "replace_interface", "tag_of"]


def tag_of(device: Device) -> str:
    """The name of its element."""
    return declaration_of(type(device)).tag


def _place(device: Device) -> tuple[str, bool]:
    """The property of :class:`Devices` that holds such devices, and whether it holds one alone."""
    for name, made in declaration_of(Devices).properties:
        if made.form in (Form.CHILD, Form.MANY) and type(device) in made.classes:
            return name, made.form is Form.CHILD
    raise AssertionError(f"no place for <{tag_of(device)}>")


def _with(domain: Domain, name: str, value: object) -> Domain:
    return replace(domain, devices=replace(domain.devices, **{name: value}))  # type: ignore[arg-type]


def add_device(domain: Domain, device: Device) -> Domain:
    """*domain* with one device more; what it leaves open (addresses) stays open.

    Raises OperationInvalid for a disk whose target is taken, OperationFailed for a second one of what there is once.
    """
    name, single = _place(device)
    there = getattr(domain.devices, name)
    if single:
        if there is not None:
            raise OperationFailed(f"domain already has a <{tag_of(device)}>")
        return _with(domain, name, device)
    if isinstance(device, Disk) and any(disk.target == device.target for disk in domain.devices.disks):
        raise OperationInvalid(f"target {device.target} already exists")
    return _with(domain, name, (*there, device))


def remove_device(domain: Domain, device: Device, mac_given: bool) -> Domain:
    """*domain* without what *device* describes: an interface as :func:`find_interface` finds it, a disk by its target,
    others by all that is said of them, the address only where it is given.

    Raises DeviceMissing when there is none, OperationFailed when there are several interfaces.
    """
    name, single = _place(device)
    there = getattr(domain.devices, name)
    if single:
        if there is None or not _same(there, device):
            raise DeviceMissing("matching device not found")
        return _with(domain, name, None)
    place = _found(there, device, mac_given)
    return _with(domain, name, (*there[:place], *there[place + 1 :]))


def _found(there: tuple[Device, ...], device: Device, mac_given: bool) -> int:
    if isinstance(device, Interface):
        return find_interface(cast("tuple[Interface, ...]", there), Wanted(device, mac_given))
    if isinstance(device, Disk):
        for place, disk in enumerate(there):
            if cast(Disk, disk).target == device.target:
                return place
        raise DeviceMissing(f"no target device {device.target}")
    for place, other in enumerate(there):
        if _same(other, device):
            return place
    raise DeviceMissing("matching device not found")


def _same(there: Device, device: Device) -> bool:
    changes = {name: getattr(there, name) for name in ("address", "alias") if getattr(device, name, 0) is None}
    return there == replace(device, **changes)


def replace_interface(domain: Domain, place: int, nic: Interface) -> Domain:
    """*domain* with *nic* in the place of its interface number *place*, counted from 0."""
    there = domain.devices.interfaces
    return _with(domain, "interfaces", (*there[:place], nic, *there[place + 1 :]))


def find_alias(domain: Domain, alias: str) -> Device:
    """The device called *alias*; raises InternalError in libvirt's words when there is none."""
    for _, device in domain.devices.all():
        if getattr(device, "alias", None) == alias:
            return cast(Device, device)
    raise InternalError(f"no device found with alias {alias}", domain=ErrorDomain.DOMAIN)
