"""Numbers of a guest that can be had without asking QEMU, by the names of ``virConnectGetAllDomainStats``.

Managers poll them for every guest every second or so: all are read from the guest's own data and from ``/proc``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from virlet.engine.guest import Guest
from virlet.enums import StatsTypes

__all__ = ["cpu_time", "resident_kib", "statistics"]

_TICK = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
_CPU_THREAD = re.compile(r"CPU (\d+)/")
"""QEMU names its threads so with ``debug-threads=on``."""
_VCPU_OFFLINE, _VCPU_RUNNING = 0, 1

Stat = tuple[str, int | str]


def statistics(guest: Guest, groups: StatsTypes) -> Mapping[str, int | str]:
    """Every number of *groups* that is known now; a stopped guest has fewer of them."""
    found: dict[str, int | str] = {}
    for group, read in _GROUPS.items():
        if groups & group:
            found.update(read(guest))
    return found


def cpu_time(pid: int, tid: int | None = None) -> tuple[int, int]:
    """User and system time in ns of a process, or of one thread of it; zeros when it has just ended.

    Fields 14 and 15 of its stat, proc(5).
    """
    path = f"/proc/{pid}/stat" if tid is None else f"/proc/{pid}/task/{tid}/stat"
    try:
        text = Path(path).read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return 0, 0
    fields = text[text.rindex(b")") + 2 :].split()
    return int(fields[11]) * _TICK, int(fields[12]) * _TICK


def resident_kib(pid: int) -> int:
    """Memory of the host that a process has now; 0 when it has just ended (field 2 of statm, proc(5))."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_bytes().split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def _state(guest: Guest) -> Iterator[Stat]:
    yield "state.state", int(guest.state)
    yield "state.reason", int(guest.reason)


def _cpu(guest: Guest) -> Iterator[Stat]:
    if guest.run is not None:
        user, system = cpu_time(guest.run.process.pid)
        yield "cpu.time", user + system
        yield "cpu.user", user
        yield "cpu.system", system


def _balloon(guest: Guest) -> Iterator[Stat]:
    domain = guest.domain
    current = guest.balloon_kib if guest.balloon_kib is not None else domain.current_memory or domain.memory
    yield "balloon.current", current
    yield "balloon.maximum", domain.memory
    if guest.run is not None:
        yield "balloon.rss", resident_kib(guest.run.process.pid)


def _vcpu(guest: Guest) -> Iterator[Stat]:
    domain = guest.domain
    yield "vcpu.current", domain.vcpus_at_start
    yield "vcpu.maximum", domain.vcpus
    if guest.run is None:
        return
    pid = guest.run.process.pid
    for number, tid in sorted(_cpu_threads(pid).items()):
        yield f"vcpu.{number}.state", _VCPU_RUNNING if number < domain.vcpus_at_start else _VCPU_OFFLINE
        yield f"vcpu.{number}.time", sum(cpu_time(pid, tid))


def _cpu_threads(pid: int) -> dict[int, int]:
    """Number of the virtual CPU → thread."""
    found = {}
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if match := _CPU_THREAD.match((task / "comm").read_text("utf-8", "replace")):
                found[int(match[1])] = int(task.name)
    except (FileNotFoundError, ProcessLookupError):
        return {}  # QEMU has just ended.
    return found


def _interfaces(guest: Guest) -> Iterator[Stat]:
    # Only a device of the host has a name here, and counters: an interface of type user has neither, as in libvirt.
    if guest.active:
        yield "net.count", len(guest.domain.devices.interfaces)


def _disks(guest: Guest) -> Iterator[Stat]:
    disks = guest.domain.devices.disks
    yield "block.count", len(disks)
    for number, disk in enumerate(disks):
        if disk.target is not None:
            yield f"block.{number}.name", disk.target
        if disk.source is not None and disk.source.file is not None:
            yield f"block.{number}.path", disk.source.file


_GROUPS = {
    StatsTypes.STATE: _state,
    StatsTypes.CPU_TOTAL: _cpu,
    StatsTypes.BALLOON: _balloon,
    StatsTypes.VCPU: _vcpu,
    StatsTypes.INTERFACE: _interfaces,
    StatsTypes.BLOCK: _disks,
}
