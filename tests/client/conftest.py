"""A tiny server over the project's own ServerLink, in a thread, that answers as a test tells it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from virlet.client import aio, sync
from virlet.client.transport import receive, send_fd
from virlet.errors import VirletError
from virlet.wire import qemu, remote, virlet
from virlet.wire.events import Call, ServerEvent
from virlet.wire.link import ServerLink


class Peer:
    """One accepted connection."""

    def __init__(self, sock: socket.socket, answers: dict[Any, Any], log: list[ServerEvent]) -> None:
        self.link = ServerLink([remote.PROGRAM.id, qemu.PROGRAM.id, virlet.PROGRAM.id])
        self.sock = sock
        self.answers = answers
        self.log = log
        self.raw = b""

    def serve(self) -> None:
        while True:
            data, fds = receive(self.sock)
            if not data:
                return
            self.raw += data
            for event in self.link.feed(data, fds):
                self.log.append(event)
                if isinstance(event, Call):
                    self.on_call(event)
                elif type(event) in self.answers:
                    self.answers[type(event)](self, event)
            self.send(self.link.to_send())

    def on_call(self, call: Call) -> None:
        answer = self.answers.get(call.procedure)
        if answer is not None:
            self.send(answer(self, call) or b"")
        elif call.procedure is remote.AUTH_LIST:
            self.send(self.link.reply(call, remote.AuthListRet((0,))))
        elif call.procedure.ret_type is None:
            self.send(self.link.reply(call, None))
        else:
            self.send(self.link.error(call, VirletError(f"no answer to {call.procedure.name}")))

    def send(self, data: bytes) -> None:
        if data:
            self.sock.sendall(data)

    def send_fd(self, fd: int) -> None:
        send_fd(self.sock, fd)

    def hang_up(self) -> None:
        self.sock.shutdown(socket.SHUT_RDWR)


class TinyServer:
    """Listens, serves one client after the other, remembers what they said."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.uri = f"virlet:///session?socket={path}"
        self.answers: dict[Any, Any] = {}
        """By procedure, or by class for what comes on streams: called with the peer and the event."""
        self.log: list[ServerEvent] = []
        self.peers: list[Peer] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    @property
    def calls(self) -> list[Call]:
        return [event for event in self.log if isinstance(event, Call)]

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self.listener.accept()
            except OSError:
                return
            with sock:
                peer = Peer(sock, self.answers, self.log)
                self.peers.append(peer)
                with suppress(OSError):
                    peer.serve()

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for peer in self.peers:
            with suppress(OSError):  # Its client has left, and the thread closes it at this moment.
                peer.hang_up()
        self.thread.join(10)
        self.listener.close()
        assert not self.thread.is_alive()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TinyServer]:
    for module in (aio, sync):  # What it was asked to the last is looked at, on whatever machine.
        monkeypatch.setattr(module, "GOODBYE", 60.0)
    tiny = TinyServer(tmp_path / "s")
    yield tiny
    tiny.close()
