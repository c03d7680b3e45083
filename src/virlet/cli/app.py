"""What every command has: the common options, the output, and the way to the server."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

from virlet.cli.output import Output

if TYPE_CHECKING:
    from virlet.client.sync import Connection, Domain

__all__ = ["App", "identity", "running"]


class App:
    """One run of the program."""

    def __init__(self, as_json: bool = False, debug: bool = False) -> None:
        self.as_json = as_json
        self.debug = debug
        self.uri: str | None = None
        """From ``--connect``; VIRLET_URI and the default are the client's to know."""

    @cached_property
    def output(self) -> Output:
        """Where results go."""
        return Output(self.as_json)

    def connection(self, *, start: bool = True) -> Connection:
        """A connection to the server, to be closed by ``with``.

        With *start* virletd is started when it is the one to talk to and does not run.  Raises
        :class:`virlet.errors.NoConnect` when there is nobody.
        """
        from virlet.client.sync import connect

        return connect(self.uri) if start else running(self.uri)

    def find(self, server: Connection, name: str) -> Domain:
        """The domain with the name, UUID or id *name*; raises :class:`virlet.errors.NoDomain` about the name."""
        from virlet.errors import NoDomain

        try:
            return server.lookup_by_name(name)
        except NoDomain as error:
            found = self._by_other(server, name)
            if found is None:
                raise error
            return found

    def _by_other(self, server: Connection, name: str) -> Domain | None:
        from virlet.errors import InvalidArg, NoDomain

        try:
            if name.isascii() and name.isdigit():
                return server.lookup_by_id(int(name))
            return server.lookup_by_uuid(name)
        except (NoDomain, InvalidArg):
            return None

    def done(self, result: str, domain: Domain, text: str | None = None) -> None:
        """Say that *result* came to *domain*; *text* replaces the plain "RESULT NAME", with ``{}`` for the name."""
        if self.as_json:
            self.output.document({"name": domain.name, "uuid": domain.uuid, "result": result})
        else:
            self.output.say(text.format(domain.name) if text else f"{result} {domain.name}")


def running(uri: str | None) -> Connection:
    """A connection to a server that runs already; nothing is started."""
    from virlet.client.sync import Connection
    from virlet.client.transport import dial
    from virlet.client.uri import resolve

    target = resolve(uri, os.environ, os.getuid())
    server = Connection(dial(target), target)
    try:
        server.open()
    except BaseException:
        server.close()
        raise
    return server


def identity(domain: Domain) -> dict[str, object]:
    """What JSON answers say of *domain*, as it was when looked up: its id is null when it did not run."""
    return {"name": domain.name, "uuid": domain.uuid, "id": domain.ref.id if domain.ref.id >= 0 else None}
