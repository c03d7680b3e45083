"""What is known only of a guest that runs, put into its live XML: the backends that were chosen for it, and what QEMU
alone can tell of one that it has started, terminals and display ports."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from virlet.model.chardev import ChardevSource, Console, Parallel, Serial
from virlet.model.domain import Domain
from virlet.model.graphics import Graphics
from virlet.model.interface import ForcedBackend, Interface, InterfaceType

__all__ = [
    "pty_paths",
    "target_of",
    "vnc_ports",
    "with_backend",
    "with_backends",
    "with_ptys",
    "with_targets",
    "with_vnc_ports",
]

_PTY = re.compile(r"pty:(/dev/pts/[0-9]{1,9})")

Line = TypeVar("Line", Serial, Parallel, Console)


def pty_paths(answer: object) -> dict[str, str]:
    """Chardev id → terminal, from the answer to ``query-chardev``; what is not a terminal is left out."""
    found = {}
    for item in answer if isinstance(answer, list) else ():
        if isinstance(item, Mapping):
            label, filename = item.get("label"), item.get("filename")
            if isinstance(label, str) and isinstance(filename, str) and (terminal := _PTY.fullmatch(filename)):
                found[label] = terminal.group(1)
    return found


def with_ptys(domain: Domain, paths: Mapping[str, str]) -> Domain:
    """*domain* with the path of each terminal; QEMU's id of a character device is ``char`` + its alias."""
    devices = domain.devices
    return replace(
        domain,
        devices=replace(
            devices,
            serials=tuple(_connected(item, paths) for item in devices.serials),
            parallels=tuple(_connected(item, paths) for item in devices.parallels),
            consoles=tuple(_connected(item, paths) for item in devices.consoles),
        ),
    )


def _connected(line: Line, paths: Mapping[str, str]) -> Line:
    path = paths.get(f"char{line.alias}")
    if path is None:
        return line
    source = replace(line.source or ChardevSource(), path=path)
    made: Line = replace(line, tty=path, sources=(source, *line.sources[1:]))
    return made


def with_backends(domain: Domain, names: Mapping[str, str]) -> Domain:
    """*domain* with the backends that were chosen for its interfaces; *names* by alias."""
    interfaces = tuple(with_backend(nic, names.get(nic.alias or "")) for nic in domain.devices.interfaces)
    return replace(domain, devices=replace(domain.devices, interfaces=interfaces))


def with_backend(nic: Interface, name: str | None) -> Interface:
    """*nic* with the backend *name*, where it had left the choice to us: that stays until the guest stops."""
    if name is None or nic.type is not InterfaceType.USER or nic.forced is not None or nic.wants_passt:
        return nic
    return replace(nic, forced=ForcedBackend(name=name))


def with_targets(domain: Domain, names: Mapping[str, str]) -> Domain:
    """*domain* with the devices that were opened for its interfaces; *names* by alias."""
    if not names:
        return domain
    interfaces = tuple(
        replace(nic, target=names[nic.alias]) if nic.alias is not None and nic.alias in names else nic
        for nic in domain.devices.interfaces
    )
    return replace(domain, devices=replace(domain.devices, interfaces=interfaces))


def target_of(domain: Domain, alias: str) -> str:
    """The device on the host of the interface with that alias; empty where it has none."""
    return next((nic.target or "" for nic in domain.devices.interfaces if nic.alias == alias), "")


def vnc_ports(answer: object) -> tuple[int, ...]:
    """The TCP ports of the VNC displays, in order, from the answer to ``query-vnc-servers``."""
    found: list[int] = []
    for display in answer if isinstance(answer, list) else ():
        servers = display.get("server") if isinstance(display, Mapping) else None
        for server in servers if isinstance(servers, list) else ():
            service = server.get("service") if isinstance(server, Mapping) else None
            if isinstance(service, str) and service.isascii() and service.isdigit() and len(service) < 6:
                found.append(int(service))
                break
    return tuple(found)


def with_vnc_ports(domain: Domain, ports: tuple[int, ...]) -> Domain:
    """*domain* with the ports that QEMU found for its automatic VNC displays."""
    left = list(ports)
    graphics = tuple(_listening(item, left) for item in domain.devices.graphics)
    return replace(domain, devices=replace(domain.devices, graphics=graphics))


def _listening(item: Graphics, ports: list[int]) -> Graphics:
    if item.type != "vnc" or not ports:
        return item
    return replace(item, port=ports.pop(0))
