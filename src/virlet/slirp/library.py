"""libslirp's interface, as its header has it, by ctypes.

Only configuration version 1 is used, which every libslirp since 4.1 (2019) takes, so that the structures never grow
under our feet.  Functions that came later are probed: an attribute that is None is not there.  ctypes and not cffi:
callbacks of cffi's ABI mode need memory that is writable and executable, which the confined helper may not have.
"""

from __future__ import annotations

import ctypes
import socket
import sys
from ctypes import CFUNCTYPE, POINTER, Structure, c_bool, c_char_p, c_int, c_int64, c_size_t, c_ssize_t, c_void_p
from ctypes import c_uint8 as uint8
from ctypes import c_uint32 as uint32
from ipaddress import IPv4Address, IPv6Address
from typing import Any

__all__ = ["Callbacks", "Config", "Library", "LibraryMissing", "address4", "address6", "sockaddr"]

SONAME = "libslirp.so.0"
PACKAGE = "libslirp0"

HOSTFWD_UDP = 1
HOSTFWD_V6ONLY = 2


class LibraryMissing(Exception):
    """libslirp cannot be loaded; the message says which package has it."""


class _In4(Structure):
    _fields_ = [("s_addr", uint32)]


class _In6(Structure):
    _fields_ = [("s6_addr", uint32 * 4)]  # aligned to four bytes, as the union in the header is


class Config(Structure):
    """``SlirpConfig``, version 1."""

    _fields_ = [
        ("version", uint32),
        ("restricted", c_int),
        ("in_enabled", c_bool),
        ("vnetwork", _In4),
        ("vnetmask", _In4),
        ("vhost", _In4),
        ("in6_enabled", c_bool),
        ("vprefix_addr6", _In6),
        ("vprefix_len", uint8),
        ("vhost6", _In6),
        ("vhostname", c_char_p),
        ("tftp_server_name", c_char_p),
        ("tftp_path", c_char_p),
        ("bootfile", c_char_p),
        ("vdhcp_start", _In4),
        ("vnameserver", _In4),
        ("vnameserver6", _In6),
        ("vdnssearch", POINTER(c_char_p)),
        ("vdomainname", c_char_p),
        ("if_mtu", c_size_t),
        ("if_mru", c_size_t),
        ("disable_host_loopback", c_bool),
        ("enable_emu", c_bool),
    ]


SendPacket = CFUNCTYPE(c_ssize_t, c_void_p, c_size_t, c_void_p)
GuestError = CFUNCTYPE(None, c_char_p, c_void_p)
ClockGetNs = CFUNCTYPE(c_int64, c_void_p)
TimerCallback = CFUNCTYPE(None, c_void_p)
TimerNew = CFUNCTYPE(c_void_p, TimerCallback, c_void_p, c_void_p)
TimerFree = CFUNCTYPE(None, c_void_p, c_void_p)
TimerMod = CFUNCTYPE(None, c_void_p, c_int64, c_void_p)
PollFd = CFUNCTYPE(None, c_int, c_void_p)
Notify = CFUNCTYPE(None, c_void_p)
AddPoll = CFUNCTYPE(c_int, c_int, c_int, c_void_p)
GetREvents = CFUNCTYPE(c_int, c_int, c_void_p)


class Callbacks(Structure):
    """``SlirpCb`` as far as configuration version 1 uses it."""

    _fields_ = [
        ("send_packet", SendPacket),
        ("guest_error", GuestError),
        ("clock_get_ns", ClockGetNs),
        ("timer_new", TimerNew),
        ("timer_free", TimerFree),
        ("timer_mod", TimerMod),
        ("register_poll_fd", PollFd),
        ("unregister_poll_fd", PollFd),
        ("notify", Notify),
    ]


class Library:
    """The functions of a loaded libslirp."""

    def __init__(self, name: str = SONAME) -> None:
        try:
            self._lib = ctypes.PyDLL(name, use_errno=True)
        except OSError as error:
            raise LibraryMissing(f"libslirp cannot be loaded ({error}): install the package '{PACKAGE}'") from None
        self.new = self._get("slirp_new", c_void_p, POINTER(Config), POINTER(Callbacks), c_void_p)
        self.cleanup = self._get("slirp_cleanup", None, c_void_p)
        self.input = self._get("slirp_input", None, c_void_p, c_void_p, c_int)
        self.pollfds_fill = self._get("slirp_pollfds_fill", None, c_void_p, POINTER(uint32), AddPoll, c_void_p)
        self.pollfds_poll = self._get("slirp_pollfds_poll", None, c_void_p, c_int, GetREvents, c_void_p)
        self.add_hostfwd = self._get("slirp_add_hostfwd", c_int, c_void_p, c_int, _In4, c_int, _In4, c_int)
        self.add_exec = self._get("slirp_add_exec", c_int, c_void_p, c_char_p, POINTER(_In4), c_int)
        self.version = self._get("slirp_version_string", c_char_p)
        for needed in ("new", "cleanup", "input", "pollfds_fill", "pollfds_poll", "add_hostfwd", "add_exec", "version"):
            if getattr(self, needed) is None:
                raise LibraryMissing(f"{name} is no libslirp of 2019 or later")
        many = (c_void_p, c_char_p, uint32, c_char_p, uint32, c_int)
        self.add_hostxfwd = self._get("slirp_add_hostxfwd", c_int, *many)
        """4.5: forwards of IPv6."""
        self.remove_hostxfwd = self._get("slirp_remove_hostxfwd", c_int, c_void_p, c_char_p, uint32, c_int)
        self.add_unix = self._get("slirp_add_unix", c_int, c_void_p, c_char_p, POINTER(_In4), c_int)
        """4.2, and left out of some builds."""

    def _get(self, name: str, result: Any, *arguments: Any) -> Any:
        try:
            function = getattr(self._lib, name)
        except AttributeError:
            return None
        function.restype, function.argtypes = result, arguments
        return function

    @property
    def version_text(self) -> str:
        """As ``4.7.0``."""
        return str(self.version().decode())


def address4(address: IPv4Address) -> Any:
    """``struct in_addr``."""
    return _In4.from_buffer_copy(address.packed)


def address6(address: IPv6Address) -> Any:
    """``struct in6_addr``."""
    return _In6.from_buffer_copy(address.packed)


def sockaddr(address: IPv4Address | IPv6Address, port: int) -> bytes:
    """``struct sockaddr_in`` or ``struct sockaddr_in6`` (Linux)."""
    network = port.to_bytes(2, "big")
    if isinstance(address, IPv4Address):
        return int(socket.AF_INET).to_bytes(2, sys.byteorder) + network + address.packed + bytes(8)
    return int(socket.AF_INET6).to_bytes(2, sys.byteorder) + network + bytes(4) + address.packed + bytes(4)
