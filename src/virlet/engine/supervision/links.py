"""The cables of a guest that was taken over are in or out as its XML and its helpers want it.

Whoever takes one out (its user, a helper that is given up, waits or is replaced) writes that down first, and who puts
it in writes that down at last.  So where the record says that a cable is in, it is, and nothing is asked or sent; where
it says that it is out, the last daemon may have died before it was, or when it was in already.
"""

from __future__ import annotations

import logging

from virlet.engine.guest import Guest, Run
from virlet.qmp.monitor import QmpError

__all__ = ["links_as_wanted"]

log = logging.getLogger(__name__)


async def links_as_wanted(guest: Guest, run: Run) -> None:
    """Put in the cables of helpers that run, and take out those that are to be out.

    Raises :class:`OperationInvalid` when the guest ends meanwhile.
    """
    for nic in guest.live.devices.interfaces if guest.live is not None else ():
        helper = run.helpers.get(nic.alias or "")
        try:
            if helper is not None and helper.process is not None:
                await helper.came_back()
            if not nic.link_up or (helper is not None and helper.unlinked):
                await guest.execute("set_link", {"name": nic.alias, "up": False})
        except QmpError as error:
            log.debug("%s: %s", guest.name, error)  # The guest has just given the card back.
