"""The daemon's middle: listeners, connections, what they share, and when nobody needs it any more."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from virlet.daemon.compat import Compat, held_by
from virlet.daemon.connection import Connection
from virlet.daemon.drivers import Drivers
from virlet.daemon.events import Hub
from virlet.daemon.handlers import all_handlers
from virlet.daemon.listener import Listener, may_enter, peer_of
from virlet.errors import AuthFailed, VirletError

__all__ = ["CLIENTS", "Server"]

log = logging.getLogger(__name__)

CLIENTS = 5000
"""Connections at a time (libvirtd's ``max_clients``); more wait in the listener's backlog."""
ACCEPTS = 64
"""Connections accepted in one turn of the loop, so that a flood of them does not starve the others."""
AGAIN = 1.0
"""Seconds until a client is accepted again after that has failed: no event tells that the host has what it takes."""
PATIENCE = 10.0
"""Seconds that calls at work have at the end of the daemon before they are cancelled and undone."""


class Server:
    """Everything between the sockets and the drivers."""

    def __init__(self, compat: Compat, *, uid: int | None = None) -> None:
        """*uid*: the only one that may connect; this process's own unless given."""
        self.hub = Hub(self._changed)
        self.drivers = Drivers(self.hub)
        self.compat = compat
        self.connections: set[Connection] = set()
        self.on_change: Callable[[], None] | None = None
        """Called when a client came or went, and after every event of a driver."""
        self._uid = os.geteuid() if uid is None else uid
        self._table = all_handlers()
        self._listeners: list[Listener] = []
        self._accepting = True
        self._deaf = False
        """The last client that wanted to come in could not be accepted."""
        self._retry: asyncio.TimerHandle | None = None
        self._left: set[Connection] = set()
        """Gone, with calls still at work."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def listen(self, listener: Listener) -> None:
        """Accept clients from *listener* from now on."""
        self._listeners.append(listener)
        self._loop.add_reader(listener.fileno(), self._accept, listener)
        log.info("listening on %s", listener.path)

    def restore(self, path: Path) -> None:
        """Listen at *path* again if it is gone, as happens to a runtime directory at the last log-out."""
        if any(listener.path == path and listener.is_ours() for listener in self._listeners):
            return
        try:
            if held_by(path) is None:
                self.listen(Listener(path))
        except VirletError as error:
            log.warning("%s", error)

    def serve_compat(self) -> None:
        """Serve libvirt's paths too, if the user wants that and nobody else does; says why not in the log."""
        if not self.compat.enabled:
            return
        try:
            fresh = self.compat.listen()
        except VirletError as error:
            log.warning("%s", error)
            return
        for listener in fresh:
            self.listen(listener)

    def drop_compat(self) -> None:
        """Switch libvirt's paths off and stop serving them; clients that came that way stay."""
        for listener in self.compat.listeners:
            self._loop.remove_reader(listener.fileno())
        self.compat.disable()
        self._listeners = [listener for listener in self._listeners if listener.fileno() >= 0]

    def _accept(self, listener: Listener) -> None:
        for _ in range(ACCEPTS):
            if len(self.connections) >= CLIENTS:
                self._stop_accepting()
                return
            try:
                sock, _ = listener.sock.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                self._refuse(error)
                return
            self._deaf = False
            self._admit(sock)

    def _refuse(self, error: OSError) -> None:
        """Out of descriptors or memory: the client stays in the backlog until one of ours has gone, or a while.

        What we lack may be another's, or our guests': nobody tells when it is there again.
        """
        if not self._deaf:
            log.error("cannot accept a client: %s; trying again", error.strerror)
        self._deaf = True
        self._stop_accepting()
        if self._retry is None:
            self._retry = self._loop.call_later(AGAIN, self._resume_accepting)

    def _admit(self, sock: socket.socket) -> None:
        try:
            peer = peer_of(sock)
            may_enter(peer, self._uid)
            if self.drivers.is_guest(peer.pid):
                # A guest that has taken over its QEMU must not ask us for another one without confinement.
                raise AuthFailed(f"{peer!r} is a guest's own process")
        except (AuthFailed, OSError) as error:
            log.warning("a client is refused: %s", error)
            sock.close()
            return
        sock.setblocking(False)
        log.debug("%r came", peer)
        self.connections.add(Connection(sock, peer, self, self._table, self._gone))
        self._changed()

    def _gone(self, connection: Connection) -> None:
        session = connection.session
        log.debug("%r left", connection.peer)
        self.connections.discard(connection)
        self.hub.forget(session)
        if session.is_open:
            self._spawn(session.driver.owner_gone(session))
        if connection.tasks:
            self._left.add(connection)
            self._spawn(self._outlived(connection))
        if not self._accepting:
            self._resume_accepting()
        self._changed()

    async def _outlived(self, connection: Connection) -> None:
        """Calls of a client that has left end later: what they have started for as long as it is there goes then."""
        session = connection.session
        try:
            if connection.tasks:
                await asyncio.wait(connection.tasks)
            if session.is_open:
                await session.driver.owner_gone(session)
        finally:
            self._left.discard(connection)
            self._changed()

    def _changed(self) -> None:
        if self.on_change is not None:
            self.on_change()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("after a client left: %s", error, exc_info=error)

    def _stop_accepting(self) -> None:
        self._accepting = False
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._loop.remove_reader(listener.fileno())

    def _resume_accepting(self) -> None:
        self._accepting = True
        self._forget_retry()
        for listener in self._listeners:
            if listener.fileno() >= 0:
                self._loop.add_reader(listener.fileno(), self._accept, listener)

    def _forget_retry(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None

    def accept_now(self) -> None:
        """Let in whoever waits at the door, before a decision that depends on nobody being here."""
        for listener in self._listeners:
            self._accept(listener)

    @property
    def has_clients(self) -> bool:
        """Whether a client is connected."""
        return bool(self.connections)

    @property
    def needed(self) -> bool:
        """Whether a client is connected, a call of one is at work, or a guest runs."""
        return bool(self.connections or self._left) or self.drivers.running()

    async def close(self) -> None:
        """End it all: no new clients, calls at work finish (or are undone when they take long), guests run on."""
        self._stop_accepting()
        self._forget_retry()
        for listener in self._listeners:
            listener.close()
        self._listeners = []
        self.compat.close()
        for connection in self.connections:
            connection.quiesce()
        work = {task for connection in self.connections | self._left for task in connection.tasks}
        if work:
            _, late = await asyncio.wait(work, timeout=PATIENCE)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late)
        for connection in list(self.connections):
            connection.close()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=PATIENCE)
        await self.drivers.close()
