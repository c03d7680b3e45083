"""Streams and events for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING

from virlet.client.mail import Inbox, Mailbox
from virlet.client.setup import deregister_requests, event_kinds, register_request, tolerable
from virlet.client.values import Event
from virlet.enums import EventId
from virlet.errors import VirletError

if TYPE_CHECKING:
    from virlet.client.aio import Connection, Domain

__all__ = ["EventStream", "Stream"]


class Stream:
    """Bytes both ways, until one side ends it; an asynchronous context manager that aborts what was not finished."""

    def __init__(self, connection: Connection, inbox: Inbox) -> None:
        self._conn = connection
        self._inbox = inbox
        self._ended = False
        self._news = asyncio.Event()
        inbox.wake = self._news.set

    async def __aenter__(self) -> Stream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self._ended and self._inbox.error is None:
            await self.abort()

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while chunk := await self.read():
            yield chunk

    async def read(self) -> bytes:
        """The next piece, of any size; empty at the end.  Raises what the server says when the stream failed."""
        while True:
            self._news.clear()
            chunk = self._conn.core.take(self._inbox)
            if chunk is not None:
                self._conn.taken()
                return chunk
            await self._news.wait()

    async def write(self, data: bytes) -> None:
        """Send *data*; waits while the server is slower than we are."""
        if self._inbox.error is not None:
            raise self._inbox.error
        if data:
            self._conn.send(self._conn.core.link.stream_data(self._inbox.stream, data))
            await self._conn.drain()

    async def finish(self) -> None:
        """End it well; returns when the server has taken everything, raises when it could not."""
        await self._end(self._conn.core.link.stream_finish(self._inbox.stream))

    async def abort(self) -> None:
        """End it, whatever has become of it; what is on the way may be lost."""
        with suppress(VirletError):
            await self._end(self._conn.core.link.stream_abort(self._inbox.stream))

    async def _end(self, goodbye: bytes) -> None:
        if not self._ended and self._inbox.error is None:
            self._ended = True
            self._conn.send(goodbye)
        while not self._inbox.finished and self._inbox.error is None:
            self._news.clear()
            # What nobody will read must not stop the server's answer from being read.
            self._conn.core.discard(self._inbox)
            self._conn.taken()
            await self._news.wait()
        if self._inbox.error is not None:
            raise self._inbox.error


class EventStream:
    """Events as an asynchronous iterator that ends only with the connection; a context manager that deregisters."""

    def __init__(self, connection: Connection) -> None:
        self._conn = connection
        self._mailbox = Mailbox()
        self._news = asyncio.Event()
        self._mailbox.wake = self._news.set

    async def register(self, kinds: Iterable[EventId | str] | None, domain: Domain | None) -> None:
        """Ask the server; :meth:`Connection.events` has done it."""
        self._conn.core.listen(self._mailbox)
        for kind in event_kinds(kinds):
            try:
                await self._conn.ask(register_request(self._mailbox, kind, domain.ref if domain else None))
            except VirletError as error:
                if kinds is not None or not tolerable(error):
                    raise

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        """The next event.  Raises what ended the connection when it is lost."""
        while not self._mailbox.events:
            if self._conn.core.lost is not None:
                raise self._conn.core.lost
            self._news.clear()
            await self._news.wait()
        return self._mailbox.events.popleft()

    async def close(self) -> None:
        """Hear no more events."""
        core = self._conn.core
        core.unlisten(self._mailbox)
        if core.lost is None:
            for goodbye in deregister_requests(self._mailbox):
                await self._conn.ask(goodbye)
        self._mailbox.keys.clear()
