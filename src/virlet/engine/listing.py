"""Which guests a list shows: libvirt's groups of flags."""

from __future__ import annotations

from typing import Protocol

from virlet.enums import DomainState, ListDomainsFlags

__all__ = ["Filter", "Listed"]

_F = ListDomainsFlags
_STATES = _F.RUNNING | _F.PAUSED | _F.SHUTOFF | _F.OTHER
_OF_STATE = {
    DomainState.RUNNING: _F.RUNNING,
    DomainState.PAUSED: _F.PAUSED,
    DomainState.SHUTOFF: _F.SHUTOFF,
}
_GROUPS = (
    _F.ACTIVE | _F.INACTIVE,
    _F.PERSISTENT | _F.TRANSIENT,
    _STATES,
    _F.MANAGEDSAVE | _F.NO_MANAGEDSAVE,
    _F.AUTOSTART | _F.NO_AUTOSTART,
    _F.HAS_SNAPSHOT | _F.NO_SNAPSHOT,
    _F.HAS_CHECKPOINT | _F.NO_CHECKPOINT,
)


class Listed(Protocol):
    """What a list looks at."""

    autostart: bool
    state: DomainState

    @property
    def active(self) -> bool: ...

    @property
    def persistent(self) -> bool: ...


class Filter:
    """A set of flags: within a group they are alternatives, a group without any lets all through."""

    __slots__ = ("_flags", "_groups")

    def __init__(self, flags: int) -> None:
        self._flags = int(flags)
        self._groups = tuple(int(group) for group in _GROUPS if flags & group)

    def __call__(self, guest: Listed) -> bool:
        if not self._groups:
            return True
        traits = _traits(guest) & self._flags
        return all(traits & group for group in self._groups)


def _traits(guest: Listed) -> int:
    return int(
        (_F.ACTIVE if guest.active else _F.INACTIVE)
        | (_F.PERSISTENT if guest.persistent else _F.TRANSIENT)
        | _OF_STATE.get(guest.state, _F.OTHER)
        | (_F.AUTOSTART if guest.autostart else _F.NO_AUTOSTART)
        | _F.NO_MANAGEDSAVE
        | _F.NO_SNAPSHOT
        | _F.NO_CHECKPOINT
    )
