"""Descriptors that clients have given for a domain, by the name of their group, until the client's connection ends.

They are nobody's word but a client's: counted, and looked at before anything is made of them.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

from virlet.engine.fds import FdTable
from virlet.enums import ErrorDomain
from virlet.errors import InvalidArg, OperationFailed, SystemFailure
from virlet.plan.base import FdSource, Given

__all__ = ["FdGroups", "kind_of"]

MOST = 256
"""Descriptors that one connection may have given at a time: a tenth of what systemd lets a user's daemon open."""
_KINDS: Mapping[int, str] = {int(socket.SOCK_STREAM): "stream", int(socket.SOCK_DGRAM): "datagram"}
LONGEST = 255
"""Characters of a group's name."""


class FdGroups:
    """Every group of a driver."""

    def __init__(self) -> None:
        self._groups: dict[tuple[UUID, str], tuple[object, tuple[int, ...]]] = {}

    def associate(self, uuid: UUID, name: str, fds: Sequence[int], owner: object) -> None:
        """Keep copies of *fds* as the group *name* of that domain, in the place of a former group of that name.

        :raises InvalidArg: no descriptors, or no name to call them by.
        :raises OperationFailed: the connection has given too many.
        :raises SystemFailure: the daemon has no room for them.
        """
        if not fds:
            raise InvalidArg("nfds in virDomainFDAssociate must not be zero", domain=ErrorDomain.DOMAIN)
        if not 0 < len(name) <= LONGEST:
            raise InvalidArg(f"the name of a file descriptor group has 1 to {LONGEST} characters")
        key = (uuid, name)
        held = sum(len(each) for other, (whose, each) in self._groups.items() if whose is owner and other != key)
        if held + len(fds) > MOST:
            raise OperationFailed(
                f"this connection has given {held} file descriptors already, and {MOST} are the most",
                hint="close it when the guests that they are for have started",
            )
        copies: list[int] = []
        try:
            for fd in fds:
                copies.append(os.dup(fd))  # close-on-exec
        except OSError as error:
            _close(copies)
            raise SystemFailure.of(error, "cannot keep the file descriptors") from error
        self._drop(key)
        self._groups[key] = (owner, tuple(copies))

    def kinds(self, uuid: UUID) -> Mapping[str, tuple[str, ...]]:
        """The groups of that domain, and what each descriptor is: see :func:`kind_of`."""
        return {name: tuple(map(kind_of, fds)) for (domain, name), (_, fds) in self._groups.items() if domain == uuid}

    def lend(self, uuid: UUID, sources: Iterable[FdSource], table: FdTable) -> None:
        """Put copies of what *sources* name into *table*; raises :class:`InvalidArg` for what is not there any more."""
        for source in sources:
            if isinstance(source, Given) and source not in table:
                _, fds = self._groups.get((uuid, source.group), (None, ()))
                if source.index >= len(fds):
                    raise InvalidArg(f"file descriptor group '{source.group}' was not associated with the domain")
                table.put(source, os.dup(fds[source.index]))

    def owner_gone(self, owner: object) -> None:
        """The connection that gave them has ended; a running guest keeps its copies."""
        for key in [key for key, (whose, _) in self._groups.items() if whose is owner]:
            self._drop(key)

    def domain_gone(self, uuid: UUID) -> None:
        """There is no such domain any more."""
        for key in [key for key in self._groups if key[0] == uuid]:
            self._drop(key)

    def close(self) -> None:
        """Close every one."""
        for key in list(self._groups):
            self._drop(key)

    def _drop(self, key: tuple[UUID, str]) -> None:
        _, fds = self._groups.pop(key, (None, ()))
        _close(fds)


def _close(fds: Iterable[int]) -> None:
    for fd in fds:
        with suppress(OSError):
            os.close(fd)


def kind_of(fd: int) -> str:
    """``stream`` or ``datagram`` for a connected socket that carries frames, else what it is instead, in words."""
    if not stat.S_ISSOCK(os.fstat(fd).st_mode):
        return "it is no socket"
    with socket.socket(fileno=os.dup(fd)) as sock:
        found = _KINDS.get(sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE))
        if found is None:
            return "it is a socket of another type"
        if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return "it listens"
        try:
            sock.getpeername()
        except OSError:
            return "it is not connected"
        return found
