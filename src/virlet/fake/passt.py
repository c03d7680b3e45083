"""A passt that carries no packet: the command line, the ports and the connection of the real one.

It binds what it is told to forward, goes into the background if it may, answers every TCP connection with one line,
ends when its connection does, and fails as told in JSON in ``$VIRLET_FAKE_PASST``, see :data:`DEFAULTS`.
"""

from __future__ import annotations

import ctypes
import json
import os
import selectors
import signal
import socket
import struct
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

__all__ = ["DEFAULTS", "Port", "main", "ports"]

DEFAULTS: Mapping[str, object] = {
    "refuse": "",  # Say this and exit 1.
    "generation": 2026,  # 2023: a port that is taken is left out, and help goes to standard error with status 1.
    "learns": "at once",  # When it reaches the guest: at once, or "heard": after a frame of it, as the one of 2023.
}

_FLAGS = frozenset({
    "foreground", "quiet", "debug", "trace", "stderr", "one-off", "help", "version", "no-tcp", "no-udp",
    "no-icmp", "no-dhcp", "no-ndp", "no-dhcpv6", "no-ra", "no-map-gw", "no-dhcp-dns", "no-dhcp-search",
    "ipv4-only", "ipv6-only", "freebind", "vhost-user",
})  # fmt: skip
_VALUES = frozenset({
    "fd", "socket", "log-file", "log-size", "pcap", "pid", "mtu", "address", "netmask", "mac-addr", "gateway",
    "interface", "outbound", "outbound-if4", "outbound-if6", "dns", "search", "dns-forward", "runas", "tcp-ports",
    "udp-ports",
})  # fmt: skip
_SHORT = {
    "f": "foreground", "q": "quiet", "d": "debug", "e": "stderr", "1": "one-off", "h": "help", "4": "ipv4-only",
    "6": "ipv6-only", "F": "fd", "s": "socket", "l": "log-file", "p": "pcap", "P": "pid", "m": "mtu", "a": "address",
    "n": "netmask", "M": "mac-addr", "g": "gateway", "i": "interface", "o": "outbound", "D": "dns", "S": "search",
    "t": "tcp-ports", "u": "udp-ports",
}  # fmt: skip

_PR_SET_SECCOMP = 22
_SECCOMP_MODE_FILTER = 2

Port = tuple[str, str, str, int]
"""Protocol, address (empty: all), link (empty: all), port."""


class _Refused(Exception):
    """The command line is not understood, or a port cannot be had; exit status 1."""


def _parse(argv: Sequence[str]) -> list[tuple[str, str]]:
    """Option names and values, in order."""
    words, found = iter(argv), []
    for word in words:
        name, _, value = word.partition("=")
        name = name[2:] if name.startswith("--") else _SHORT.get(word[1:], word)
        if name in _VALUES:
            found.append((name, value or next(words, "")))
        elif name in _FLAGS:
            found.append((name, ""))
        else:
            raise _Refused(f"passt: unrecognized option '{word}'")
    return found


def ports(proto: str, text: str) -> Iterator[Port]:
    """The ports of ``[ADDRESS[%LINK]/]RANGE[,RANGE…]``; a range is ``A[-B][:C[-D]]``, ``~A[-B]`` leaves out."""
    if text == "none":
        return
    where, _, ranges = text.rpartition("/")
    if ranges == "all":
        return  # As many as can be had: none.
    address, _, link = where.partition("%")
    wanted: dict[int, None] = {}
    for word in ranges.split(","):
        host, _, _ = word.lstrip("~").partition(":")
        first, _, last = host.partition("-")
        try:
            numbers = range(int(first), int(last or first) + 1)
        except ValueError:
            raise _Refused(f"Invalid port specifier {text}") from None
        for number in numbers:
            if word.startswith("~"):
                wanted.pop(number, None)
            else:
                wanted[number] = None
    yield from ((proto, address, link, number) for number in wanted)


def _bind(port: Port) -> socket.socket:
    proto, address, link, number = port
    family = socket.AF_INET if address and ":" not in address else socket.AF_INET6
    kind = socket.SOCK_STREAM if proto == "tcp" else socket.SOCK_DGRAM
    sock = socket.socket(family, kind)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, int(proto == "tcp"))
        if link:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode() + b"\0")
        sock.bind((address or "::", number))
        if proto == "tcp":
            sock.listen()
    except OSError:
        sock.close()
        raise
    return sock


def _listen(options: Sequence[tuple[str, str]], generation: int) -> list[socket.socket]:
    sockets = []
    for name, value in options:
        if name not in ("tcp-ports", "udp-ports"):
            continue
        for port in ports(name[:3], value):
            try:
                sockets.append(_bind(port))
            except OSError as error:
                said = f"Failed to bind port {port[3]} ({os.strerror(error.errno or 0)}) for option '--{name} {value}'"
                if generation >= 2026:
                    raise _Refused(said) from error
                print(said, file=sys.stderr, flush=True)
    return sockets


def _serve(connection: socket.socket, sockets: Sequence[socket.socket], *, heard: bool) -> None:
    """Until the connection ends: read frames from it, answer whoever calls once the guest was *heard*."""
    with selectors.DefaultSelector() as selector:
        for each in (connection, *sockets):
            selector.register(each, selectors.EVENT_READ, each)
        while True:
            for key, _ in selector.select():
                sock: socket.socket = key.data
                if sock is connection:
                    if not sock.recv(1 << 16):
                        return
                    heard = True
                elif sock.type == socket.SOCK_STREAM:
                    caller, _ = sock.accept()
                    with caller:
                        if heard:
                            caller.sendall(b"fake guest, port %d\n" % sock.getsockname()[1])
                else:
                    data, sender = sock.recvfrom(1 << 16)
                    if heard:
                        sock.sendto(data, sender)


def _confine() -> None:
    """Put a system call filter on, which allows everything: it tells the daemon that the options are taken."""
    code, allow = 0x06, 0x7FFF0000  # BPF_RET | BPF_K, SECCOMP_RET_ALLOW
    program = ctypes.create_string_buffer(struct.pack("HBBI", code, 0, 0, allow))
    filters = ctypes.create_string_buffer(struct.pack("HP", 1, ctypes.addressof(program)))
    ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, filters, 0, 0)


def _leave(pid_file: str) -> None:
    """Go into the background, as nobody's child; who waits for us finds the pid written."""
    _wear(sys.argv)
    pid = os.fork()
    if pid:
        if pid_file:
            Path(pid_file).write_text(f"{pid}\n", encoding="ascii")
        os._exit(0)
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd in range(3):
        os.dup2(nothing, fd)


def _wear(argv: Sequence[str]) -> None:
    """Show *argv* as our command line, without the interpreter's own words: a real one is found by its first word."""
    fields = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    start, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, proc(5)
    words = b"".join(os.fsencode(word) + b"\0" for word in argv)
    if len(words) <= end - start:
        ctypes.memmove(start, words.ljust(end - start, b"\0"), end - start)


def _help(generation: int) -> int:
    text = "".join(f"      --{name}\tfake\n" for name in sorted(_FLAGS | _VALUES))
    old = generation < 2026
    print("Usage: passt [OPTION]...\n" + text, file=sys.stderr if old else sys.stdout)
    return int(old)


def _run(argv: Sequence[str], behaviour: Mapping[str, object]) -> int:
    generation = int(str(behaviour["generation"]))
    options = _parse(argv)
    names = dict(options)
    if "help" in names:
        return _help(generation)
    if "version" in names:
        print("passt fake")
        return 0
    if behaviour["refuse"]:
        raise _Refused(str(behaviour["refuse"]))
    if "fd" not in names:
        raise _Refused("the fake passt needs --fd")
    sockets = _listen(options, generation)
    if "foreground" not in names:
        _leave(names.get("pid", ""))
    _confine()
    if "quiet" not in names:
        print("fake passt is ready", file=sys.stderr, flush=True)
    _serve(socket.socket(fileno=int(names["fd"])), sockets, heard=behaviour["learns"] == "at once")
    return 0


def main(argv: Sequence[str] | None = None, behaviour: Mapping[str, object] | None = None) -> int:
    """Be a passt; returns its exit status."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    told = json.loads(os.environ.get("VIRLET_FAKE_PASST", "{}"))
    try:
        return _run(sys.argv[1:] if argv is None else argv, {**DEFAULTS, **(behaviour or {}), **told})
    except _Refused as error:
        print(error, file=sys.stderr)
        return 1
    except ConnectionResetError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
