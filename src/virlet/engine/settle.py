"""Interfaces whose coming or going the last daemon did not see to its end: finished, or undone."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace

from virlet.engine.guest import Guest, Run
from virlet.engine.status import Attaching
from virlet.engine.supervision.anew import regain
from virlet.engine.supervision.helper import Helper
from virlet.engine.supervision.links import links_as_wanted
from virlet.engine.unplug import drop_chardev, drop_netdev, end_helper, leave_taps, remove_nic
from virlet.errors import OperationInvalid
from virlet.fault import point
from virlet.model.domain import parse_interface
from virlet.plan.hotplug import with_interface
from virlet.proc.process import Process
from virlet.qmp.monitor import QmpError

__all__ = ["settle_interfaces"]

log = logging.getLogger(__name__)


async def settle_interfaces(guest: Guest, run: Run) -> None:
    """Make a guest that was taken over agree with its QEMU, which alone knows what devices there are."""
    try:
        await _settle(guest, run)
        await links_as_wanted(guest, run)
    except OperationInvalid:
        log.info("%s has ended meanwhile", guest.name)


async def _settle(guest: Guest, run: Run) -> None:
    present = await _devices(guest)
    if present is None or guest.live is None:
        return
    for item in run.record.attaching:
        if item.alias in present:
            _finish(guest, run, item)
        else:
            await _undo(guest, run, item)
        point("settle.interface")
    run.record = replace(run.record, attaching=())
    guest.save()
    point("settle.written")
    for nic in guest.live.devices.interfaces if guest.live is not None else ():
        if nic.alias is not None and nic.alias not in present:
            log.info("%s: the guest has given %s back while no daemon watched", guest.name, nic.alias)
            await remove_nic(guest, run, nic.alias)


async def _devices(guest: Guest) -> set[str] | None:
    """The ids of the guest's devices; None where QEMU does not say."""
    answer = await guest.execute("qom-list", {"path": "/machine/peripheral"})
    if not isinstance(answer, list):
        return None
    return {str(item.get("name")) for item in answer if isinstance(item, Mapping)}


def _finish(guest: Guest, run: Run, item: Attaching) -> None:
    """The guest has the card: all that was missing is to say so."""
    assert guest.live is not None
    nic, _ = parse_interface(item.xml, live=True, stored=True)
    if all(other.alias != item.alias for other in guest.live.devices.interfaces):
        guest.live = with_interface(guest.live, nic)
        guest.changed()
    if item.helper is not None and item.alias not in run.helpers:
        helper = run.helpers[item.alias] = Helper(guest, guest.tasks, item.helper)
        process = _process(item)
        if process is not None:
            helper.own(process)
        regain(guest, run, helper)
    log.info("%s: %s was being attached when the last daemon ended; finished", guest.name, item.alias)


async def _undo(guest: Guest, run: Run, item: Attaching) -> None:
    helper = run.helpers.pop(item.alias, None)
    if helper is None and item.helper is not None:
        helper = Helper(guest, guest.tasks, item.helper)
        process = _process(item)
        if process is not None:
            helper.own(process)
    if helper is not None:
        await end_helper(guest, helper)
    await drop_netdev(guest, item.netdev)
    await drop_chardev(guest, item.alias)
    for name in item.sends:
        with suppress(QmpError):  # It was not sent yet, or the backend has taken it.
            await guest.execute("closefd", {"fdname": name})
    await leave_taps(run, item.alias)
    log.warning("%s: %s was being attached when the last daemon ended; undone", guest.name, item.alias)


def _process(item: Attaching) -> Process | None:
    record = item.helper
    if record is None or record.identity is None:
        return None
    return Process.adopt(record.identity, record.plan.name)
