"""Streams and events that block."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from virlet.client.mail import Inbox, Mailbox
from virlet.client.setup import deregister_requests, event_kinds, register_request, tolerable
from virlet.client.values import Event
from virlet.enums import EventId
from virlet.errors import VirletError

if TYPE_CHECKING:
    from virlet.client.sync import Connection, Domain

__all__ = ["EventStream", "Stream"]


class Stream:
    """Bytes both ways, until one side ends it; a context manager that aborts what was not finished."""

    def __init__(self, connection: Connection, inbox: Inbox) -> None:
        self._conn = connection
        self._inbox = inbox
        self._ended = False

    def __enter__(self) -> Stream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended and self._inbox.error is None:
            self.abort()

    @property
    def pending(self) -> bool:
        """Whether :meth:`read` would return, or raise, at once."""
        inbox = self._inbox
        return bool(inbox.chunks) or inbox.eof or inbox.finished or inbox.error is not None

    def read(self) -> bytes:
        """The next piece, of any size; empty at the end.  Raises what the server says when the stream failed."""
        while (chunk := self._conn.core.take(self._inbox)) is None:
            self._conn.pump()
        return chunk

    def fileno(self) -> int:
        """The connection's socket, for select: when it is readable, call :meth:`available`."""
        return self._conn.fileno()

    @property
    def ended(self) -> bool:
        """Whether everything was read and no more will come."""
        inbox = self._inbox
        return not inbox.chunks and (inbox.eof or inbox.finished)

    def available(self) -> Iterator[bytes]:
        """The pieces that are there now; waits for nothing.  Raises like :meth:`read`."""
        while self._conn.pump(0):
            pass
        while self.pending and (chunk := self.read()):
            yield chunk

    def write(self, data: bytes) -> None:
        """Send *data*."""
        if self._inbox.error is not None:
            raise self._inbox.error
        if data:
            self._conn.send(self._conn.core.link.stream_data(self._inbox.stream, data))

    def finish(self) -> None:
        """End it well; returns when the server has taken everything, raises when it could not."""
        self._end(self._conn.core.link.stream_finish(self._inbox.stream))

    def abort(self) -> None:
        """End it, whatever has become of it; what is on the way may be lost."""
        with suppress(VirletError):
            self._end(self._conn.core.link.stream_abort(self._inbox.stream))

    def _end(self, goodbye: bytes) -> None:
        if not self._ended and self._inbox.error is None:
            self._ended = True
            self._conn.send(goodbye)
        while not self._inbox.finished and self._inbox.error is None:
            self._conn.core.discard(self._inbox)
            self._conn.pump()
        if self._inbox.error is not None:
            raise self._inbox.error


class EventStream:
    """Events as a blocking iterator that ends only with the connection; a context manager that deregisters."""

    def __init__(self, connection: Connection, kinds: Iterable[EventId | str] | None, domain: Domain | None) -> None:
        self._conn = connection
        self._mailbox = Mailbox()
        connection.core.listen(self._mailbox)
        try:
            self._register(kinds, domain)
        except BaseException:
            self.close()
            raise

    def _register(self, kinds: Iterable[EventId | str] | None, domain: Domain | None) -> None:
        for kind in event_kinds(kinds):
            try:
                self._conn.ask(register_request(self._mailbox, kind, domain.ref if domain else None))
            except VirletError as error:
                if kinds is not None or not tolerable(error):
                    raise

    def __enter__(self) -> EventStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        while True:
            event = self.next()
            assert event is not None  # without a timeout there is one, or an exception
            yield event

    def next(self, timeout: float | None = None) -> Event | None:
        """The next event; None when none came for *timeout* seconds.  Raises when the connection is lost."""
        end = None if timeout is None else time.monotonic() + timeout
        while not self._mailbox.events:
            left = None if end is None else max(0.0, end - time.monotonic())
            if not self._conn.pump(left):
                return None
        return self._mailbox.events.popleft()

    def close(self) -> None:
        """Hear no more events."""
        core = self._conn.core
        core.unlisten(self._mailbox)
        if core.lost is None:
            for goodbye in deregister_requests(self._mailbox):
                self._conn.ask(goodbye)
        self._mailbox.keys.clear()
