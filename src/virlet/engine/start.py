"""Bring a guest up as its plan says, or leave nothing behind.

Every effect registers its undo on one exit stack, which the guest takes over when all has gone well.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from dataclasses import replace

from virlet.engine.context import Context
from virlet.engine.guest import Guest, Run
from virlet.engine.inbox import Inbox, watch
from virlet.engine.launch import Launch
from virlet.engine.live import with_backends
from virlet.engine.needs import look, refuse
from virlet.engine.planned import located, plan_start
from virlet.enums import DomainState
from virlet.errors import BadConfig
from virlet.fault import point
from virlet.model.domain import Domain
from virlet.model.lifecycle import Action
from virlet.plan.base import LaunchPlan

__all__ = ["start"]


async def start(guest: Guest, definition: Domain, *, paused: bool = False, owner: object = None) -> None:
    """Start *guest* as *definition* says; the caller holds its job.

    When it returns the guest runs, every forwarded port accepts, and the events are out.  Whatever it raises, no
    process, socket or file of the start is left.
    """
    domain, plan = await _planned(guest.context, definition)
    point("start.planned")
    before = look(plan.nets, guest.context.owner_of_port)
    refuse(plan, before, lambda problem: located(definition, [problem])[0])
    number = guest.context.next_id()
    live = with_backends(replace(domain, id=number), {net.alias: net.backend for net in plan.nets})
    launch = Launch(guest, definition, plan, live, before, Inbox())
    try:
        async with AsyncExitStack() as undo:
            run = await launch.bring_up(undo, paused=paused)
            point("start.up")
            run.owner = owner
            _own(guest, run, launch, number)
            step = guest.enter(Action.START_PAUSED if paused else Action.START)
            point("start.owned")
            _write_down(guest, run)
            point("start.written")
            run.undo = undo.pop_all()
    except BaseException:
        await _disown(guest)
        raise
    guest.announce(step)
    point("start.told")
    watch(guest, run, launch.inbox)
    point("start.watched")
    guest.context.scopes.begin(guest, run)
    for helper in run.helpers.values():
        helper.tell_waits()


async def _planned(context: Context, definition: Domain) -> tuple[Domain, LaunchPlan]:
    try:
        return plan_start(context, definition)
    except BadConfig:
        # What is missing may have been installed since we looked.
        await context.ask_again()
        return plan_start(context, definition)


def _own(guest: Guest, run: Run, launch: Launch, number: int) -> None:
    """From now on the guest is that run, and the end of its helpers is noticed."""
    guest.own(run, launch.domain, number)
    for alias, helper in run.helpers.items():
        if alias in launch.processes:
            helper.own(launch.processes[alias])


def _write_down(guest: Guest, run: Run) -> None:
    try:
        guest.save(strict=True)
    except BaseException:
        run.ending = Action.START_FAILED  # What the undo ends is no loss.
        raise


async def _disown(guest: Guest) -> None:
    """The start has failed, and what it made is gone."""
    for helper in guest.run.helpers.values() if guest.run is not None else ():
        helper.forget()
    guest.state = DomainState.SHUTOFF
    guest.disown(Action.START_FAILED)
    await guest.tasks.cancel()
