"""The fake QEMU's own passt (``-netdev passt``), as QEMU 11.1 keeps it; and what every netdev of the fake's can do."""

from __future__ import annotations

import os
import resource
import secrets
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from virlet.fake.qmp_server import CommandError, Watch

__all__ = ["Backend", "Machine", "OwnPasst", "words_of"]

_VALUES = {
    "mtu": "mtu", "address": "address", "netmask": "netmask", "mac": "mac-addr", "gateway": "gateway",
    "interface": "interface", "outbound": "outbound", "outbound-if4": "outbound-if4", "outbound-if6": "outbound-if6",
    "dns": "dns", "fqdn": "fqdn", "map-host-loopback": "map-host-loopback", "map-guest-addr": "map-guest-addr",
    "dns-forward": "dns-forward", "dns-host": "dns-host",
}  # fmt: skip
_OFF = {
    **{name: f"no-{name}" for name in ("tcp", "udp", "icmp", "dhcp", "ndp", "dhcpv6", "ra", "dhcp-dns", "dhcp-search")},
    "ipv4": "ipv6-only",
    "ipv6": "ipv4-only",
}
"""Member → the option that stands for its being false."""
_LISTS = {"search": " ", "tcp-ports": ",", "udp-ports": ","}


class Machine(Protocol):
    """The QEMU around it."""

    watch: Watch

    @property
    def behaviour(self) -> Mapping[str, object]: ...

    def event(self, name: str, data: Mapping[str, object] | None = None) -> None: ...


class Backend:
    """A netdev that does nothing."""

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def told(self) -> str:
        """What ``info network`` says of it behind its name."""
        return f"index=0,type={self._kind},"

    def announce(self) -> None:
        """Send one frame for the guest."""

    def close(self) -> None:
        """``netdev_del``."""

    def quit(self) -> None:
        """QEMU is about to end."""


def words_of(members: Mapping[str, object]) -> Iterator[str]:
    """What QEMU 11.1 tells passt for the netdev's members."""
    if members.get("quiet") is not False:
        yield "--quiet"
    if members.get("freebind") is True:
        yield "--freebind"
    for name, value in members.items():
        if name in _VALUES:
            yield from (f"--{_VALUES[name]}", str(value))
        elif name in _OFF and value is False:
            yield f"--{_OFF[name]}"
        elif name in _LISTS:
            yield from (f"--{name}", _LISTS[name].join(_strings(value)))
    yield from _strings(members.get("param"))


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, list):
        yield from (str(each["str"]) for each in value)


class OwnPasst(Backend):
    """QEMU runs passt, waits until that is in the background, and runs it again when it reads the end of the stream.

    No event tells of any of that.  Taking the netdev away while passt runs, before QEMU has read its end, or before it
    is done with a start, crashed QEMU 11.1 in most trials (docs/network.md), and crashes this one always.
    """

    UNSETTLED = 2
    """Answers of ``info network`` after each start until the thread that connects the socket has come to that."""

    def __init__(self, machine: Machine, members: Mapping[str, object]) -> None:
        super().__init__("passt")
        self._machine, self._path = machine, str(members.get("path", "passt"))
        self._words = tuple(words_of(members))
        self._pid = self._unsettled = 0
        self._peer: socket.socket | None = None
        name = f"passt-{secrets.token_hex(3)}.pid"
        self._pid_file = Path(os.environ.get("TMPDIR", "/tmp"), name)
        self._pid_file.touch(0o600, exist_ok=False)
        try:
            self._start()
        except CommandError:
            self._pid_file.unlink()
            raise

    def _start(self) -> None:
        self._unsettled = self.UNSETTLED
        ours, theirs = socket.socketpair()
        argv = (self._path, *self._words, "--pid", str(self._pid_file), "--fd", "3")
        with theirs:
            actions = [(os.POSIX_SPAWN_DUP2, theirs.fileno(), 3)]
            try:
                child = os.posix_spawnp(self._path, argv, os.environ, file_actions=actions)
            except OSError as error:
                ours.close()
                raise CommandError(f"Failed to execute child process ({error.strerror})") from error
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if code:
            ours.close()
            raise CommandError(f"Passt exited with code {code}")
        self._pid, self._peer = int(self._pid_file.read_text()), ours
        self._machine.watch(ours.fileno(), self._read)

    def _read(self) -> None:
        assert self._peer is not None
        try:
            if self._peer.recv(1 << 16):
                return
        except ConnectionResetError:
            pass
        self._hang_up()
        if self._machine.behaviour["passt"] == "again":
            with suppress(CommandError):  # Nobody is told.
                self._start()

    def _hang_up(self) -> None:
        if self._peer is not None:
            self._machine.watch(self._peer.fileno(), None)
            self._peer.close()
        self._peer, self._pid = None, 0

    def told(self) -> str:
        if self._unsettled:
            self._unsettled -= 1
            return super().told() + "launching passt"
        return super().told() + (f"stream,connected to pid {self._pid}" if self._pid else "error: Bad file descriptor")

    def announce(self) -> None:
        if self._peer is not None:
            with suppress(OSError):
                self._peer.sendall((60).to_bytes(4, "big") + bytes(60))

    def close(self) -> None:
        if self._pid or self._unsettled:
            what = "that has not ended" if self._pid else "whose start is not over"
            print(f"fake-qemu: netdev_del of a passt {what}: use after free", file=sys.stderr, flush=True)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            os.abort()
        self._pid_file.unlink(missing_ok=True)

    def quit(self) -> None:
        if self._pid:
            with suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        self._pid_file.unlink(missing_ok=True)
