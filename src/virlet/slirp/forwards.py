"""Ports of the host that reach the guest, and addresses of the user network that reach something of the host's."""

from __future__ import annotations

import ctypes
import errno
import os
import shlex
import sys
from ipaddress import IPv4Address, IPv6Address

from virlet.slirp import library as lib
from virlet.slirp.options import GuestForward, HostForward, Options
from virlet.slirp.stack import Stack

__all__ = ["ForwardFailed", "add_guest_forward", "add_host_forward", "eui64"]

_ANY4, _ANY6 = IPv4Address("0.0.0.0"), IPv6Address("::")
_NO_IPV6 = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
"""What a host without IPv6 says."""


class ForwardFailed(Exception):
    """A port that cannot be had; the message names it."""


def eui64(prefix: IPv6Address, mac: bytes) -> IPv6Address:
    """The address that a guest makes of *prefix* (64 bits) and its *mac* (RFC 4291, appendix A)."""
    identifier = bytes((mac[0] ^ 2, *mac[1:3], 0xFF, 0xFE, *mac[3:]))
    return IPv6Address(prefix.packed[:8] + identifier)


def add_host_forward(library: lib.Library, stack: Stack, options: Options, forward: HostForward) -> None:
    """Listen on the host and have the guest answer; raises :class:`ForwardFailed`."""
    if forward.host is not None:
        _listen(library, stack, forward, forward.host, _guest(options, forward, forward.host))
        return
    if options.ipv4:
        _listen(library, stack, forward, _ANY4, _ANY4)
    if options.ipv6 and options.guest_mac is not None and library.add_hostxfwd is not None:
        try:
            _listen(library, stack, forward, _ANY6, _guest(options, forward, _ANY6))
        except ForwardFailed as error:
            cause = error.__cause__
            if not (options.ipv4 and isinstance(cause, OSError) and cause.errno in _NO_IPV6):
                raise


def _guest(options: Options, forward: HostForward, host: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    if forward.guest is not None:
        return forward.guest
    if isinstance(host, IPv4Address):
        return _ANY4  # libslirp's word for the first address of its DHCP server
    if options.guest_mac is None:
        raise ForwardFailed(f"{forward}: name the guest's address, or --guest-mac")
    return eui64(options.network.prefix6, options.guest_mac)


def _listen(
    library: lib.Library,
    stack: Stack,
    forward: HostForward,
    host: IPv4Address | IPv6Address,
    guest: IPv4Address | IPv6Address,
) -> None:
    if isinstance(host, IPv4Address) and isinstance(guest, IPv4Address):
        done = library.add_hostfwd(
            stack.handle, int(forward.udp), lib.address4(host), forward.port, lib.address4(guest), forward.to
        )
    elif library.add_hostxfwd is None:
        raise ForwardFailed(f"{forward}: libslirp {library.version_text} cannot forward IPv6, 4.5 can")
    else:
        ours, theirs = lib.sockaddr(host, forward.port), lib.sockaddr(guest, forward.to)
        flags = lib.HOSTFWD_V6ONLY | (lib.HOSTFWD_UDP if forward.udp else 0)
        done = library.add_hostxfwd(stack.handle, ours, len(ours), theirs, len(theirs), flags)
    if done < 0:
        number = ctypes.get_errno()
        reason = os.strerror(number) if number else "libslirp refuses it"
        raise ForwardFailed(f"cannot listen on {forward}: {reason}") from OSError(number, reason)


def add_guest_forward(library: lib.Library, stack: Stack, forward: GuestForward) -> None:
    """Have something of the host's answer inside the user network; raises :class:`ForwardFailed`."""
    address = ctypes.byref(lib.address4(forward.address))
    if forward.kind in ("cmd", "tcp"):
        command = forward.target if forward.kind == "cmd" else _relay(forward.target)
        done = library.add_exec(stack.handle, command.encode(), address, forward.port)
    elif library.add_unix is None:
        raise ForwardFailed(
            f"this libslirp ({library.version_text}) cannot forward to a socket: slirp_add_unix is missing"
        )
    else:
        done = library.add_unix(stack.handle, forward.target.encode(), address, forward.port)
    if done < 0:
        raise ForwardFailed(
            f"libslirp cannot answer on {forward.address} port {forward.port}: the address must lie in the network and"
            " be neither the host's nor the nameserver's"
        )


def _relay(target: str) -> str:
    """A command that joins the guest's connection with *target*: libslirp itself knows commands and UNIX sockets."""
    host, _, port = target.rpartition(":")
    return shlex.join((sys.executable, "-P", "-m", "virlet.slirp.relay", host.strip("[]"), port))
