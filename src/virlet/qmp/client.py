"""The library's client, told to keep nothing and to log nothing twice.  Imported only when a monitor is connected.

What ``qemu.qmp`` does by default and this does not: keep every event that ever came; print every message with
indentation, debug log or not (a fifth of a millisecond a command); log as errors what it raises as well.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from virlet.lean import without

with without("ssl", "SSLContext"):
    from qemu.qmp import ConnectError, QMPClient, Runstate
    from qemu.qmp.message import Message

__all__ = ["Client", "ConnectError"]

log = logging.getLogger(__name__)

_QUIET = logging.Logger("qemu.qmp", logging.CRITICAL)
"""Errors of the library are raised, and told by whoever catches them."""


class Client(QMPClient):
    """One connection; *deliver* gets every event, in order, and must not raise."""

    def __init__(self, label: str, deliver: Callable[[Message], None]) -> None:
        super().__init__()
        self.label = label
        self.logger = _QUIET
        self._deliver = deliver
        self.events.event_filter = self._see

    async def connect(self, address: Any, ssl: Any = None) -> None:
        """Connect and negotiate; raises :class:`ConnectError`, also when QEMU ends right after it has agreed.

        qemu.qmp 0.0.6 asserts that this does not happen.
        """
        try:
            await super().connect(address, ssl)
        except AssertionError:
            ending = asyncio.ensure_future(self.disconnect())
            await asyncio.wait({ending})
            reason = ending.exception()
            cause = reason if isinstance(reason, Exception) else EOFError()
            raise ConnectError("Connection lost right after the negotiation", cause) from cause

    def _see(self, event: Message) -> bool:
        """The filter of the default listener, which cannot be taken away: it sees every event and lets none in."""
        self._deliver(event)
        return False

    async def _do_recv(self) -> Message:
        """The next message that is for us.

        QEMU greets in one thread, and answers and tells events in another (7.2).  A client that comes when the one
        before has just gone gets the answer to the last command of that, and events that were meant for it, before and
        after the greeting; the library takes the first message for the greeting and the second for its first answer.
        """
        while True:
            message = await super()._do_recv()
            if self.runstate is Runstate.CONNECTING and "event" in message:
                self._deliver(message)
            elif self._awaited(message):
                return message
            else:
                log.debug("%s -> an answer that nobody awaits: %.1000s", self.label, dict(message))

    def _awaited(self, message: Message) -> bool:
        if self.greeting is None:
            return "return" not in message and "error" not in message
        return "id" not in message or message["id"] in tuple(self._pending)

    def _cb_outbound(self, msg: Message) -> Message:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s <- %s", self.label, dict(msg))
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        if log.isEnabledFor(logging.DEBUG):
            log.debug("%s -> %.1000s", self.label, dict(msg))
        return msg
