"""A call to be made, apart from how it is made: what both facades share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from virlet.wire.procedure import AnyProcedure, Procedure

__all__ = ["Request", "request"]

Args = TypeVar("Args")
Ret = TypeVar("Ret")
T = TypeVar("T")


class Request(Generic[T]):
    """A procedure, its arguments, and what to make of the answer."""

    __slots__ = ("args", "convert", "on_fds", "procedure")

    def __init__(
        self,
        procedure: AnyProcedure,
        args: object,
        convert: Callable[[Any], T],
        on_fds: Callable[[tuple[int, ...]], T] | None = None,
    ) -> None:
        self.procedure = procedure
        self.args = args
        self.convert = convert
        """Runs as soon as the reply is read, before anything that comes after it."""
        self.on_fds = on_fds
        """In place of ``convert`` where the answer is file descriptors."""


def request(procedure: Procedure[Args, Ret], args: Args, convert: Callable[[Ret], T]) -> Request[T]:
    """A :class:`Request` whose three parts fit together."""
    return Request(procedure, args, convert)


def same(ret: T) -> T:
    """The conversion that changes nothing."""
    return ret
