"""A domain in memory, and the console that answers for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

from virlet.engine.api import DomainRef
from virlet.enums import DomainState
from virlet.model.domain import Domain
from virlet.model.lifecycle import is_active

__all__ = ["Echo", "FakeDomain"]


class FakeDomain:
    """One domain; the same table of states moves it that moves a real one."""

    def __init__(self, domain: Domain, *, persistent: bool) -> None:
        self.config: Domain | None = domain if persistent else None
        self.live: Domain | None = None
        self.name, self.uuid, self.id = domain.name, domain.uuid, -1
        self.state, self.reason = DomainState.SHUTOFF, 0
        self.autostart = self.updated = False
        self.owner: object = None
        self.line: Echo | None = None

    @property
    def ref(self) -> DomainRef:
        """What names it."""
        return DomainRef(self.name, self.uuid, self.id)

    @property
    def active(self) -> bool:
        """It is on."""
        return is_active(self.state)

    @property
    def persistent(self) -> bool:
        """It has a definition."""
        return self.config is not None

    @property
    def domain(self) -> Domain:
        """As it is; as it is defined while off."""
        found = self.live or self.config
        assert found is not None
        return found


class Echo:
    """A console on which everything that is written comes back."""

    def __init__(self, fake: FakeDomain) -> None:
        self._near, self._far = socket.socketpair()
        self._near.setblocking(False)
        self._far.setblocking(False)
        self._fake = fake
        self._taken: Callable[[], None] | None = None
        asyncio.get_running_loop().add_reader(self._far, self._echo)

    def _echo(self) -> None:
        data = self._far.recv(4096)
        if data:
            self._far.send(data)
        else:
            self._end()

    def fileno(self) -> int:
        """The user's end."""
        return self._near.fileno()

    def on_taken(self, callback: Callable[[], None]) -> None:
        """Call that when somebody else takes the console."""
        self._taken = callback

    def take(self) -> None:
        """Somebody else takes the console."""
        if self._taken is not None:
            self._taken()

    def hang_up(self) -> None:
        """The guest has ended: its user reads the end of the stream."""
        self._end()

    def _end(self) -> None:
        if self._far.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._far)
            self._far.close()

    def close(self) -> None:
        """The user has gone."""
        self._end()
        self._near.close()
        if self._fake.line is self:
            self._fake.line = None
