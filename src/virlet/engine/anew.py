"""An interface whose way to its helper is lost for good is taken out of the running guest and plugged in again.

That is so for a helper on a pair of sockets whose end nobody has any more: it died under a daemon that could not fetch
the end from it (``kernel.yama.ptrace_scope``).  QEMU can give a card no other backend, so the card goes as well and
comes back with the same alias, address and forwards.  A guest that cannot give it back keeps it, with its link down.
What is under way is on record, and the next daemon goes on with it.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

from virlet.engine.guest import Guest, Run
from virlet.engine.helpers import Helper
from virlet.engine.live import with_backend
from virlet.engine.plug import plug
from virlet.engine.status import Returning
from virlet.engine.unplug import unplug
from virlet.errors import VirletError
from virlet.model.domain import format_device, parse_interface
from virlet.model.interface import Interface
from virlet.plan.hotplug import plan_attach

__all__ = ["regain", "resume"]

_LATER = "its interface is plugged in anew as soon as the guest gives it back"


def regain(guest: Guest, run: Run, helper: Helper) -> None:
    """Have again what the last daemon kept for *helper*; where it cannot be had, know what to do when it dies."""
    helper.anew = partial(_start, guest, run, helper)
    helper.regain(run.process.pid)


def _start(guest: Guest, run: Run, helper: Helper, why: str) -> None:
    asked = helper.alias in run.given_back
    doing = helper.give_up(f"{why}; {_LATER}") if asked else _anew(guest, run, helper, why)
    guest.tasks.start(doing, f"plugging in {helper.alias} of '{guest.name}' anew")


def resume(guest: Guest, run: Run) -> None:
    """Go on with what the last daemon did not see to its end."""
    for item in run.record.returning:
        helper = run.helpers.get(item.alias)
        if not _has(guest, item.alias):
            doing = _held(guest, run, item)
        elif helper is None or helper.process is not None:
            _note(guest, run, item.alias)  # It is there again.
            continue
        else:
            doing = _asked_again(guest, run, item, _expect(run, item.alias))
        guest.tasks.start(doing, f"plugging in {item.alias} of '{guest.name}' anew")


async def _anew(guest: Guest, run: Run, helper: Helper, why: str) -> None:
    alias = helper.alias
    async with guest.job.hold(f"plug in {alias} anew", patient=True):
        nic = _nic(guest, run, helper)
        if nic is None:
            return
        record = helper.record
        item = Returning(alias, format_device(nic, secure=True), record.plan.name, record.restarts + 1)
        _note(guest, run, alias, item)
        try:
            await unplug(guest, nic)
        except VirletError as error:
            _note(guest, run, alias)
            await helper.give_up(f"{why}; the guest's interface cannot be plugged in anew: {error}")
            return
        if not _has(guest, alias):
            await _again(guest, run, item)
            return
        given = _expect(run, alias)
    if not helper.over:  # Else the guest has answered just now, and it is being removed.
        await helper.give_up(f"{why}; {_LATER}")
    await _when_given(guest, run, item, given)


def _expect(run: Run, alias: str) -> asyncio.Future[None]:
    """Done when the guest has given it back, cancelled when its user has taken it away meanwhile."""
    given = run.given_back[alias] = asyncio.get_running_loop().create_future()
    return given


async def _when_given(guest: Guest, run: Run, item: Returning, given: asyncio.Future[None]) -> None:
    ends: set[asyncio.Future[Any]] = {given, run.monitor.closed}
    await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    if given.cancelled():
        _note(guest, run, item.alias)
    elif given.done():
        await _held(guest, run, item)


async def _asked_again(guest: Guest, run: Run, item: Returning, given: asyncio.Future[None]) -> None:
    # The last daemon may have died before it asked.  Where it has asked QEMU may refuse, and the guest answers all the
    # same.
    with suppress(VirletError):
        await guest.execute("device_del", {"id": item.alias})
    await _when_given(guest, run, item, given)


async def _held(guest: Guest, run: Run, item: Returning) -> None:
    async with guest.job.hold(f"plug in {item.alias} anew", patient=True):
        await _again(guest, run, item)


def _note(guest: Guest, run: Run, alias: str, *items: Returning) -> None:
    """Have *items* on record for that interface, for the next daemon."""
    others = (each for each in run.record.returning if each.alias != alias)
    run.record = replace(run.record, returning=(*others, *items))
    guest.save()


def _nic(guest: Guest, run: Run, helper: Helper) -> Interface | None:
    """Its interface; None when guest, interface or helper has gone meanwhile."""
    if guest.run is not run or run.stopping or run.helpers.get(helper.alias) is not helper or helper.over:
        return None
    if guest.live is None:
        return None
    return next((nic for nic in guest.live.devices.interfaces if nic.alias == helper.alias), None)


def _has(guest: Guest, alias: str) -> bool:
    return guest.live is not None and any(nic.alias == alias for nic in guest.live.devices.interfaces)


async def _again(guest: Guest, run: Run, item: Returning) -> None:
    """The guest has given it back: here it is."""
    context, live, alias = guest.context, guest.live, item.alias
    if guest.run is not run or run.stopping or live is None:
        return
    try:
        dirs = context.guest_dirs(guest.uuid)
        nic, _ = parse_interface(item.xml, live=True, stored=True)
        placed, hot = plan_attach(live, nic, context.facts, dirs, context.registry)
        await plug(guest, with_backend(placed, hot.net.backend), hot)
    except VirletError as error:
        _note(guest, run, alias)
        guest.tell(alias, "gave-up", f"{item.program} of {alias} is lost, and its interface: {error}")
        return
    helper = run.helpers.get(alias)
    if helper is not None:
        helper.record = replace(helper.record, restarts=item.restarts)
    _note(guest, run, alias)
    guest.tell(alias, "restarted", f"{item.program} of {alias} runs again: its interface was plugged in anew")
