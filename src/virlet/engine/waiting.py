"""A start that waits for a program of somebody else's: told after a moment, given up by name, ended by destroy."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from virlet.engine.guest import Guest
from virlet.errors import OperationAborted, OperationTimeout
from virlet.qmp.monitor import Monitor

__all__ = ["answered"]

SOON = 1.0
"""Seconds after which everybody is told whom a guest waits for."""


async def answered(
    connecting: Coroutine[Any, Any, Monitor], guest: Guest, whom: str, tell: Callable[[str], None]
) -> Monitor:
    """The monitor that *connecting* gives, as soon as *whom* (for messages) has let QEMU come so far.

    :raises OperationTimeout: nobody came within the monitor's own patience.
    :raises OperationAborted: the guest was destroyed meanwhile.
    """
    guest.abandon = asyncio.Event()
    connection = asyncio.ensure_future(connecting)
    abandoned = asyncio.ensure_future(guest.abandon.wait())
    both = {connection, abandoned}
    try:
        done, _ = await asyncio.wait(both, timeout=SOON, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            tell(f"'{guest.name}' waits for {whom}; destroy it to give up")
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        if not connection.done():
            raise OperationAborted(f"the start of '{guest.name}' was given up while it waited for {whom}")
        return await connection
    except OperationTimeout as error:
        raise OperationTimeout(
            f"{error.detail}: {whom} did not answer", hint="start that program first; QEMU waits for it"
        ) from error
    finally:
        guest.abandon = None
        for task in both:
            task.cancel()
        await asyncio.wait(both)
