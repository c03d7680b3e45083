"""A user's systemd: its real D-Bus interface on a real dbus-daemon or on a socket of its own, and no units.

What it understands is what systemd declares (org.freedesktop.systemd1(5)): a call of another signature is refused as
the real one refuses it.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import socket
import struct
import subprocess
from pathlib import Path
from typing import Any

from jeepney import DBusAddress, MessageType, new_error, new_method_call, new_method_return
from jeepney.auth import BEGIN, Authenticator
from jeepney.low_level import HeaderFields, Message, Parser

__all__ = ["Manager", "junk"]

SIGNATURES = {"StartTransientUnit": "ssa(sv)a(sa(sv))", "AttachProcessesToUnit": "ssau"}
"""Of org.freedesktop.systemd1.Manager, since versions 205 and 238."""
PROPERTIES = {"Description": "s", "Slice": "s", "PIDs": "au", "CollectMode": "s", "TasksMax": "t"}
"""Of a scope."""

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig><type>session</type><listen>unix:path={path}</listen><auth>EXTERNAL</auth>
<policy context="default">
<allow send_destination="*"/><allow receive_sender="*"/><allow own="*"/></policy></busconfig>"""


class Manager:
    """Answers calls, remembers units; *refuse* is what it says instead."""

    def __init__(self, *, refuse: str = "", silent: bool = False) -> None:
        self.units: dict[str, dict[str, Any]] = {}
        """Properties by unit."""
        self.refuse, self.silent = refuse, silent
        self.wrong: list[str] = []
        """Every no that was said."""
        self._tasks: list[asyncio.Task[None]] = []
        self._socks: list[socket.socket] = []
        self._bus: subprocess.Popen[bytes] | None = None

    async def on_bus(self, runtime: Path) -> None:
        """Own the name on a dbus-daemon at ``$XDG_RUNTIME_DIR/bus``."""
        (runtime / "systemd").mkdir()
        config = runtime / "bus.conf"
        config.write_text(CONFIG.format(path=runtime / "bus"))
        daemon = shutil.which("dbus-daemon")
        assert daemon is not None
        await asyncio.to_thread(self._start_bus, [daemon, "--nofork", f"--config-file={config}"])
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        self._socks.append(sock)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, str(runtime / "bus"))
        steps = Authenticator()
        for words in steps:
            await loop.sock_sendall(sock, words)
            steps.feed(await loop.sock_recv(sock, 4096))
        await loop.sock_sendall(sock, BEGIN)
        bus = DBusAddress("/org/freedesktop/DBus", bus_name="org.freedesktop.DBus", interface="org.freedesktop.DBus")
        await loop.sock_sendall(sock, new_method_call(bus, "Hello").serialise(1))
        wanted = new_method_call(bus, "RequestName", "su", ("org.freedesktop.systemd1", 0))
        await loop.sock_sendall(sock, wanted.serialise(2))
        ready = asyncio.Event()
        self._tasks.append(asyncio.ensure_future(self._serve(sock, Parser(), ready)))
        await ready.wait()

    def _start_bus(self, argv: list[str]) -> None:
        reading, writing = os.pipe()
        self._bus = subprocess.Popen([*argv, f"--print-address={writing}"], pass_fds=[writing])
        os.close(writing)
        with open(reading) as said:
            said.readline()

    async def on_socket(self, runtime: Path) -> None:
        """Listen at ``$XDG_RUNTIME_DIR/systemd/private``, as systemd does without a bus."""
        (runtime / "systemd").mkdir()
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(runtime / "systemd" / "private"))
        listener.listen()
        listener.setblocking(False)
        self._socks.append(listener)
        self._tasks.append(asyncio.ensure_future(self._accept(listener)))

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            sock, _ = await loop.sock_accept(listener)
            sock.setblocking(False)
            self._socks.append(sock)
            data = b""
            while b"BEGIN\r\n" not in data:
                data += await loop.sock_recv(sock, 4096)
                if re.fullmatch(rb"\0AUTH EXTERNAL [0-9a-f]+\r\n", data):
                    await loop.sock_sendall(sock, b"OK 0123456789abcdef0123456789abcdef\r\n")
            parser = Parser()
            parser.add_data(data.partition(b"BEGIN\r\n")[2])
            self._tasks.append(asyncio.ensure_future(self._serve(sock, parser, asyncio.Event())))

    async def _serve(self, sock: socket.socket, parser: Parser, ready: asyncio.Event) -> None:
        loop, serial = asyncio.get_running_loop(), 100
        while True:
            while (message := parser.get_next_message()) is not None:
                if message.header.fields.get(HeaderFields.reply_serial) == 2:
                    ready.set()
                if message.header.message_type is MessageType.method_call and not self.silent:
                    serial += 1
                    await loop.sock_sendall(sock, self._answer(message).serialise(serial))
            data = await loop.sock_recv(sock, 4096)
            if not data:
                return
            parser.add_data(data)

    def _answer(self, call: Message) -> Message:
        fields = call.header.fields
        method = fields[HeaderFields.member]
        problem = self._wrong(call) or self.refuse
        if problem:
            self.wrong.append(problem)
            return new_error(call, "org.freedesktop.DBus.Error.InvalidArgs", "s", (problem,))
        if method == "AttachProcessesToUnit":
            self.units[call.body[0]]["PIDs"] += call.body[2]
            return new_method_return(call)
        self.units[call.body[0]] = {name: value for name, (_, value) in call.body[2]}
        return new_method_return(call, "o", ("/org/freedesktop/systemd1/job/1",))

    def _wrong(self, call: Message) -> str:
        fields = call.header.fields
        method, body = fields.get(HeaderFields.member), call.body
        if fields.get(HeaderFields.path) != "/org/freedesktop/systemd1" or method not in SIGNATURES:
            return f"Unknown method {method} or object."
        if fields.get(HeaderFields.interface) != "org.freedesktop.systemd1.Manager":
            return "Unknown interface."
        if fields.get(HeaderFields.signature) != SIGNATURES[method]:
            return f"Invalid arguments '{fields.get(HeaderFields.signature)}' to call {method}()."
        if not re.fullmatch(r"[A-Za-z0-9:_.\\-]{1,255}\.scope", body[0]):
            return f"Unit name {body[0]} is not valid."
        if method == "AttachProcessesToUnit":
            return "" if body[0] in self.units else f"Unit {body[0]} not loaded."
        if body[0] in self.units:
            return f"Unit {body[0]} was already loaded or has a fragment file."
        if body[1] != "fail" or body[3] != []:
            return "Job mode invalid, or auxiliary units."
        for name, (kind, value) in body[2]:
            if PROPERTIES.get(name) != kind:
                return f"Cannot set property {name}, or unknown property."
            if name == "PIDs" and not (value and all(os.path.exists(f"/proc/{pid}") for pid in value)):
                return "Process with ID does not exist."
        return ""

    async def leave(self) -> None:
        """Give the name up; the bus stays."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for sock in self._socks:
            sock.close()

    async def close(self) -> None:
        await self.leave()
        if self._bus is not None:
            self._bus.terminate()
            await asyncio.to_thread(self._bus.wait)


def junk(order: bytes = b"l", body: int = 0, fields: int = 0) -> bytes:
    """The first 16 bytes of a message."""
    return order + bytes((2, 0, 1)) + struct.pack("<III", body, 1, fields)
