"""Definitions: from the user's XML to a guest in the table and a file on the disk."""

from __future__ import annotations

import logging

from virlet.engine.context import Context
from virlet.engine.guest import Guest
from virlet.engine.store import StoredDefinition
from virlet.engine.texts import print_xml, raise_problems
from virlet.enums import DefinedDetail, DefineFlags, ErrorCode, ErrorDomain, Lifecycle, UndefinedDetail
from virlet.errors import (
    BadConfig,
    InternalError,
    OperationFailed,
    OperationInvalid,
    OperationTimeout,
    Problem,
    SystemFailure,
    VirletError,
)
from virlet.fault import point
from virlet.model.domain import Domain, parse_domain
from virlet.plan.assign import assign_defaults
from virlet.plan.check import check_define, emulator_of
from virlet.xml.source import Source

__all__ = ["define", "holder_of", "load_definitions", "read_definition", "redefine", "store", "undefine"]

log = logging.getLogger(__name__)


async def read_definition(context: Context, xml: str, flags: int) -> Domain:
    """The domain that *xml* defines, checked, with everything that it left open filled in.

    Raises what its parser raises, :class:`BadConfig` with all problems and their lines, and with the VALIDATE flag
    :class:`XmlInvalidSchema` for elements that no schema knows.
    """
    domain, source = parse_domain(xml, validate=bool(flags & DefineFlags.VALIDATE))
    await _know_emulator(context, domain, source)
    await context.know_passts(domain.devices.interfaces)
    qemu = emulator_of(domain, context.facts)
    try:
        whole = domain if qemu is None else assign_defaults(domain, qemu)
    except BadConfig as error:
        raise_problems(error.problems, source)
        raise
    raise_problems(check_define(whole), source)
    return whole


async def _know_emulator(context: Context, domain: Domain, source: Source) -> None:
    try:
        await context.know(domain.devices.emulator, domain.os.arch)
    except (SystemFailure, InternalError, OperationTimeout) as error:
        hint = error.hint or "name a QEMU system emulator, such as /usr/bin/qemu-system-x86_64"
        problem = Problem(
            "devices/emulator", error.detail, hint=hint, code=ErrorCode(error.code), domain=ErrorDomain.QEMU
        )
        bad = BadConfig([source.locate(problem)])
        bad.errno = error.errno
        raise bad from error


def holder_of(context: Context, domain: Domain) -> Guest | None:
    """The guest that *domain* describes anew; raises :class:`OperationFailed` when one of its names is another's."""
    same, named = context.guests.get(domain.uuid), context.guests.named(domain.name)
    if same is not None and same.name != domain.name:
        raise OperationFailed(f"domain '{same.name}' is already defined with uuid {domain.uuid}")
    if named is not None and named.uuid != domain.uuid:
        raise OperationFailed(f"domain '{domain.name}' already exists with uuid {named.uuid}")
    return same


async def define(context: Context, xml: str, flags: int) -> Guest:
    """Define a guest, or define it anew; of a running one only what it will be at its next start changes."""
    domain = await read_definition(context, xml, flags)
    point("define.read")
    async with context.names:
        guest = holder_of(context, domain)
        known = guest is not None and guest.persistent
        autostart = guest is not None and guest.autostart
        await context.definitions.save(_stored(context, domain, autostart=autostart))
        point("define.stored")
        # Adopted now and not before: a definition that is not on the disk does not exist.
        guest = context.guests.get(domain.uuid)
        if guest is None:
            guest = Guest(context, domain, persistent=True)
            context.guests.add(guest)
        guest.config, guest.foreign = domain, ""
        guest.updated = guest.active
        guest.changed()
    guest.save()
    point("define.written")
    guest.emit(Lifecycle.DEFINED, DefinedDetail.UPDATED if known else DefinedDetail.ADDED)
    point("define.told")
    return guest


async def redefine(guest: Guest, domain: Domain) -> None:
    """*domain*, whole and checked, is from now on the definition of *guest*, which has one."""
    context = guest.context
    async with context.names:
        await context.definitions.save(_stored(context, domain, autostart=guest.autostart))
        point("redefine.stored")
        guest.config = domain
        guest.updated = guest.active
        guest.changed()
    guest.save()
    guest.emit(Lifecycle.DEFINED, DefinedDetail.UPDATED)


async def save_definition(guest: Guest, domain: Domain) -> None:
    """Write *domain* as the definition of *guest*; the caller holds the names.  Raises :class:`SystemFailure`."""
    await guest.context.definitions.save(_stored(guest.context, domain, autostart=guest.autostart))


def _stored(context: Context, domain: Domain, *, autostart: bool) -> StoredDefinition:
    xml = print_xml(domain, inactive=True, secure=True)
    return StoredDefinition(domain.uuid, xml, context.facts.host.machine_id, autostart)


async def store(guest: Guest, *, autostart: bool) -> None:
    """Write the definition with another autostart mark."""
    context = guest.context
    async with context.names:
        if guest.config is None:
            raise OperationInvalid("cannot set autostart for transient domain")
        await context.definitions.save(_stored(context, guest.config, autostart=autostart))
        guest.autostart = autostart


async def undefine(guest: Guest) -> None:
    """Forget the definition; a running guest runs on, and is gone when it stops."""
    context = guest.context
    async with guest.job.hold("undefine"), context.names:
        if not guest.persistent:
            raise OperationInvalid("cannot undefine transient domain", domain=ErrorDomain.QEMU)
        point("undefine.begun")
        await context.definitions.remove(guest.uuid)
        point("undefine.removed")
        guest.autostart = False
        if guest.active:
            guest.config = None
            guest.changed()
            guest.save()
        else:
            context.guests.remove(guest)
    point("undefine.forgotten")
    guest.emit(Lifecycle.UNDEFINED, UndefinedDetail.REMOVED)


def load_definitions(context: Context) -> None:
    """Every definition on the disk becomes a guest; one that cannot be used is moved aside and reported."""
    for stored in context.definitions.load():
        try:
            domain, _ = parse_domain(stored.xml, stored=True)
            if domain.uuid != stored.uuid:
                raise OperationFailed(f"it describes {domain.uuid}")
            if (other := context.guests.named(domain.name)) is not None:
                raise OperationFailed(f"its name '{domain.name}' is that of {other.uuid}")
        except VirletError as error:
            context.definitions.reject(stored.uuid, str(error))
            continue
        _load(context, domain, stored)


def _load(context: Context, domain: Domain, stored: StoredDefinition) -> None:
    guest = Guest(context, domain, persistent=True)
    guest.autostart = stored.autostart
    if stored.host != context.facts.host.machine_id:
        guest.foreign = stored.host or "unknown"
        log.warning("%s was defined on another host (machine id %s)", domain.name, guest.foreign)
    context.guests.add(guest)
