"""What all guests of a driver share."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from uuid import UUID

from virlet import paths
from virlet.engine.events import EventHub
from virlet.engine.facts import emulators, gather, probe_emulator, probe_other_passt
from virlet.engine.fdgroups import FdGroups
from virlet.engine.guest import Guest
from virlet.engine.probe.cache import Cache
from virlet.engine.probe.host import probe_host
from virlet.engine.scopes import Scopes
from virlet.engine.status import StatusDir
from virlet.engine.store import Definitions
from virlet.engine.tasks import Tasks
from virlet.errors import NoDomain, VirletError
from virlet.model.interface import Interface
from virlet.net.choose import Registry
from virlet.plan.base import GuestDirs
from virlet.plan.facts import Facts, QemuFacts
from virlet.proc.links import links

__all__ = ["Context", "Dirs", "Guests"]


_PRIME = 2**40 - 87
"""A UUID's remainder is its short name: people count UUIDs, so the first ten digits of many guests are the same."""


@dataclass(frozen=True, slots=True)
class Dirs:
    """The directories of one user."""

    config: Path
    state: Path
    cache: Path
    runtime: Path

    @classmethod
    def of(cls, environ: Mapping[str, str], uid: int) -> Dirs:
        """Those that *environ* means for *uid* (see :mod:`virlet.paths`)."""
        return cls(
            config=paths.config_dir(environ, uid),
            state=paths.state_dir(environ, uid),
            cache=paths.cache_dir(environ, uid),
            runtime=paths.runtime_dir(environ, uid),
        )

    @classmethod
    def ours(cls) -> Dirs:
        """Those of this process's user and environment."""
        return cls.of(os.environ, os.getuid())


class Guests:
    """Every guest, by each of its names."""

    __slots__ = ("_ids", "_names", "_uuids")

    def __init__(self) -> None:
        self._uuids: dict[UUID, Guest] = {}
        self._names: dict[str, Guest] = {}
        self._ids: dict[int, Guest] = {}

    def __iter__(self) -> Iterator[Guest]:
        return iter(tuple(self._uuids.values()))

    def __len__(self) -> int:
        return len(self._uuids)

    def add(self, guest: Guest) -> None:
        """A new one; its names were checked, but for a running one whose name was given away while no daemon ran.

        That one is found by its UUID and its number alone.
        """
        self._uuids[guest.uuid] = guest
        self._names.setdefault(guest.name, guest)

    def remove(self, guest: Guest) -> None:
        """It is no more."""
        self._uuids.pop(guest.uuid, None)
        if self._names.get(guest.name) is guest:
            del self._names[guest.name]
        self._ids.pop(guest.id, None)

    def number(self, guest: Guest, old: int) -> None:
        """Its id has changed from *old*."""
        self._ids.pop(old, None)
        if guest.id != -1:
            self._ids[guest.id] = guest

    def named(self, name: str) -> Guest | None:
        """The guest of that name, if there is one."""
        return self._names.get(name)

    def get(self, uuid: UUID) -> Guest | None:
        """The guest of that UUID, if there is one."""
        return self._uuids.get(uuid)

    def find(self, uuid: UUID) -> Guest:
        """The guest of that UUID; raises :class:`NoDomain`."""
        guest = self._uuids.get(uuid)
        if guest is None:
            raise NoDomain(f"no domain with matching uuid '{uuid}'")
        return guest

    def find_name(self, name: str) -> Guest:
        """The guest of that name; raises :class:`NoDomain`."""
        guest = self._names.get(name)
        if guest is None:
            raise NoDomain(f"no domain with matching name '{name}'")
        return guest

    def find_id(self, number: int) -> Guest:
        """The running guest of that id; raises :class:`NoDomain`."""
        guest = self._ids.get(number)
        if guest is None:
            raise NoDomain(f"no domain with matching id {number}")
        return guest


class Context:
    """Directories, files, events and facts of one driver."""

    def __init__(self, dirs: Dirs, facts: Facts, registry: Registry, cache: Cache) -> None:
        self.dirs = dirs
        self.cache = cache
        self.facts = facts
        self.registry = registry
        self.events = EventHub()
        self.definitions = Definitions(dirs.config / "domains")
        self.status = StatusDir(dirs.state, facts.host.machine_id, facts.host.boot_id)
        self.guests = Guests()
        self.scopes = Scopes()
        self.fd_groups = FdGroups()
        """What clients have given."""
        self.tasks = Tasks()
        self.names = asyncio.Lock()
        """Held while a definition is written, so that no two guests get one name."""
        self._last_id = 0

    async def know(self, emulator: str | None, arch: str | None = None) -> None:
        """Ask an emulator that a domain names and that we have not met, or the host's own for another *arch*.

        Raises what the probe of *emulator* raises; a host without one for *arch* is for others to report.
        """
        if emulator is not None:
            if emulator not in self.facts.qemu:
                self._meet(await probe_emulator(Path(emulator), self.cache))
        elif arch is not None and self.facts.emulator(arch) is None:
            for path in emulators(arch):
                if str(path) not in self.facts.qemu:
                    with suppress(VirletError):
                        self._meet(await probe_emulator(path, self.cache))

    def _meet(self, found: QemuFacts) -> None:
        self.facts = replace(self.facts, qemu={**self.facts.qemu, found.path: found})

    async def know_passts(self, nics: Iterable[Interface]) -> None:
        """Ask the passts that *nics* name and that are not the host's; one that fails to answer is a "no"."""
        for nic in nics:
            path = nic.passt.path if nic.passt is not None else None
            if path is not None:
                # Asked each time: the answer is remembered for as long as the file is the same.
                found = await probe_other_passt(path, self.cache)
                self.facts = replace(self.facts, passts={**self.facts.passts, path: found})

    def look_again(self, names: Iterable[str] = (), domain: UUID | None = None) -> None:
        """Links, routes and name servers change while we run; looking costs 0.4 ms, so every plan is made afresh.

        *names* are the links that the plan is about, *domain* is whose descriptors count.  Raises
        :class:`SystemFailure` where the kernel does not tell.
        """
        known = self.facts.host
        now = replace(probe_host(known.kvm), machine_id=known.machine_id, uuid=known.uuid)
        given = self.fd_groups.kinds(domain) if domain is not None else {}
        self.facts = replace(self.facts, host=now, links=links(names), given=given)

    async def ask_again(self) -> None:
        """Programs that were installed or upgraded since the daemon began are met as well."""
        met = [Path(path) for path in self.facts.qemu]
        found = await gather(self.cache, met)
        known = self.facts.host
        host = replace(found.host, machine_id=known.machine_id, uuid=known.uuid)
        # One that does not answer today is still the one that guests were defined with.
        self.facts = replace(
            found, host=host, qemu={**self.facts.qemu, **found.qemu}, links=self.facts.links, passts=self.facts.passts
        )

    def next_id(self) -> int:
        """The number of the next guest that starts; never reused while a daemon lives."""
        self._last_id += 1
        return self._last_id

    def note_id(self, number: int) -> None:
        """An adopted guest has this number."""
        self._last_id = max(self._last_id, number)

    def owner_of_port(self, proto: str, port: int) -> str | None:
        """The running guest that has that port of the host forwarded; passt hides its descriptors: only we know."""
        for guest in self.guests:
            for helper in guest.run.helpers.values() if guest.run is not None else ():
                if any(each.proto == proto and each.start <= port <= each.end for each in helper.record.plan.forwards):
                    return f"guest '{guest.name}'"
        return None

    def guest_dirs(self, uuid: UUID) -> GuestDirs:
        """Where that guest's own files live; below names made of its UUID, so that no name can be a path."""
        return GuestDirs(
            # A socket's path has room for 107 bytes.
            runtime=self.dirs.runtime / f"{uuid.int % _PRIME:010x}",
            logs=self.dirs.state / "log" / str(uuid),
            state=self.dirs.state / "guests" / str(uuid),
        )
