"""An interface leaves a running guest: asked for by the user, done by the guest, whenever it does.

``device_del`` is a request.  A guest that answers does so within a blink, one that is paused or still boots does not
answer at all: its device, its helper and its XML stay, and QEMU's DEVICE_DELETED finishes the job whenever it comes.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from itertools import count
from typing import Any

from virlet.engine.guest import Guest, Run
from virlet.engine.status import Returning
from virlet.engine.supervision.helper import Helper
from virlet.engine.taps import leave
from virlet.enums import EventId
from virlet.errors import OperationFailed, OperationTimeout
from virlet.fault import point
from virlet.model.domain import format_device
from virlet.model.interface import Interface, InterfaceType
from virlet.plan.base import OnLoss
from virlet.plan.hotplug import kept_name, without_interface
from virlet.qmp.monitor import QmpError

__all__ = [
    "UNPLUG_WAIT",
    "close_kept",
    "drop_chardev",
    "drop_netdev",
    "end_helper",
    "leave_taps",
    "refused",
    "remove_nic",
    "unplug",
]

log = logging.getLogger(__name__)

UNPLUG_WAIT = 5.0
"""Seconds that a call waits for the guest, as libvirt does."""


_UNDER_WAY = "in the process of unplug"
"""What QEMU (6.1 and later) says of a device that the guest has been asked for already."""


async def unplug(guest: Guest, nic: Interface, *, wait: bool = True, returns: Returning | None = None) -> None:
    """Ask the guest to give *nic* back, and *wait* a while; the caller holds the job.

    With *returns* it is to be plugged in anew then, by whoever is there to see it go: that is on record, unless the
    guest is known to keep it.  Returns also when the guest has not answered; raises :class:`OperationFailed` when it
    refuses.
    """
    run, alias = guest.running(), nic.alias or ""
    _intend(guest, run, alias, returns)
    answer = run.unplugging[alias] = asyncio.get_running_loop().create_future()
    try:
        try:
            await guest.execute("device_del", {"id": alias})
            if alias in run.leaving:
                guest.save()  # The guest may answer the next daemon.
            point("detach.asked")
        except QmpError as error:
            if error.error_class == "DeviceNotFound":
                await remove_nic(guest, run, alias)  # The guest has given it back while nobody listened.
            elif returns is None or _UNDER_WAY not in error.detail:
                _kept(guest, run, alias)
                raise
        ends: set[asyncio.Future[Any]] = {answer, run.monitor.closed}
        if wait:
            await asyncio.wait(ends, timeout=UNPLUG_WAIT, return_when=asyncio.FIRST_COMPLETED)
        if answer.done():
            answer.result()
            point("detach.answered")
        elif run.monitor.closed.done():
            guest.running()
        else:
            log.info("%s: the guest has not given %s back yet", guest.name, alias)
    finally:
        del run.unplugging[alias]
        answer.cancel()


def _intend(guest: Guest, run: Run, alias: str, returns: Returning | None) -> None:
    if returns is not None:
        run.returns(returns)
    else:
        run.leaving.add(alias)
        if run.returning(alias) is None:
            return
        run.stays_away(alias)
    guest.save()


def _kept(guest: Guest, run: Run, alias: str) -> None:
    """The guest has its device as before, whoever wanted it gone."""
    run.leaving.discard(alias)
    run.stays_away(alias)
    guest.save()


def refused(guest: Guest, run: Run, alias: str) -> None:
    """The guest keeps its device: tell whoever waits."""
    item = run.returning(alias)
    _kept(guest, run, alias)
    if item is not None and alias not in run.unplugging:
        guest.tell(alias, "gave-up", f"{item.program} of {alias} is not restarted: the guest keeps its interface")
    answer = run.unplugging.get(alias)
    if answer is not None and not answer.done():
        answer.set_exception(OperationFailed("unplug of device was rejected by the guest"))


async def remove_nic(guest: Guest, run: Run, alias: str) -> None:
    """The card is gone: so go its backend, its helper, its files and its XML, and everybody is told."""
    point("detach.given")
    # On record until it has ended: whatever writes the status file meanwhile may be the last that this daemon does.
    helper = run.helpers.get(alias)
    # The helper ends first: it would take the end of the stream for a loss.
    if helper is not None:
        await end_helper(guest, helper)
    point("detach.helper")
    await drop_netdev(guest, f"host{alias}")
    point("detach.netdev")
    if helper is not None and helper.record.plan.on_loss is OnLoss.REUSE:
        await close_kept(guest, alias)
    nic = next((each for each in guest.domain.devices.interfaces if each.alias == alias), None)
    if nic is not None:
        accepts = helper is not None and helper.record.plan.on_loss is OnLoss.ACCEPT
        if accepts or nic.type is InterfaceType.VHOSTUSER:
            await drop_chardev(guest, alias)
        await leave_taps(run, alias)
    if run.helpers.get(alias) is helper:
        run.helpers.pop(alias, None)
    if guest.run is not run or guest.live is None:
        return
    run.leaving.discard(alias)
    if nic is not None and (item := run.returning(alias)) is not None:
        run.returns(replace(item, xml=format_device(nic, secure=True)))  # Its link may have been pulled meanwhile.
    guest.live = without_interface(guest.live, alias)
    guest.changed()
    guest.save()
    point("detach.written")
    guest.emit_other(EventId.DEVICE_REMOVED, devAlias=alias)
    point("detach.told")
    answer = run.unplugging.get(alias)
    if answer is not None and not answer.done():
        answer.set_result(None)


async def end_helper(guest: Guest, helper: Helper) -> None:
    """End it; one that not even SIGKILL ends is reported, and keeps nothing else from being taken away."""
    try:
        await helper.end()
    except OperationTimeout as error:
        log.error("%s: %s", guest.name, error)


async def drop_netdev(guest: Guest, netdev: str) -> None:
    """Take a backend away that no card uses; one that is not there is no trouble."""
    try:
        await guest.execute("netdev_del", {"id": netdev})
    except QmpError as error:
        log.warning("%s: %s", guest.name, error)


async def drop_chardev(guest: Guest, alias: str) -> None:
    """Take away what a vhost-user backend spoke through; one that is not there is no trouble."""
    try:
        await guest.execute("chardev-remove", {"id": f"char{alias}"})
    except QmpError as error:
        log.debug("%s: %s", guest.name, error)


async def close_kept(guest: Guest, alias: str) -> None:
    """Let QEMU close what it held for the helper's successors (:attr:`virlet.plan.base.NetPlan.keeps`)."""
    for number in count():
        try:
            await guest.execute("closefd", {"fdname": kept_name(alias, number)})
        except QmpError:
            return  # There are no more.


async def leave_taps(run: Run, alias: str) -> None:
    """Leave the tap device of an interface that has gone as it was found, and run the user's script."""
    await leave(run.record, alias)
    run.record = replace(
        run.record,
        put_back=tuple(tap for tap in run.record.put_back if tap.alias != alias),
        down=tuple(script for script in run.record.down if script.alias != alias),
    )
