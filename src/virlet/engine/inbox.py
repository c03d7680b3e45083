"""What QEMU says, from its first word on: nothing that comes before the guest is there to hear it is lost."""

from __future__ import annotations

from collections.abc import Callable

from virlet.engine.ending import ended
from virlet.engine.guest import Guest, Run
from virlet.engine.reactions import Reactions
from virlet.qmp.monitor import Event

__all__ = ["Inbox", "hear", "watch", "watch_end"]


class Inbox:
    """Events of QEMU's that come before the guest is there to hear them, and their way to it afterwards."""

    __slots__ = ("_handler", "_waiting")

    def __init__(self) -> None:
        self._waiting: list[Event] = []
        self._handler: Callable[[Event], None] | None = None

    def __call__(self, event: Event) -> None:
        if self._handler is None:
            self._waiting.append(event)
        else:
            self._handler(event)

    def open(self, handler: Callable[[Event], None]) -> None:
        """Hand over what has come so far, and whatever comes."""
        waiting, self._waiting = self._waiting, []
        for event in waiting:
            handler(event)
        self._handler = handler


def watch(guest: Guest, run: Run, inbox: Inbox) -> None:
    """From now on what QEMU says is reacted to, and its end is the guest's."""
    hear(guest, run, inbox)
    watch_end(guest, run)


def hear(guest: Guest, run: Run, inbox: Inbox) -> None:
    """React to what QEMU has said and says."""
    run.unheard = False
    inbox.open(Reactions(guest, run).on_event)


def watch_end(guest: Guest, run: Run) -> None:
    """The end of QEMU's process is the guest's."""
    run.process.on_exit(lambda status: ended(guest, run, status))
