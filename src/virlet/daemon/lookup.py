"""Between the domains of the wire and those of drivers."""

from __future__ import annotations

from uuid import UUID

from virlet.daemon.session import Session
from virlet.engine.api import DomainRef
from virlet.enums import Affect
from virlet.errors import OperationInvalid, RpcError
from virlet.wire import types

__all__ = ["affected", "at_most", "running", "uuid_of", "wire_domain"]

_Domain = types.Domain
"""Looked up once: the module makes its classes when they are first asked for."""


def uuid_of(dom: types.Domain) -> UUID:
    """The domain that a call is about: libvirt looks at the UUID alone, names and ids may be stale."""
    return UUID(bytes=dom.uuid)


def wire_domain(ref: DomainRef) -> types.Domain:
    """A domain as replies name it."""
    return _Domain(ref.name, ref.uuid.bytes, ref.id)


def running(session: Session, uuid: UUID) -> None:
    """Raise :class:`OperationInvalid` unless the domain runs, :class:`NoDomain` unless it exists."""
    if not session.driver.is_active(uuid):
        raise OperationInvalid("domain is not running")


def affected(session: Session, uuid: UUID, flags: int) -> Affect:
    """What *flags* (``virDomainModificationImpact``) means for the domain as it is: LIVE, CONFIG or both.

    Raises libvirt's errors for the impossible: LIVE of a stopped domain, CONFIG of a transient one.
    """
    wanted = Affect(flags & (Affect.LIVE | Affect.CONFIG))
    if not wanted:
        return Affect.LIVE if session.driver.is_active(uuid) else Affect.CONFIG
    if wanted & Affect.LIVE:
        running(session, uuid)
    if wanted & Affect.CONFIG and not session.driver.is_persistent(uuid):
        raise OperationInvalid("transient domains do not have any persistent config")
    return wanted


def at_most(asked: int, limit: int, name: str, constant: str) -> int:
    """Check the client's buffer size of an old-style list.

    Raises :class:`RpcError` in libvirt's words.
    """
    if asked < 0:
        raise RpcError(f"{name} must be non-negative")
    if asked > limit:
        raise RpcError(f"{name} > {constant}")
    return asked
