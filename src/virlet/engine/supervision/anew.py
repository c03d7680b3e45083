"""An interface whose way to its helper is lost for good is taken out of the running guest and plugged in again.

That is so for a helper on a pair of sockets whose end nobody has any more: it died under a daemon that could not fetch
the end from it (``kernel.yama.ptrace_scope``).  QEMU can give a card no other backend, so the card goes as well and
comes back with the same alias, address and forwards.  A guest that cannot give it back keeps it, with its link down.
What is under way is on record, and the next daemon goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from functools import partial

from virlet.engine.guest import Guest, Run
from virlet.engine.live import with_backend
from virlet.engine.plug import plug
from virlet.engine.status import Returning
from virlet.engine.supervision.budget import Budget, Losses, passes
from virlet.engine.supervision.helper import Helper
from virlet.engine.unplug import remove_nic, unplug
from virlet.errors import SystemFailure, VirletError
from virlet.model.domain import format_device, parse_interface
from virlet.model.interface import Interface
from virlet.plan.hotplug import plan_attach

__all__ = ["given_back", "regain", "resume"]

log = logging.getLogger(__name__)

_LATER = "its interface is plugged in anew as soon as the guest gives it back"
_LEAVING = "the guest was asked for its interface, and has not given it back yet"


def regain(guest: Guest, run: Run, helper: Helper) -> None:
    """Have again what the last daemon kept for *helper*; where it cannot be had, know what to do when it dies."""
    helper.anew = partial(_start, guest, run, helper)
    helper.regain(run.process.pid)


def resume(guest: Guest, run: Run) -> None:
    """Go on with what the last daemon did not see to its end; what the guest still has may come back any time."""
    for item in run.record.returning:
        helper = run.helpers.get(item.alias)
        if not _present(guest, item.alias):
            guest.tasks.start(_plug_back_as_job(guest, run, item.alias), _what(guest, item.alias))
        elif helper is None or helper.process is not None:  # It has come back.
            run.stays_away(item.alias)
            guest.save()


async def given_back(guest: Guest, run: Run, alias: str) -> None:
    """The guest has no such card any more: take away what was behind it, and plug it in anew if it is to return."""
    await remove_nic(guest, run, alias)
    if run.returning(alias) is not None and alias not in run.unplugging:  # Else who waits for this plugs it in.
        await _plug_back_as_job(guest, run, alias)


def _what(guest: Guest, alias: str) -> str:
    return f"plugging in {alias} of '{guest.name}' anew"


def _start(guest: Guest, run: Run, helper: Helper, why: str) -> None:
    guest.tasks.start(_anew(guest, run, helper, why), _what(guest, helper.alias))


async def _anew(guest: Guest, run: Run, helper: Helper, why: str) -> None:
    alias = helper.alias
    async with guest.job.hold(f"plug in {alias} anew", patient=True):
        nic = _nic(guest, run, helper)
        if nic is None:
            return
        if alias in run.leaving:
            await helper.give_up(f"{why}; {_LEAVING}")
            return
        record = helper.record
        item = Returning(alias, format_device(nic, secure=True), record.plan.name, record.restarts + 1)
        try:
            await unplug(guest, nic, returns=item)
        except VirletError as error:
            await helper.give_up(f"{why}; the guest's interface cannot be plugged in anew: {error}")
            return
        if not _present(guest, alias):
            await _plug_back(guest, run, alias)
            return
    if not helper.over:  # Else the guest has answered just now, and it is being removed.
        await helper.give_up(f"{why}; {_LATER}")


def _nic(guest: Guest, run: Run, helper: Helper) -> Interface | None:
    """Its interface; None when guest, interface or helper has gone meanwhile."""
    if guest.run is not run or run.stopping or run.helpers.get(helper.alias) is not helper or helper.over:
        return None
    if guest.live is None:
        return None
    return next((nic for nic in guest.live.devices.interfaces if nic.alias == helper.alias), None)


def _present(guest: Guest, alias: str) -> bool:
    return guest.live is not None and any(nic.alias == alias for nic in guest.live.devices.interfaces)


async def _plug_back_as_job(guest: Guest, run: Run, alias: str, losses: Losses | None = None) -> None:
    async with guest.job.hold(f"plug in {alias} anew", patient=True):
        await _plug_back(guest, run, alias, losses)


async def _plug_back(guest: Guest, run: Run, alias: str, losses: Losses | None = None) -> None:
    """Here it is again, as it was when it left; soon, where the host is out of something, as *losses* says."""
    context, live, item = guest.context, guest.live, run.returning(alias)
    if item is None or guest.run is not run or run.stopping or live is None:
        return
    try:
        nic, _ = parse_interface(item.xml, live=True, stored=True)
        placed, hot = plan_attach(live, nic, context.facts, context.guest_dirs(guest.uuid), context.registry)
        await plug(guest, with_backend(placed, hot.net.backend), hot)
    except VirletError as error:
        if isinstance(error, SystemFailure) and passes(error.errno):
            losses = Losses(Budget()) if losses is None else losses
            guest.tasks.start(_again(guest, run, item, losses, error), _what(guest, alias))
            return
        run.stays_away(alias)
        guest.save()
        guest.tell(alias, "gave-up", f"{item.program} of {alias} is lost, and its interface: {error}")
        return
    helper = run.helpers.get(alias)
    if helper is not None:
        helper.record = replace(helper.record, restarts=item.restarts)
    run.stays_away(alias)
    guest.save()
    guest.tell(alias, "restarted", f"{item.program} of {alias} runs again: its interface was plugged in anew")


async def _again(guest: Guest, run: Run, item: Returning, losses: Losses, error: SystemFailure) -> None:
    """Try once more in a while, without end, as for a helper that cannot be started."""
    sentence = f"the interface {item.alias} of {item.program} cannot be plugged in again yet: {error}"
    if losses.not_started(asyncio.get_running_loop().time(), error.errno):
        log.warning("%s: %s", guest.name, sentence)
    else:
        guest.tell(item.alias, "lost", sentence)
    await asyncio.sleep(losses.pause)
    await _plug_back_as_job(guest, run, item.alias, losses)
