"""From a call to its handler: the table, the checks that all calls share, and what becomes of an exception."""

from __future__ import annotations

import errno
import logging
from collections.abc import Awaitable, Callable, Iterable
from enum import Enum
from types import CoroutineType
from typing import Any, ClassVar, TypeAlias, TypeVar

from virlet.daemon.session import Session
from virlet.enums import ErrorDomain
from virlet.errors import InternalError, InvalidArg, NoDomain, NoSupport, OperationDenied, SystemFailure, VirletError
from virlet.wire.link import Call
from virlet.wire.procedure import AnyProcedure, Procedure

__all__ = ["Access", "Outcome", "Table", "UnsupportedFlags", "begin", "blame", "check_flags"]

log = logging.getLogger(__name__)

Args = TypeVar("Args")
Ret = TypeVar("Ret")
Outcome: TypeAlias = Any
"""What a handler gives: the result, or a coroutine that will have it."""


class Access(Enum):
    """What a connection must be for a call."""

    ALWAYS = "always"
    """Before it is opened, too."""
    READ = "read"
    WRITE = "write"
    """Refused on a read-only connection."""


class Handler:
    """One row of the table."""

    __slots__ = ("access", "run")

    def __init__(self, run: Callable[[Session, Any], Any], access: Access) -> None:
        self.run = run
        self.access = access


class Table:
    """Handlers by procedure.  A handler that waits for something is a coroutine function; every other one answers at
    once, inside the callback that read the call."""

    def __init__(self) -> None:
        self.handlers: dict[AnyProcedure, Handler] = {}

    def on(
        self, procedure: Procedure[Args, Ret], access: Access | None = None
    ) -> Callable[[_Run[Args, Ret]], _Run[Args, Ret]]:
        """Register the decorated function; access follows from libvirt's own list of permissions unless given."""

        def register(run: _Run[Args, Ret]) -> _Run[Args, Ret]:
            self.handlers[procedure] = Handler(run, access or access_of(procedure.acl))
            return run

        return register

    def update(self, others: Iterable[Table]) -> None:
        """Take over the rows of *others*."""
        for other in others:
            self.handlers.update(other.handlers)


_Run: TypeAlias = Callable[[Session, Args], Ret | Awaitable[Ret]]

_READING = ("getattr", "read", "search_")


def access_of(acl: str) -> Access:
    """What a procedure needs, from its permissions (``domain:read, domain:read_secure:VIR_…``).

    Conditional ones, with a third part, are the handler's to check.  Nothing known means the worse: who registers such
    a handler says that it only reads.
    """
    if not acl:
        return Access.WRITE
    for permission in acl.split(","):
        parts = permission.strip().split(":")
        if len(parts) == 2 and not parts[1].startswith(_READING):
            return Access.WRITE
    return Access.READ


def begin(table: dict[AnyProcedure, Handler], session: Session, call: Call) -> Outcome:
    """Run the handler of *call*; the result, or a coroutine that the caller has to run.

    Raises :class:`VirletError` for what the client is told, anything else for bugs.
    """
    procedure = call.procedure
    handler = table.get(procedure)
    if handler is None:
        if not session.is_open:
            raise not_open()
        raise NoSupport(procedure.api)
    if handler.access is not Access.ALWAYS:
        if not session.is_open:
            raise not_open()
        if handler.access is Access.WRITE and session.readonly:
            raise OperationDenied(f"read only access prevents {procedure.api}")
    return handler.run(session, procedure.decode_args(call.payload))


def waits(outcome: Outcome) -> bool:
    """Whether *outcome* is still to come."""
    return type(outcome) is CoroutineType


def not_open() -> VirletError:
    """What a call before CONNECT_OPEN is told."""
    return InternalError("hypervisor connection not open", domain=ErrorDomain.RPC)


_SCARCE = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN})
"""What any system call of ours may say when the host has no more of something."""


def blame(procedure: AnyProcedure, error: BaseException) -> VirletError:
    """What the client is told about *error*: its own words if it has some, else that we have a bug."""
    if isinstance(error, VirletError):
        # A client that looks for what is not there is no news; what failed to be done is.
        log.log(
            logging.DEBUG if isinstance(error, (NoDomain, NoSupport)) else logging.INFO, "%s: %s", procedure.api, error
        )
        return error
    if isinstance(error, OSError) and error.errno in _SCARCE:
        log.error("%s: %s", procedure.api, error)
        return SystemFailure.of(error, f"{procedure.api} was given up", hint="the host allows no more")
    log.error("bug in %s", procedure.api, exc_info=error)
    return InternalError(
        f"bug in virletd: {type(error).__name__} in {procedure.name}: {error}",
        domain=ErrorDomain.RPC,
        hint="please report it with the daemon's log",
    )


class UnsupportedFlags(InvalidArg):
    """Flag bits that the function does not know; libvirt says so without its usual prefix."""

    prefix: ClassVar[str] = ""


def check_flags(flags: int, known: int, function: str) -> None:
    """Raise :class:`UnsupportedFlags` in libvirt's words when *flags* has bits outside *known*."""
    if unknown := flags & ~int(known):
        raise UnsupportedFlags(f"unsupported flags ({unknown:#x}) in function {function}")
