"""An interface whose way to its helper is lost for good is taken out of the running guest and plugged in again.

That is so for a helper on a pair of sockets whose end nobody has any more: it died under a daemon that could not fetch
the end from it (``kernel.yama.ptrace_scope``).  QEMU can give a card no other backend, so the card goes as well and
comes back with the same alias, address and forwards.  A guest that cannot give it back keeps it, with its link down.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

from virlet.engine.guest import Guest, Run
from virlet.engine.helpers import Helper
from virlet.engine.live import with_backend
from virlet.engine.plug import plug
from virlet.engine.unplug import unplug
from virlet.errors import VirletError
from virlet.model.interface import Interface
from virlet.plan.hotplug import plan_attach

__all__ = ["regain"]

_LATER = "its interface is plugged in anew as soon as the guest gives it back"


def regain(guest: Guest, run: Run, helper: Helper) -> None:
    """Have again what the last daemon kept for *helper*; where it cannot be had, know what to do when it dies."""
    helper.anew = partial(_start, guest, run, helper)
    helper.regain(run.process.pid)


def _start(guest: Guest, run: Run, helper: Helper, why: str) -> None:
    asked = helper.alias in run.given_back
    doing = helper.give_up(f"{why}; {_LATER}") if asked else _anew(guest, run, helper, why)
    guest.tasks.start(doing, f"plugging in {helper.alias} of '{guest.name}' anew")


async def _anew(guest: Guest, run: Run, helper: Helper, why: str) -> None:
    alias = helper.alias
    async with guest.job.hold(f"plug in {alias} anew", patient=True):
        nic = _nic(guest, run, helper)
        if nic is None:
            return
        try:
            await unplug(guest, nic)
        except VirletError as error:
            await helper.give_up(f"{why}; the guest's interface cannot be plugged in anew: {error}")
            return
        if not _has(guest, alias):
            await _again(guest, run, nic, helper)
            return
    given = run.given_back[alias] = asyncio.get_running_loop().create_future()
    if not helper.over:  # Else the guest has answered just now, and it is being removed.
        await helper.give_up(f"{why}; {_LATER}")
    await asyncio.wait({given, run.monitor.closed}, return_when=asyncio.FIRST_COMPLETED)
    if given.done() and not given.cancelled():
        async with guest.job.hold(f"plug in {alias} anew", patient=True):
            await _again(guest, run, nic, helper)


def _nic(guest: Guest, run: Run, helper: Helper) -> Interface | None:
    """Its interface; None when guest, interface or helper has gone meanwhile."""
    if guest.run is not run or run.stopping or run.helpers.get(helper.alias) is not helper or helper.over:
        return None
    if guest.live is None:
        return None
    return next((nic for nic in guest.live.devices.interfaces if nic.alias == helper.alias), None)


def _has(guest: Guest, alias: str) -> bool:
    return guest.live is not None and any(nic.alias == alias for nic in guest.live.devices.interfaces)


async def _again(guest: Guest, run: Run, nic: Interface, lost: Helper) -> None:
    """The guest has given *nic* back: here it is."""
    context, live, name = guest.context, guest.live, lost.record.plan.name
    if guest.run is not run or run.stopping or live is None:
        return
    try:
        dirs = context.guest_dirs(guest.uuid)
        placed, hot = plan_attach(live, nic, context.facts, dirs, context.registry)
        await plug(guest, with_backend(placed, hot.net.backend), hot)
    except VirletError as error:
        guest.tell(lost.alias, "gave-up", f"{name} of {lost.alias} is lost, and its interface: {error}")
        return
    helper = run.helpers.get(lost.alias)
    if helper is not None:
        helper.record = replace(helper.record, restarts=lost.record.restarts + 1)
        guest.save()
    guest.tell(lost.alias, "restarted", f"{name} of {lost.alias} runs again: its interface was plugged in anew")
