"""What of ``<virlet:guestForward>`` contradicts itself or the rest of its interface, on any host."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.enums import ErrorCode
from virlet.errors import Problem
from virlet.model.guest_forward import GuestForward
from virlet.model.interface import Interface, InterfaceType

__all__ = ["check_guest_forwards"]

_HIGHEST_PORT = 65_535


def check_guest_forwards(nic: Interface, path: str) -> Iterator[Problem]:
    """Every problem of the ``<virlet:guestForward>`` elements of *nic*, which stands at *path*."""
    seen = set()
    for number, forward in enumerate(nic.guest_forwards, 1):
        where = f"{path}/virlet:guestForward[{number}]"
        if nic.type is not InterfaceType.USER or nic.needs_passt:
            message = "<virlet:guestForward> can only be used with interface type='user', without passt"
            yield Problem(where, message, hint="use <virlet:backend name='slirp-helper'/>")
        yield from _itself(forward, where)
        if (forward.address, forward.port) in seen:
            text = f"{forward.address} port {forward.port} leads to two places"
            yield Problem(f"{where}/@port", text, hint="leave one of them out", code=ErrorCode.XML_ERROR)
        seen.add((forward.address, forward.port))


def _itself(forward: GuestForward, where: str) -> Iterator[Problem]:
    targets = [name for name in ("command", "socket", "host") if getattr(forward, name) is not None]
    if len(targets) != 1:
        text = "it leads nowhere" if not targets else f"it has {' and '.join(targets)}: it leads to one place"
        hint = "give one of command, socket and host"
        yield Problem(where, f"<virlet:guestForward>: {text}", hint=hint, code=ErrorCode.XML_ERROR)
    if forward.address.version != 4:
        text = f"{forward.address}: libslirp forwards IPv4 addresses of the guest's network alone"
        yield Problem(f"{where}/@address", text, hint="use one like 10.0.2.100")
    for name, port in (("port", forward.port), ("hostPort", forward.host_port)):
        if port is not None and port > _HIGHEST_PORT:
            text = f"there is no port {port}: the highest is {_HIGHEST_PORT}"
            yield Problem(f"{where}/@{name}", text, code=ErrorCode.XML_ERROR)
    if forward.host_port is not None and forward.host is None:
        yield Problem(f"{where}/@hostPort", "a port of no host", hint="add host='…'", code=ErrorCode.XML_ERROR)
    if forward.socket is not None and not forward.socket.startswith("/"):
        text = f"'{forward.socket}' is not an absolute path"
        yield Problem(f"{where}/@socket", text, hint="begin it with '/'", code=ErrorCode.XML_ERROR)
