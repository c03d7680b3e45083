"""Where a connection leaves what comes unasked: data of streams, and events."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from virlet.client.values import Event
from virlet.errors import VirletError
from virlet.wire.events import StreamId

__all__ = ["Inbox", "Mailbox"]


def _nobody() -> None:
    return


class Inbox:
    """What came on one stream and was not read yet."""

    def __init__(self, stream: StreamId, ret: object) -> None:
        self.stream = stream
        self.ret = ret
        """The result of the call that opened the stream."""
        self.chunks: deque[bytes] = deque()
        self.eof = False
        """No more data will come."""
        self.finished = False
        """The server has answered our end of it."""
        self.error: VirletError | None = None
        self.wake: Callable[[], None] = _nobody


class Mailbox:
    """Events that came for one listener and were not read yet."""

    def __init__(self) -> None:
        self.events: deque[Event] = deque()
        self.keys: dict[tuple[int, int], str] = {}
        """(program, callback id) of what it listens to, and the kind of event."""
        self.wake: Callable[[], None] = _nobody
