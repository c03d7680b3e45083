"""A call to be made, apart from how it is made: what both facades share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from virlet.client.mail import Inbox
from virlet.wire.procedure import AnyProcedure, Procedure

__all__ = ["Request", "fd_request", "request", "same", "stream_request"]

Args = TypeVar("Args")
Ret = TypeVar("Ret")
T = TypeVar("T")


class Request(Generic[T]):
    """A procedure, its arguments, and what to make of the answer."""

    __slots__ = ("args", "convert", "fds", "procedure", "takes_fd")

    def __init__(
        self,
        procedure: AnyProcedure,
        args: object,
        convert: Callable[[Any], T],
        *,
        takes_fd: bool = False,
        fds: tuple[int, ...] = (),
    ) -> None:
        self.procedure = procedure
        self.args = args
        self.convert = convert
        """Runs as soon as the reply is read, before anything that comes after it."""
        self.takes_fd = takes_fd
        """The answer is a file descriptor; nothing is converted."""
        self.fds = fds
        """Sent along; the caller keeps its own."""


def request(procedure: Procedure[Args, Ret], args: Args, convert: Callable[[Ret], T]) -> Request[T]:
    """A :class:`Request` whose three parts fit together."""
    return Request(procedure, args, convert)


def stream_request(procedure: Procedure[Args, Ret], args: Args) -> Request[Inbox]:
    """A :class:`Request` that opens a stream."""
    return Request(procedure, args, _never)


def fd_request(procedure: Procedure[Args, Ret], args: Args) -> Request[int]:
    """A :class:`Request` that is answered by a file descriptor."""
    return Request(procedure, args, _never, takes_fd=True)


def _never(ret: object) -> Any:
    raise AssertionError(f"the connection makes the value here, not {ret!r}")


def same(ret: T) -> T:
    """The conversion that changes nothing."""
    return ret
