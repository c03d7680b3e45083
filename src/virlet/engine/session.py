"""A user's session, opened: directories made, definitions read, running guests taken over, autostart under way."""

from __future__ import annotations

import asyncio
import logging

from virlet.engine.adopt import adopt_all
from virlet.engine.context import Context, Dirs
from virlet.engine.define import load_definitions
from virlet.engine.driver import QemuDriver
from virlet.engine.facts import gather
from virlet.engine.files import check_owner, make_private
from virlet.engine.guest import Guest
from virlet.engine.logs import keep_small
from virlet.engine.probe.cache import Cache
from virlet.errors import ConfigUnsupported, VirletError
from virlet.net.choose import registry
from virlet.plan.facts import Facts

__all__ = ["STARTS_AT_ONCE", "autostart", "open_driver"]

log = logging.getLogger(__name__)

STARTS_AT_ONCE = 2
"""Guests of an autostart that are started side by side: more would only wait for each other's CPU."""


async def open_driver(path: str = "/session", dirs: Dirs | None = None, facts: Facts | None = None) -> QemuDriver:
    """The driver of ``qemu://PATH``: definitions read, running guests taken over, autostart guests on their way.

    *dirs* and *facts* are this user's and this host's unless given.  Raises :class:`SystemFailure` when our directories
    cannot be made.
    """
    if path != "/session":
        raise ConfigUnsupported(f"unexpected QEMU URI path '{path}'", hint="use qemu:///session")
    dirs = dirs or Dirs.ours()
    cache = Cache(dirs.cache)
    if facts is None:
        facts = await gather(cache)
    context = Context(dirs, facts, registry(), cache)
    make_private(dirs.runtime)
    check_owner(dirs.runtime)
    context.status.prepare()
    load_definitions(context)
    await adopt_all(context)
    driver = QemuDriver(context)
    driver.follow_network()
    context.tasks.start(autostart(driver, context), "autostart")
    context.tasks.start(keep_small(context), "logs")
    return driver


async def autostart(driver: QemuDriver, context: Context) -> None:
    """Start what is marked; one that cannot be started is reported and stops nobody else."""
    gate = asyncio.Semaphore(STARTS_AT_ONCE)

    async def one(guest: Guest) -> None:
        async with gate:
            try:
                await driver.start(guest.uuid, 0, None)
            except VirletError as error:
                sentence = f"autostart of '{guest.name}' failed: {error}"
                log.error("%s", sentence)
                context.status.problems.append(sentence)

    waiting = [guest for guest in context.guests if guest.autostart and not guest.active and not guest.foreign]
    for guest, bug in zip(waiting, await asyncio.gather(*map(one, waiting), return_exceptions=True), strict=True):
        if bug is not None:
            sentence = f"autostart of '{guest.name}' failed: bug in virlet, please report: {bug!r}"
            log.error("%s", sentence, exc_info=bug)
            context.status.problems.append(sentence)
