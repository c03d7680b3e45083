"""The server's side of QMP, for the fake QEMU: greeting, negotiation, commands, events, descriptors."""

from __future__ import annotations

import array
import json
import os
import selectors
import socket
import time
from collections.abc import Callable, Mapping
from typing import TypeAlias

__all__ = ["CommandError", "Handler", "QmpServer", "Watch"]

Handler: TypeAlias = Callable[[str, Mapping[str, object]], object]
Watch: TypeAlias = Callable[[int, Callable[[], None] | None], None]
"""Have a function called whenever a descriptor can be read; None: no more."""

GREETING = {
    "QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"}, "capabilities": ["oob"]}
}
_MAX_FDS = 16


class CommandError(Exception):
    """A command is refused, with QEMU's class of error."""

    def __init__(self, description: str, error_class: str = "GenericError") -> None:
        super().__init__(description)
        self.error_class = error_class


class QmpServer:
    """One monitor: one client at a time; with a listening socket the next one may come when it has gone."""

    def __init__(self, sock: socket.socket, watch: Watch, handler: Handler) -> None:
        self._watch, self._handler = watch, handler
        self._listener: socket.socket | None = None
        self._client: socket.socket | None = None
        self._negotiated = False
        self._data = ""
        self.fds: list[int] = []
        """Descriptors that came and were not named yet."""
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            self._listener = sock
            watch(sock.fileno(), self._accept)
        else:
            self._greet(sock)

    def event(self, name: str, data: Mapping[str, object] | None = None) -> None:
        """Tell the client, if there is one that has negotiated."""
        if self._negotiated:
            seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
            stamp = {"seconds": seconds, "microseconds": nanos // 1000}
            message: dict[str, object] = {"timestamp": stamp, "event": name}
            self._send({**message, "data": data} if data is not None else message)

    def _accept(self) -> None:
        assert self._listener is not None
        client, _ = self._listener.accept()
        self._watch(self._listener.fileno(), None)
        self._greet(client)

    def _greet(self, client: socket.socket) -> None:
        self._client, self._negotiated, self._data = client, False, ""
        self._watch(client.fileno(), self._read)
        self._send(GREETING)

    def _send(self, message: Mapping[str, object]) -> None:
        if self._client is not None:
            try:
                self._client.sendall(json.dumps(message).encode() + b"\r\n")
            except OSError:
                self._hang_up()

    def _hang_up(self) -> None:
        if self._client is not None:
            self._watch(self._client.fileno(), None)
            self._client.close()
            self._client, self._negotiated = None, False
        if self._listener is not None:
            self._watch(self._listener.fileno(), self._accept)

    def _read(self) -> None:
        assert self._client is not None
        space = socket.CMSG_SPACE(_MAX_FDS * 4)
        try:
            data, ancillary, _, _ = self._client.recvmsg(1 << 16, space, socket.MSG_CMSG_CLOEXEC)
        except OSError:
            data, ancillary = b"", []
        for _, kind, payload in ancillary:
            if kind == socket.SCM_RIGHTS:
                for fd in self.fds:
                    os.close(fd)  # As QEMU does: only those of the last message wait.
                self.fds = list(array.array("i", payload))
        if not data:
            self._hang_up()
            return
        self._data += data.decode("utf-8", "replace")
        self._commands()

    def _commands(self) -> None:
        """Answer every command that has come whole; the messages of a client need not end with a newline."""
        decoder = json.JSONDecoder()
        while self._client is not None and (text := self._data.lstrip()):
            try:
                message, end = decoder.raw_decode(text)
            except ValueError as error:
                if not str(error).startswith(("Expecting", "Unterminated")) or text[0] != "{":
                    self._data = ""
                    self._send({"error": {"class": "GenericError", "desc": "JSON parse error"}})
                return
            self._data = text[end:]
            self._answer(message)

    def _answer(self, message: Mapping[str, object]) -> None:
        name = str(message.get("execute", message.get("exec-oob")))
        arguments = message.get("arguments", {})
        reply: dict[str, object]
        try:
            if (name == "qmp_capabilities") == self._negotiated:
                raise CommandError(f"The command {name} has not been found", "CommandNotFound")
            if name == "qmp_capabilities":
                self._negotiated = True
                reply = {"return": {}}
            else:
                reply = {"return": self._handler(name, arguments if isinstance(arguments, dict) else {})}
        except CommandError as error:
            reply = {"error": {"class": error.error_class, "desc": str(error)}}
        self._send({**reply, "id": message["id"]} if "id" in message else reply)


def watcher(selector: selectors.BaseSelector) -> Watch:
    """A :data:`Watch` on a selector; the data of each key is the function to call."""

    def watch(fd: int, callback: Callable[[], None] | None) -> None:
        if callback is None:
            selector.unregister(fd)
        else:
            selector.register(fd, selectors.EVENT_READ, callback)

    return watch
