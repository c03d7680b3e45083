"""libslirp in a loop: frames in and out of one datagram socket, libslirp's own sockets in between.

This is the hot path, so it makes no Python object for a packet: frames are received into one buffer that libslirp
reads, and sent from libslirp's memory.  The functions are called through ``PyDLL``, which keeps the interpreter's lock:
there is one thread.  A frame that QEMU does not take is waited for, a tenth of a second at most, because libslirp would
take it for sent, and TCP would have to find out; after that a guest that takes nothing (paused, no driver yet) loses
what is sent until it takes something again, as on any cable.
"""

from __future__ import annotations

import ctypes
import socket
import sys
import time
from array import array
from collections.abc import Callable
from ctypes import c_int, c_size_t, c_ssize_t, c_ulong, c_void_p
from typing import Any

from virlet.slirp import library as lib
from virlet.slirp.complaints import Complaints
from virlet.slirp.options import Options

__all__ = ["POLL_IN", "Stack"]

POLL_IN, _POLL_OUT = 1, 4
_SWAPPED = bytes(bits & 0b11001 | (bits & 0b10) << 1 | (bits & 0b100) >> 1 for bits in range(32))
"""libslirp's event bits ↔ those of poll(2): PRI and OUT have changed places."""

_FRAME = 1 << 17
"""Bytes of the receive buffer: more than any frame, so that none is cut."""
_BATCH = 64
"""Frames taken from QEMU in one turn, before libslirp's own sockets get theirs."""
_PATIENCE_MS = 100
"""For a frame that QEMU does not take."""
_ENDLESS = 1000
"""Milliseconds that libslirp asks for when it waits for nothing in particular."""
_ETHERNET = 14


class Stack:
    """One user network for the guest behind *fd*."""

    def __init__(self, library: lib.Library, options: Options) -> None:
        self._library = library
        self._fd = options.fd
        self._stalled = False
        self._timers: dict[int, tuple[Callable[[Any], None], Any, int | None]] = {}
        self._last_timer = 0
        self._polled = array("i", bytes(8 * 64))  # struct pollfd: int fd; short events, revents
        self._count = 0
        self._make_functions()
        self._config = _config(options)
        self._callbacks = self._make_callbacks()
        self.handle: int | None = library.new(self._config, self._callbacks, None)
        if self.handle is None:
            raise RuntimeError("libslirp refuses its configuration")

    def _make_functions(self) -> None:
        libc = ctypes.PyDLL(None)
        self._send = libc.send
        self._send.argtypes, self._send.restype = (c_int, c_void_p, c_size_t, c_int), c_ssize_t
        self._recv = libc.recv
        self._recv.argtypes, self._recv.restype = (c_int, c_void_p, c_size_t, c_int), c_ssize_t
        self._poll = libc.poll
        self._poll.argtypes, self._poll.restype = (c_void_p, c_ulong, c_int), c_int

    # --- what libslirp asks of us -------------------------------------------------------------------------------

    def _make_callbacks(self) -> lib.Callbacks:
        self._add_poll = lib.AddPoll(self._make_add_poll())
        self._get_revents = lib.GetREvents(lambda index, _: _SWAPPED[self._shorts[4 * index + 3] & 31])
        complain = Complaints(sys.stderr)
        return lib.Callbacks(
            lib.SendPacket(self._make_send_packet()),
            lib.GuestError(lambda text, _: complain(text)),
            lib.ClockGetNs(lambda _, now=time.monotonic_ns: now()),
            lib.TimerNew(self._timer_new),
            lib.TimerFree(lambda timer, _: self._timers.pop(timer, None) and None),
            lib.TimerMod(self._timer_mod),
            lib.PollFd(_nothing),
            lib.PollFd(_nothing),
            lib.Notify(_nothing),
        )

    def _make_send_packet(self) -> Callable[[int, int, object], int]:
        fd, send, blocked, flags = self._fd, self._send, self._send_late, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL

        def send_packet(frame: int, size: int, _: object) -> int:
            sent: int = send(fd, frame, size, flags)
            return sent if sent >= 0 else blocked(frame, size)

        return send_packet

    def _send_late(self, frame: int, size: int) -> int:
        """The frame was not taken: wait for room, once; -1 when it is lost."""
        if self._stalled:
            return -1
        waiting = array("i", bytes(8))
        waiting[0] = self._fd
        memoryview(waiting).cast("B").cast("h")[2] = _POLL_OUT
        self._stalled = self._poll(waiting.buffer_info()[0], 1, _PATIENCE_MS) == 0
        if self._stalled:
            return -1
        sent: int = self._send(self._fd, frame, size, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return sent

    def _timer_new(self, callback: Callable[[Any], None], opaque: Any, _: object) -> int:
        self._last_timer += 1
        self._timers[self._last_timer] = (callback, opaque, None)
        return self._last_timer

    def _timer_mod(self, timer: int, expires: int, _: object) -> None:
        callback, opaque, _old = self._timers[timer]
        self._timers[timer] = (callback, opaque, expires)

    # --- the loop -----------------------------------------------------------------------------------------------

    def _make_add_poll(self) -> Callable[[int, int, object], int]:
        def add_poll(fd: int, events: int, _: object) -> int:
            index = self._count
            if 2 * index == len(self._polled):
                self._grow()
            self._polled[2 * index] = fd
            self._shorts[4 * index + 2] = _SWAPPED[events & 31]
            self._count = index + 1
            return index

        self._view()
        return add_poll

    def _view(self) -> None:
        self._shorts = memoryview(self._polled).cast("B").cast("h")
        self._address = self._polled.buffer_info()[0]

    def _grow(self) -> None:
        self._shorts.release()
        self._polled.extend(bytes(len(self._polled)))
        self._view()

    def run(self, ended: int | None) -> None:
        """Carry frames until the other end of *ended* (a descriptor) is closed."""
        handle, fill, serve = self.handle, self._library.pollfds_fill, self._library.pollfds_poll
        timeout = ctypes.c_uint32()
        pointer = ctypes.byref(timeout)
        buffer = ctypes.create_string_buffer(_FRAME)
        watched = -1 if ended is None else ended
        while True:
            # The first two entries are ours.
            self._polled[0], self._polled[2] = self._fd, watched
            self._shorts[2] = POLL_IN | (_POLL_OUT if self._stalled else 0)
            self._shorts[6] = POLL_IN
            self._count = 2
            timeout.value = _ENDLESS
            fill(handle, pointer, self._add_poll, None)
            ready = self._poll(self._address, self._count, self._patience(timeout.value))
            serve(handle, int(ready < 0), self._get_revents, None)
            if self._timers:
                self._fire()
            if ready <= 0:
                continue
            if self._shorts[7]:
                return
            events = self._shorts[3]
            if events & _POLL_OUT:
                self._stalled = False
            if events:
                self._receive(buffer)

    def _receive(self, buffer: ctypes.Array[ctypes.c_char]) -> None:
        receive, give, handle, fd = self._recv, self._library.input, self.handle, self._fd
        for _ in range(_BATCH):
            size = receive(fd, buffer, _FRAME, socket.MSG_DONTWAIT)
            if size <= 0:
                return
            if size >= _ETHERNET:
                give(handle, buffer, size)

    def _patience(self, asked: int) -> int:
        """Milliseconds to wait: what libslirp asked for and the next timer; -1 when neither has anything to do."""
        wait = -1 if asked >= _ENDLESS else asked
        expiries = [expires for _, _, expires in self._timers.values() if expires is not None]
        if expires := min(expiries, default=None):
            left = max(0, expires - time.monotonic_ns() // 1_000_000)
            wait = left if wait < 0 else min(wait, left)
        return min(wait, 1 << 30)

    def _fire(self) -> None:
        now = time.monotonic_ns() // 1_000_000
        for timer, (callback, opaque, expires) in tuple(self._timers.items()):
            if expires is not None and expires <= now:
                self._timers[timer] = (callback, opaque, None)
                callback(opaque)


def _nothing(*_: object) -> None:
    """libslirp asks for nothing here that the loop does not do anyway."""


def _config(options: Options) -> lib.Config:
    net = options.network
    config = lib.Config(version=1, restricted=int(options.restrict), in_enabled=options.ipv4, in6_enabled=options.ipv6)
    config.vnetwork = lib.address4(net.net.network_address)
    config.vnetmask = lib.address4(net.net.netmask)
    config.vhost = lib.address4(net.host or net.address(0x0202))
    config.vdhcp_start = lib.address4(net.dhcp_start or net.address(0x020F))
    config.vnameserver = lib.address4(net.dns or net.address(0x0203))
    config.vprefix_addr6 = lib.address6(net.address6(0))
    config.vprefix_len = net.prefix6_len
    config.vhost6 = lib.address6(net.address6(2))
    config.vnameserver6 = lib.address6(net.address6(3))
    config.vhostname = _text(options.hostname)
    config.tftp_server_name = _text(options.tftp_server_name)
    config.tftp_path = None if options.tftp is None else bytes(options.tftp)
    config.bootfile = _text(options.bootfile)
    config.vdomainname = _text(options.domainname)
    if options.dns_suffixes:
        names = [name.encode() for name in options.dns_suffixes]
        config.vdnssearch = (ctypes.c_char_p * (len(names) + 1))(*names, None)
    config.if_mtu = config.if_mru = options.mtu
    return config


def _text(value: str | None) -> bytes | None:
    return None if value is None else value.encode()
