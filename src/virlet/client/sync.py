"""The client without asyncio: every call blocks.  For commands and scripts; one connection belongs to one thread.

>>> with connect() as conn:
...     for domain in conn.domains():
...         print(domain.name, domain.state().state.name)
"""

from __future__ import annotations

import os
import select
import socket
import time
from collections.abc import Callable, Iterable
from functools import wraps
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, TypeVar

from virlet.client import ask
from virlet.client.autostart import dial_or_start
from virlet.client.core import Core
from virlet.client.request import Request, request, same
from virlet.client.setup import (
    auth_request,
    close_request,
    open_request,
    polkit_request,
    wants_polkit,
)
from virlet.client.sync_streams import EventStream, Stream
from virlet.client.transport import close_all, dial, receive, send_fd
from virlet.client.uri import Target, resolve
from virlet.client.values import Event, uuid_text
from virlet.enums import ConsoleFlags, EventId
from virlet.errors import OperationTimeout, RpcError, SystemFailure, VirletError
from virlet.wire import types
from virlet.wire.procedure import Procedure

__all__ = ["Connection", "Domain", "Event", "EventStream", "Stream", "connect"]

P = ParamSpec("P")
T = TypeVar("T")
Args = TypeVar("Args")
Ret = TypeVar("Ret")

GOODBYE = 2.0
"""Seconds that a server has to answer a good-bye."""


def connect(uri: str | None = None, *, readonly: bool = False, start: bool = True) -> Connection:
    """Connect to *uri*, by default to the user's own virletd, which is started if need be (unless not *start*).

    Raises :class:`~virlet.errors.VirletError`: NoConnect when nobody listens, AuthFailed, OperationUnsupported.
    """
    target = resolve(uri, os.environ, os.getuid(), readonly=readonly)
    conn = Connection(dial_or_start(target) if start else dial(target), target)
    try:
        conn.open(readonly=readonly)
    except BaseException:
        conn.close()
        raise
    return conn


class _Slot(Generic[T]):
    """Where a blocking call finds its result."""

    __slots__ = ("_error", "_is_done", "_result")

    def __init__(self) -> None:
        self._is_done = False
        self._error: VirletError | None = None
        self._result: Any = None

    def done(self) -> bool:
        return self._is_done

    def set_result(self, result: Any) -> None:
        self._is_done, self._result = True, result

    def set_exception(self, exception: VirletError) -> None:
        self._is_done, self._error = True, exception

    def result(self) -> Any:
        if self._error is not None:
            raise self._error
        return self._result


def _plain(make: Callable[P, Request[T]]) -> Callable[Concatenate[Connection, P], T]:
    @wraps(make)
    def method(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.ask(make(*args, **kwargs))

    return method


def _one(make: Callable[P, Request[types.Domain]]) -> Callable[Concatenate[Connection, P], Domain]:
    @wraps(make)
    def method(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> Domain:
        return Domain(self, self.ask(make(*args, **kwargs)))

    return method


def _many(
    make: Callable[P, Request[tuple[types.Domain, ...]]],
) -> Callable[Concatenate[Connection, P], list[Domain]]:
    @wraps(make)
    def method(self: Connection, /, *args: P.args, **kwargs: P.kwargs) -> list[Domain]:
        return [Domain(self, dom) for dom in self.ask(make(*args, **kwargs))]

    return method


def _of_domain(make: Callable[Concatenate[types.Domain, P], Request[T]]) -> Callable[Concatenate[Domain, P], T]:
    @wraps(make)
    def method(self: Domain, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.connection.ask(make(self.ref, *args, **kwargs))

    return method


class Connection:
    """An open connection; a context manager."""

    def __init__(self, sock: socket.socket, target: Target) -> None:
        self.target = target
        self._sock = sock
        self.core = Core(target.uri)
        """What it remembers; for streams and events."""
        self._unsent = bytearray()
        self._sending = False
        self._poller = select.poll()
        self._poller.register(sock, select.POLLIN)

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

    def __enter__(self) -> Connection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def open(self, *, readonly: bool = False) -> None:
        """Say who we are and what we want; :func:`connect` has done it."""
        if wants_polkit(self.ask(auth_request())):
            self.ask(polkit_request())
        self.ask(open_request(self.target, readonly=readonly))

    def close(self) -> None:
        """Say good-bye and hang up; a connection that is closed already stays so."""
        if self._sock.fileno() < 0:
            return
        try:
            if self.core.lost is None:
                self.ask(close_request(), timeout=GOODBYE)
        except VirletError:
            pass  # A server that is gone, or hangs, needs no good-bye.
        finally:
            self._hang_up(RpcError("the connection is closed"))

    def call(self, procedure: Procedure[Args, Ret], args: Args) -> Ret:
        """Call any procedure of :mod:`virlet.wire`'s programs."""
        return self.ask(request(procedure, args, same))

    def ask(self, request: Request[T], *, timeout: float | None = None) -> T:
        """Make a call and wait for what it gives; OperationTimeout after *timeout* seconds without it."""
        slot: _Slot[T] = _Slot()
        serial, data = self.core.begin(request, slot)
        end = None if timeout is None else time.monotonic() + timeout
        try:
            self.send(data, request.fds)
            while not slot.done():
                if not self.pump(None if end is None else max(0.0, end - time.monotonic())):
                    raise OperationTimeout(f"no answer to {request.procedure.api} after {timeout} s")
        except BaseException:
            self.core.abandon(serial)
            raise
        result: T = slot.result()
        return result

    def events(self, kinds: Iterable[EventId | str] | None = None, domain: Domain | None = None) -> EventStream:
        """Events of these *kinds*, ``"helper"`` for virlet's own, by default all that the server knows."""
        return EventStream(self, kinds, domain)

    def fileno(self) -> int:
        """The socket, for select: when it is readable, call :meth:`pump`."""
        return self._sock.fileno()

    def pump(self, timeout: float | None = None) -> bool:
        """Take what the server sent, waiting at most *timeout* seconds for it; False when nothing came."""
        if self.core.lost is not None:
            raise self.core.lost
        if timeout is not None and not self._poller.poll(timeout * 1000):
            return False
        try:
            data, fds = receive(self._sock)
        except OSError as error:
            self._hang_up(SystemFailure.of(error, f"the connection to {self.target.uri} failed"))
            return True
        if not data:
            self._hang_up(None)
            return True
        self.send(self.core.received(data, fds))
        if self.core.link.unwanted:
            close_all(self.core.link.unwanted)
            self.core.link.unwanted.clear()
        if self.core.lost is not None:
            self._hang_up(None)
        return True

    def send(self, data: bytes, fds: tuple[int, ...] = ()) -> None:
        """Send all of *data*; what the server sends meanwhile is taken, so that the two never wait for each other.

        Each of *fds* follows with one byte of its own, and nothing comes between.
        """
        if self._sending:
            self._unsent += data  # An answer to a PING; it goes out behind what is being sent.
            return
        self._sending = True
        try:
            self._send_all(bytearray(data))
            for fd in fds:
                self._send_all(bytearray(1), fd)
            while self._unsent and self.core.lost is None:
                answers, self._unsent = self._unsent, bytearray()
                self._send_all(answers)
        finally:
            self._sending = False

    def _send_all(self, data: bytearray, fd: int | None = None) -> None:
        while data and self.core.lost is None:
            self._send_some(data, fd)

    def _send_some(self, data: bytearray, fd: int | None) -> None:
        try:
            if fd is None:
                sent = self._sock.send(data, socket.MSG_DONTWAIT)
            else:
                send_fd(self._sock, fd, socket.MSG_DONTWAIT)
                sent = 1
        except BlockingIOError:
            self._poller.modify(self._sock, select.POLLIN | select.POLLOUT)
            try:
                readable = any(what & select.POLLIN for _, what in self._poller.poll())
            finally:
                self._poller.modify(self._sock, select.POLLIN)
            if readable:
                self.pump()
        except OSError as error:
            self._hang_up(SystemFailure.of(error, f"the connection to {self.target.uri} failed"))
        else:
            del data[:sent]

    def _hang_up(self, error: VirletError | None) -> None:
        close_all(self.core.end(error))
        self._sock.close()


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

    def open_console(self, device: str | None = None, flags: ConsoleFlags | int = 0) -> Stream:
        """A console: the first one, or the one with that alias."""
        inbox = self.connection.ask(ask.console(self.ref, device, flags))
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
