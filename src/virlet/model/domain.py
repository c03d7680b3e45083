"""The domain as the rest of virlet sees it: from XML to a checked value and back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import islice
from typing import Final, TypeAlias

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import BadConfig, Problem, XmlInvalidSchema
from virlet.model.chardev import Channel, Console, Parallel, Serial
from virlet.model.check_domain import check_domain
from virlet.model.check_interface import check_interface
from virlet.model.controller import Controller
from virlet.model.defaults import settle, settle_device
from virlet.model.defaults_interface import dropped_from_interface
from virlet.model.disk import Disk
from virlet.model.elements import (
    Devices,
    Domain,
    DomainType,
    Metadata,
    Placement,
    QemuArg,
    QemuCommandline,
    QemuEnv,
)
from virlet.model.fresh import Fresh, RandomFresh
from virlet.model.graphics import Audio, Graphics, Sound, Video
from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.model.peripherals import Input, MemBalloon, Panic, Rng, Vsock, Watchdog
from virlet.model.unsupported import REASONS
from virlet.xml.declare import replace as altered
from virlet.xml.dumper import dump
from virlet.xml.loader import load
from virlet.xml.parser import Node, parse
from virlet.xml.source import Source

__all__ = [
    "Device",
    "Devices",
    "Domain",
    "DomainType",
    "Metadata",
    "Placement",
    "QemuArg",
    "QemuCommandline",
    "QemuEnv",
    "format_device",
    "format_domain",
    "parse_device",
    "parse_domain",
    "parse_interface",
]

Device: TypeAlias = (
    Audio
    | Channel
    | Console
    | Controller
    | Disk
    | Graphics
    | Input
    | Interface
    | MemBalloon
    | Panic
    | Parallel
    | Rng
    | Serial
    | Sound
    | Video
    | Vsock
    | Watchdog
)

_DEVICES: Final[dict[str, type[Device]]] = {
    "audio": Audio,
    "channel": Channel,
    "console": Console,
    "controller": Controller,
    "disk": Disk,
    "graphics": Graphics,
    "input": Input,
    "interface": Interface,
    "memballoon": MemBalloon,
    "panic": Panic,
    "parallel": Parallel,
    "rng": Rng,
    "serial": Serial,
    "sound": Sound,
    "video": Video,
    "vsock": Vsock,
    "watchdog": Watchdog,
}
_RANDOM: Final = RandomFresh()
_MOST_PROBLEMS: Final = 20
"""Enough to mend a file; a hostile one must not make an error of megabytes."""
_LONGEST: Final = 400


def parse_domain(
    text: str | bytes, *, validate: bool = False, live: bool = False, stored: bool = False, fresh: Fresh = _RANDOM
) -> tuple[Domain, Source]:
    """The domain that *text* defines, settled and checked, and where everything stands in the text.

    *validate* refuses what no declaration names; *live* reads what belongs to a running domain (status files), too;
    *stored* is for what has been accepted before, maybe by a later virlet: names of ours that are not known are kept;
    *fresh* makes the uuid and the MAC addresses that the text does not have.

    Raises XmlDetail for XML that is not well formed, XmlInvalidSchema with *validate*, BadConfig with all other
    problems, each with line and column.
    """
    root = parse(text)
    if root.tag == "domain" and not any(child.tag == "uuid" for child in root.children):
        made = Node("uuid", "uuid", {}, root.scope, root.line, root.column)
        made.text = str(fresh.uuid())
        root.children.append(made)
    loaded = load(Domain, root, live=live)
    if validate:
        _refuse_unknown(loaded.source)
    domain = settle(loaded.value, fresh, live=live)
    pairs = zip(loaded.value.devices.interfaces, domain.devices.interfaces, strict=True)
    loaded.source.dropped = tuple(
        loaded.source.locate(note)
        for number, (before, after) in enumerate(pairs, 1)
        for note in dropped_from_interface(before, after, f"devices/interface[{number}]")
    )
    _raise(check_domain(domain), loaded.source, stored=stored)
    return domain, loaded.source


def format_domain(
    domain: Domain, *, inactive: bool = False, secure: bool = False, id: int | None = None
) -> str:  # the wire's own word
    """The domain as libvirt prints it: *inactive* without what a start made, *secure* with passwords."""
    if id is not None and not inactive:
        domain = altered(domain, id=id)
    elif domain.id is not None:
        domain = altered(domain, id=None)
    return dump(domain, live=not inactive, secret=secure)


def parse_device(
    text: str | bytes, *, validate: bool = False, live: bool = False, fresh: Fresh = _RANDOM
) -> tuple[Device, Source]:
    """One device, as attach, detach and update name it; errors as :func:`parse_domain`."""
    root = parse(text)
    cls = _DEVICES.get(root.tag)
    if cls is None:
        raise BadConfig([_no_device(root)])
    loaded = load(cls, root, live=live)
    if validate:
        _refuse_unknown(loaded.source)
    device: Device = settle_device(loaded.value, fresh, live=live)
    if isinstance(device, Interface):
        notes = dropped_from_interface(loaded.value, device, "")  # type: ignore[arg-type]
        loaded.source.dropped = tuple(loaded.source.locate(note) for note in _below(notes))
    _raise(_below(check_interface(device, "")) if isinstance(device, Interface) else (), loaded.source)
    return device, loaded.source


def parse_interface(
    text: str | bytes, *, validate: bool = False, live: bool = False, stored: bool = False, fresh: Fresh = _RANDOM
) -> tuple[Interface, Source]:
    """An ``<interface>``; any other device is refused.  Errors as :func:`parse_domain`."""
    root = parse(text)
    loaded = load(Interface, root, live=live)
    if validate:
        _refuse_unknown(loaded.source)
    nic = settle_device(loaded.value, fresh, live=live)
    _raise(_below(check_interface(nic, "")), loaded.source, stored=stored)
    return nic, loaded.source


def format_device(device: Device, *, inactive: bool = False, secure: bool = False) -> str:
    """One device as libvirt prints it."""
    return dump(device, live=not inactive, secret=secure)


def _below(problems: Iterable[Problem]) -> Iterable[Problem]:
    """Paths from the device itself, which has nothing above it."""
    return (replace(problem, path=problem.path.removeprefix("/")) for problem in problems)


def _raise(problems: Iterable[Problem], source: Source, *, stored: bool = False) -> None:
    found = [_short(source.locate(problem)) for problem in islice(problems, _MOST_PROBLEMS)]
    if not stored and source.unknown:
        found += _nobodys(source, found)
    if found:
        raise BadConfig(found[:_MOST_PROBLEMS])


def _nobodys(source: Source, found: Iterable[Problem]) -> Iterable[Problem]:
    """Names in our own namespace that mean nothing, and of which nobody has said so better.

    libvirt ignores what it does not know, and so do we; but nobody else gives these a meaning.
    """
    told = {(problem.line, problem.path.rpartition("/")[2]) for problem in found}
    for note in source.unknown_of(VIRLET):
        if (note.line, note.path.rpartition("/")[2]) not in told:
            code, domain = ErrorCode.CONFIG_UNSUPPORTED, ErrorDomain.DOMAIN
            yield _short(replace(note, hint="see docs/reference-xml.md for virlet's own", code=code, domain=domain))


def _short(problem: Problem) -> Problem:
    """A problem whose message quotes no megabytes."""
    if len(problem.message) <= _LONGEST:
        return problem
    return replace(problem, message=problem.message[:_LONGEST] + "…")


def _refuse_unknown(source: Source) -> None:
    if source.unknown:
        places = "; ".join(f"{one.message} ({one.where()}: {one.path})" for one in source.unknown[:20])
        raise XmlInvalidSchema(places)


def _no_device(root: Node) -> Problem:
    name = root.name
    reason = REASONS.get(f"devices/{root.tag}")
    if reason is not None:
        message, code = f"device <{name}> is not supported: {reason}", ErrorCode.CONFIG_UNSUPPORTED
    else:
        message, code = f"unknown device type '{name}'", ErrorCode.INTERNAL_ERROR
    return Problem(name, message, code=code, domain=ErrorDomain.DOMAIN, line=root.line, column=root.column)
