"""The client for asyncio.

>>> async with await connect() as conn:
...     for domain in await conn.domains():
...         print(domain.name, (await domain.state()).state.name)

asyncio's own streams lose file descriptors that arrive with data, so this reads the socket itself.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine, Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from virlet.client import ask
from virlet.client.aio_streams import EventStream, Stream
from virlet.client.autostart import dial_or_start
from virlet.client.core import Core
from virlet.client.outbox import Outbox
from virlet.client.request import Request, request, same
from virlet.client.setup import (
    auth_request,
    close_request,
    keepalive_request,
    open_request,
    polkit_request,
    wants_polkit,
)
from virlet.client.transport import close_all, dial, receive
from virlet.client.uri import Target, resolve
from virlet.client.values import Event, uuid_text
from virlet.enums import ConsoleFlags, EventId
from virlet.errors import RpcError, SystemFailure, VirletError
from virlet.wire import types
from virlet.wire.packet import PING
from virlet.wire.procedure import Procedure
from virlet.wire.pulse import Beat, Pulse

__all__ = ["Connection", "Domain", "Event", "EventStream", "Stream", "connect"]

P = ParamSpec("P")
T = TypeVar("T")
Args = TypeVar("Args")
Ret = TypeVar("Ret")

GOODBYE = 2.0
"""Seconds that a server has to answer a good-bye."""
HIGH = 8 << 20
"""Bytes of unread stream data from which on nothing more is read from the server."""
LOW = 2 << 20
"""Bytes of unread stream data at which reading goes on."""


async def connect(
    uri: str | None = None,
    *,
    readonly: bool = False,
    start: bool = True,
    keepalive: tuple[float, int] | None = None,
) -> Connection:
    """Connect to *uri*, by default to the user's own virletd, which is started if need be (unless not *start*).

    *keepalive* is (interval in seconds, count): the server is given up after *count* unanswered questions.
    Raises :class:`~virlet.errors.VirletError`: NoConnect when nobody listens, AuthFailed, OperationUnsupported.
    """
    target = resolve(uri, os.environ, os.getuid(), readonly=readonly)
    conn = Connection(await _dialled(target, start), target)
    try:
        await conn.open(readonly=readonly, keepalive=keepalive)
    except BaseException:
        conn.hang_up()
        raise
    return conn


async def _dialled(target: Target, start: bool) -> socket.socket:
    # In a thread: a daemon that has to start, or a full backlog, must not stop this loop.
    dialling = asyncio.ensure_future(asyncio.to_thread(dial_or_start if start else dial, target))
    try:
        return await asyncio.shield(dialling)
    except asyncio.CancelledError:
        dialling.add_done_callback(_close_late)
        raise


def _close_late(dialling: asyncio.Future[socket.socket]) -> None:
    if not dialling.cancelled() and dialling.exception() is None:
        dialling.result().close()


def _plain(make: Callable[P, Request[T]]) -> Callable[Concatenate[Connection, P], Coroutine[Any, Any, T]]:
    @wraps(make)
    async def method(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.ask(make(*args, **kwargs))

    return method


def _one(
    make: Callable[P, Request[types.Domain]],
) -> Callable[Concatenate[Connection, P], Coroutine[Any, Any, Domain]]:
    @wraps(make)
    async def method(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> Domain:
        return Domain(self, await self.ask(make(*args, **kwargs)))

    return method


def _many(
    make: Callable[P, Request[tuple[types.Domain, ...]]],
) -> Callable[Concatenate[Connection, P], Coroutine[Any, Any, list[Domain]]]:
    @wraps(make)
    async def method(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> list[Domain]:
        return [Domain(self, dom) for dom in await self.ask(make(*args, **kwargs))]

    return method


def _of_domain(
    make: Callable[Concatenate[types.Domain, P], Request[T]],
) -> Callable[Concatenate[Domain, P], Coroutine[Any, Any, T]]:
    @wraps(make)
    async def method(self: Domain, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.connection.ask(make(self.ref, *args, **kwargs))

    return method


class Connection:
    """An open connection; an asynchronous context manager.  Any number of calls may wait at the same time."""

    def __init__(self, sock: socket.socket, target: Target) -> None:
        sock.setblocking(False)
        self.target = target
        self._sock = sock
        self.core = Core(target.uri)
        """What it remembers; for streams and events."""
        self._loop = asyncio.get_running_loop()
        self._outbox = Outbox(sock, self._failed)
        self._paused = False
        self._pulse: Pulse | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop.add_reader(sock, self._readable)

    driver_type = _plain(ask.driver_type)
    version = _plain(ask.version)
    lib_version = _plain(ask.lib_version)
    hostname = _plain(ask.hostname)
    uri = _plain(ask.uri)
    capabilities = _plain(ask.capabilities)
    domain_capabilities = _plain(ask.domain_capabilities)
    node_info = _plain(ask.node_info)
    domains = _many(ask.domains)
    lookup_by_name = _one(ask.lookup_by_name)
    lookup_by_uuid = _one(ask.lookup_by_uuid)
    lookup_by_id = _one(ask.lookup_by_id)
    define = _one(ask.define)
    create = _one(ask.create)
    domxml_to_native = _plain(ask.domxml_to_native)
    server_version = _plain(ask.server_version)
    explain = _plain(ask.explain_xml)
    doctor = _plain(ask.doctor)
    compat = _plain(ask.compat)

    async def __aenter__(self) -> Connection:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def open(self, *, readonly: bool = False, keepalive: tuple[float, int] | None = None) -> None:
        """Say who we are and what we want; :func:`connect` has done it."""
        if wants_polkit(await self.ask(auth_request())):
            await self.ask(polkit_request())
        if keepalive is not None and await self.ask(keepalive_request()):
            interval, count = keepalive
            self._pulse = Pulse(interval, count, self._loop.time())
            self._beat()
        await self.ask(open_request(self.target, readonly=readonly))

    async def close(self) -> None:
        """Say good-bye and hang up; a connection that is closed already stays so."""
        try:
            if self.core.lost is None:
                async with asyncio.timeout(GOODBYE):
                    await self.ask(close_request())
        except (VirletError, TimeoutError):
            pass  # A server that is gone, or hangs, needs no good-bye.
        finally:
            self.hang_up(RpcError("the connection is closed"))

    def hang_up(self, error: VirletError | None = None) -> None:
        """End it without a word; every call that waits fails with *error*."""
        close_all(self.core.end(error))
        self._outbox.close()
        if self._timer is not None:
            self._timer.cancel()
        if self._sock.fileno() >= 0:
            self._loop.remove_reader(self._sock)
            self._sock.close()

    async def call(self, procedure: Procedure[Args, Ret], args: Args) -> Ret:
        """Call any procedure of :mod:`virlet.wire`'s programs."""
        return await self.ask(request(procedure, args, same))

    async def ask(self, request: Request[T]) -> T:
        """Make a call and wait for what it gives; a caller that is cancelled leaves nothing behind."""
        future: asyncio.Future[T] = self._loop.create_future()
        serial, data = self.core.begin(request, future)
        try:
            self.send(data, request.fds)
        except OSError as error:
            self.core.abandon(serial)
            what, hint = "the descriptors cannot be copied for the server", "see ulimit -n, or pass fewer at a time"
            raise SystemFailure.of(error, what, hint=hint) from None
        try:
            return await future
        except asyncio.CancelledError:
            self.core.abandon(serial)
            if future.done() and not future.cancelled() and future.exception() is None:
                self.send(self.core.drop(request, future.result()))
                self._close_unwanted()
            raise

    async def events(self, kinds: Iterable[EventId | str] | None = None, domain: Domain | None = None) -> EventStream:
        """Events of these *kinds*, ``"helper"`` for virlet's own, by default all that the server knows."""
        stream = EventStream(self)
        try:
            await stream.register(kinds, domain)
        except BaseException:
            await stream.close()
            raise
        return stream

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send *data* as soon as the server takes it, and copies of *fds*, each with one byte of its own, behind it.

        Raises OSError when there is no descriptor left for the copies; then nothing is sent.
        """
        if data and self.core.lost is None:
            self._outbox.send(data, fds)

    async def drain(self) -> None:
        """Wait until the server has taken most of what was sent."""
        await self._outbox.drain()

    def taken(self) -> None:
        """Somebody has read stream data: more may come."""
        if self._paused and self.core.backlog <= LOW and self.core.lost is None:
            self._paused = False
            self._loop.add_reader(self._sock, self._readable)

    def _failed(self, error: OSError) -> None:
        self.hang_up(SystemFailure.of(error, f"the connection to {self.target.uri} failed"))

    def _readable(self) -> None:
        try:
            data, fds = receive(self._sock)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        if not data:
            self.hang_up()
            return
        if self._pulse is not None:
            self._pulse.received(self._loop.time())
        self.send(self.core.received(data, fds))
        self._close_unwanted()
        if self.core.lost is not None:
            self.hang_up()
        elif self.core.backlog > HIGH:
            self._paused = True
            self._loop.remove_reader(self._sock)

    def _close_unwanted(self) -> None:
        if self.core.link.unwanted:
            close_all(self.core.link.unwanted)
            self.core.link.unwanted.clear()

    def _beat(self) -> None:
        if self._pulse is None or self.core.lost is not None:
            return
        beat = self._pulse.due(self._loop.time())
        if beat is Beat.DEAD and not self._paused:
            self.hang_up(RpcError(f"the server at {self.target.uri} does not answer any more"))
            return
        if beat is Beat.PING:
            self.send(PING)
        if (next_at := self._pulse.next_at) is not None:
            self._timer = self._loop.call_at(max(next_at, self._loop.time() + 0.001), self._beat)


class Domain:
    """One domain of a connection; the server knows it by its UUID."""

    __slots__ = ("connection", "ref")

    def __init__(self, connection: Connection, ref: types.Domain) -> None:
        self.connection = connection
        self.ref = ref

    def __repr__(self) -> str:
        return f"<Domain {self.name}>"

    @property
    def name(self) -> str:
        """Its name when it was looked up."""
        return self.ref.name

    @property
    def uuid(self) -> str:
        """Its UUID as text."""
        return uuid_text(self.ref.uuid)

    async def open_console(self, device: str | None = None, flags: ConsoleFlags | int = 0) -> Stream:
        """A console: the first one, or the one with that alias."""
        inbox = await self.connection.ask(ask.console(self.ref, device, flags))
        return Stream(self.connection, inbox)

    id = _of_domain(ask.id_)
    start = _of_domain(ask.start)
    destroy = _of_domain(ask.destroy)
    shutdown = _of_domain(ask.shutdown)
    reboot = _of_domain(ask.reboot)
    reset = _of_domain(ask.reset)
    suspend = _of_domain(ask.suspend)
    resume = _of_domain(ask.resume)
    undefine = _of_domain(ask.undefine)
    rename = _of_domain(ask.rename)
    xml = _of_domain(ask.xml)
    info = _of_domain(ask.info)
    state = _of_domain(ask.state)
    is_active = _of_domain(ask.is_active)
    is_persistent = _of_domain(ask.is_persistent)
    autostart = _of_domain(ask.autostart)
    set_autostart = _of_domain(ask.set_autostart)
    attach_device = _of_domain(ask.attach_device)
    detach_device = _of_domain(ask.detach_device)
    update_device = _of_domain(ask.update_device)
    fd_associate = _of_domain(ask.fd_associate)
    metadata = _of_domain(ask.metadata)
    set_metadata = _of_domain(ask.set_metadata)
    open_graphics = _of_domain(ask.open_graphics)
    explain = _of_domain(ask.explain)
    ports = _of_domain(ask.ports)
    details = _of_domain(ask.details)
    logs = _of_domain(ask.logs)
