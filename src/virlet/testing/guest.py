"""The host's end of the test guest's control channel: a byte stream to its serial line (see guest/control).

Standard library alone.
"""

from __future__ import annotations

import base64
import os
import re
import select
import socket
import time
from dataclasses import dataclass

__all__ = ["Console", "GuestSilent", "Lease"]

# The guest's terminal takes lines of 4095 bytes; a longer command goes in parts.
PART = 3000

_READY = r"VIRLET-READY ?(\S*)$"
"""The guest is ready, and in which of its boots; a guest that an older virlet has made does not say that."""


class GuestSilent(Exception):
    """The guest did not say what was waited for; the message ends with what it said last."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What DHCP gave one interface; everything but *interface* is empty when it gave nothing."""

    interface: str
    ip: str = ""
    prefix: int = 0
    gateway: str = ""
    dns: tuple[str, ...] = ()
    mtu: int = 0
    domain: str = ""
    search: tuple[str, ...] = ()
    hostname: str = ""

    @classmethod
    def parse(cls, text: str) -> Lease:
        """Read the words of a VIRLET-LEASE line; a word it does not know is left out."""
        words = dict(word.partition("=")[::2] for word in text.split())
        return cls(
            interface=words["if"],
            ip=words.get("ip", ""),
            prefix=int(words.get("prefix") or 0),
            gateway=words.get("gw", ""),
            dns=tuple(filter(None, words.get("dns", "").split(","))),
            mtu=int(words.get("mtu") or 0),
            domain=words.get("domain", ""),
            search=tuple(filter(None, words.get("search", "").split(","))),
            hostname=words.get("hostname", ""),
        )


class Console:
    """Commands and answers over *stream*: a connected socket, or the descriptor of a pty or pipe.

    The caller keeps the stream and closes it; nobody else may read it meanwhile.  Times are seconds.
    """

    def __init__(self, stream: socket.socket | int) -> None:
        self._stream = stream
        self._fd = stream if isinstance(stream, int) else stream.fileno()
        self._pending = b""
        self._count = 0
        self._boot = ""
        """By which the guest's kernel tells this boot from others."""
        self.leases: dict[str, Lease] = {}
        self.said: list[str] = []

    @property
    def lease(self) -> Lease:
        """The lease of the guest's first interface; KeyError before `ready` or without a network."""
        return self.leases["eth0"]

    def ready(self, timeout: float = 60.0) -> None:
        """Wait until the guest has tried its network, and read its leases.

        A guest that is still booting will say so by itself, one that booted before we came is asked; either way an
        answer arrives, so nothing is repeated.  Where both happen at once two do: after a reset it is :meth:`again`
        that knows the next boot from this one.
        """
        self._send("VIRLET-PING")
        self._boot = self._wait(_READY, timeout)[1]

    def again(self, timeout: float = 60.0) -> None:
        """Wait until a guest that was :meth:`ready`, and is reset or begins again, is so once more; its new leases."""
        before, deadline = self._boot, time.monotonic() + timeout
        self.leases.clear()
        while True:
            self._boot = self._wait(_READY, deadline - time.monotonic())[1]
            if self._boot != before or not before:
                return

    def run(self, command: str, timeout: float = 30.0) -> tuple[int, str]:
        """Run *command* by the guest's shell: its exit status, and its output and errors as they came."""
        self._count += 1
        encoded = base64.b64encode(command.encode()).decode()
        parts = [encoded[start : start + PART] for start in range(0, len(encoded), PART)] or [""]
        for part in parts[:-1]:
            self._send(f"VIRLET-PART {part}")
        self._send(f"VIRLET-RUN {self._count} {parts[-1]}")
        match = self._wait(rf"VIRLET-OUT {self._count} (\d+) (\S*)$", timeout)
        return int(match[1]), base64.b64decode(match[2]).decode(errors="replace")

    def check(self, command: str, timeout: float = 30.0) -> str:
        """The output of a command that has to succeed; AssertionError with its output when it does not."""
        status, text = self.run(command, timeout)
        assert status == 0, f"in the guest: {command}: exit {status}\n{text}"
        return text

    def until(self, pattern: str, timeout: float = 30.0) -> re.Match[str]:
        """Wait for a line that has *pattern* in it, the kernel's messages included."""
        return self._wait(pattern, timeout)

    def ended(self, timeout: float = 30.0) -> None:
        """Wait until the guest's end of the stream is closed, as it is when QEMU ends."""
        deadline = time.monotonic() + timeout
        while self._read(deadline, "its serial line to close"):
            pass

    def _send(self, line: str) -> None:
        data = line.encode() + b"\n"
        while data:
            data = data[os.write(self._fd, data) :]

    def _wait(self, pattern: str, timeout: float) -> re.Match[str]:
        deadline = time.monotonic() + timeout
        while True:
            while (line := self._line()) is not None:
                if match := re.search(pattern, line):
                    return match
            if not self._read(deadline, pattern):
                raise GuestSilent(f"the serial line closed while waiting for {pattern!r}; {self._last_words()}")

    def _line(self) -> str | None:
        head, newline, rest = self._pending.partition(b"\n")
        if not newline:
            return None
        self._pending = rest
        line = head.decode(errors="replace").rstrip("\r")
        self.said.append(line)
        if match := re.search(r"VIRLET-LEASE (.*)", line):
            lease = Lease.parse(match[1])
            self.leases[lease.interface] = lease
        return line

    def _read(self, deadline: float, wanted: str) -> bool:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([self._fd], [], [], left)[0]:
            raise GuestSilent(f"the guest did not say {wanted!r} in time; {self._last_words()}")
        try:
            data = os.read(self._fd, 65536)
        except OSError:  # the master of a pty reports EIO, a socket ECONNRESET, when the other end is gone
            return False
        self._pending += data
        return bool(data)

    def _last_words(self) -> str:
        words = [*self.said[-15:], self._pending.decode(errors="replace")]
        return "it said last:\n  " + "\n  ".join(words)
