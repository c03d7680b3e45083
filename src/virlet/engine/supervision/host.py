"""What a helper needs of the guest beside whose QEMU it stands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from virlet.plan.follow import Uplinks
from virlet.proc.process import Process

__all__ = ["HelperHost"]


class HelperHost(Protocol):
    """What a helper needs of its guest."""

    @property
    def name(self) -> str:
        """The guest's."""
        ...

    def link_wanted(self, alias: str) -> bool:
        """Whether the user wants that interface's link to be up."""
        ...

    @property
    def stopping(self) -> bool:
        """QEMU is ending or has ended: nothing is restarted."""
        ...

    @property
    def unheard(self) -> bool:
        """What QEMU says is not heard yet: what it would have to tell the end of is not begun."""
        ...

    @property
    def paused(self) -> bool:
        """The guest's CPUs stand still."""
        ...

    async def execute(self, command: str, arguments: Mapping[str, object]) -> object: ...

    def save(self) -> None:
        """Write the status file."""
        ...

    def tell(self, alias: str, kind: str, message: str) -> None:
        """Emit a :class:`virlet.engine.api.HelperEvent`."""
        ...

    def uplinks(self) -> Uplinks | None:
        """The host's default routes and links, as they are now; None where they cannot be read just now."""
        ...

    def joined(self, process: Process) -> None:
        """*process* is one of the guest's now."""
        ...
