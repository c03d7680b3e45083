"""Each guest and its helpers in a systemd scope of their own, where the user has a systemd; nothing waits for it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from virlet.errors import VirletError
from virlet.proc.scope import Scope, attach, create, in_group, manager_socket

if TYPE_CHECKING:
    from virlet.engine.guest import Guest, Run

__all__ = ["Scopes", "scope_of"]

log = logging.getLogger(__name__)


def scope_of(guest: Guest, run: Run) -> Scope:
    """The scope of that run: named by what no other run has, so that a later daemon finds it again."""
    return Scope(f"virlet-{guest.uuid}-{run.process.pid}.scope", f"Virtual machine {guest.name}")


def _pids(run: Run) -> list[int]:
    return [run.process.pid, *(each.process.pid for each in run.helpers.values() if each.process is not None)]


class Scopes:
    """The scopes of a driver's guests."""

    def __init__(self) -> None:
        self._gate = asyncio.Lock()
        """A helper is put into a scope after that was made."""
        self._told = False

    def begin(self, guest: Guest, run: Run) -> None:
        """Have a scope made for *run*, QEMU and helpers in it, beside whatever happens now."""
        self._start(guest, scope_of(guest, run), _pids(run), new=True)

    def resume(self, guest: Guest, run: Run) -> None:
        """The same for a guest that another daemon has started: what that had not come to is done now."""
        scope = scope_of(guest, run)
        outside = [pid for pid in _pids(run) if not in_group(pid, scope.unit)]
        if outside:
            # Its scope is there as long as QEMU is in it.
            self._start(guest, scope, outside, new=run.process.pid in outside)

    def join(self, guest: Guest, run: Run, pid: int) -> None:
        """Have a helper that has come later put where QEMU is."""
        self._start(guest, scope_of(guest, run), [pid], new=False)

    def _start(self, guest: Guest, scope: Scope, pids: Sequence[int], *, new: bool) -> None:
        path = manager_socket(os.environ)
        if path is None:
            return

        async def ask() -> None:
            try:
                async with self._gate:
                    await (create if new else attach)(path, scope, pids)
                log.debug("%s: in %s: %s", guest.name, scope.unit, pids)
            except VirletError as error:
                # Once as a warning: it is the host that is so, and guests run as well without.
                level = logging.DEBUG if self._told else logging.WARNING
                self._told = True
                log.log(level, "%s: its processes stay in virletd's own control group: %s", guest.name, error)

        guest.tasks.start(ask(), f"scope of '{guest.name}'")
