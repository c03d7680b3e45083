"""The machine that guests run on: what it is, its memory and processor time (``/proc``)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from virlet.daemon.dispatch import Table, check_flags
from virlet.daemon.session import Session
from virlet.errors import InvalidArg, SystemFailure
from virlet.wire import remote, types

__all__ = ["TABLE", "cpu_times", "memory_figures"]

ALL_CPUS = -1
"""``VIR_NODE_CPU_STATS_ALL_CPUS``."""
ALL_CELLS = -1
"""``VIR_NODE_MEMORY_STATS_ALL_CELLS``."""
MODEL_MAX = 31
"""Characters of the model, without the final NUL."""

TABLE = Table()


@TABLE.on(remote.NODE_GET_INFO)
def get_info(session: Session, _args: None) -> remote.NodeGetInfoRet:
    node = session.driver.node_info()
    return remote.NodeGetInfoRet(
        model=node.model.encode()[:MODEL_MAX],
        memory=node.memory,
        cpus=node.cpus,
        mhz=node.mhz,
        nodes=node.nodes,
        sockets=node.sockets,
        cores=node.cores,
        threads=node.threads,
    )


@TABLE.on(remote.NODE_GET_SECURITY_MODEL)
def get_security_model(_session: Session, _args: None) -> remote.NodeGetSecurityModelRet:
    return remote.NodeGetSecurityModelRet(b"none\0", b"0\0")


@TABLE.on(remote.NODE_GET_FREE_MEMORY)
def get_free_memory(_session: Session, _args: None) -> remote.NodeGetFreeMemoryRet:
    return remote.NodeGetFreeMemoryRet(dict(memory_figures(_read("meminfo")))["free"] * 1024)


@TABLE.on(remote.NODE_GET_MEMORY_STATS)
def get_memory_stats(_session: Session, args: remote.NodeGetMemoryStatsArgs) -> remote.NodeGetMemoryStatsRet:
    check_flags(args.flags, 0, "qemuNodeGetMemoryStats")
    if args.cellNum not in (ALL_CELLS, 0):
        raise InvalidArg(f"there is no memory cell {args.cellNum}: only 0, and -1 for all")
    figures = memory_figures(_read("meminfo"))
    count = _pass(args.nparams, len(figures))
    stats = [types.NodeGetMemoryStats(*figure) for figure in figures[:count]]
    return remote.NodeGetMemoryStatsRet(stats, 0 if args.nparams else len(figures))


@TABLE.on(remote.NODE_GET_CPU_STATS)
def get_cpu_stats(_session: Session, args: remote.NodeGetCpuStatsArgs) -> remote.NodeGetCpuStatsRet:
    check_flags(args.flags, 0, "qemuNodeGetCPUStats")
    figures = cpu_times(_read("stat"), args.cpuNum, os.sysconf("SC_CLK_TCK"))
    if not figures:
        raise InvalidArg(f"Invalid cpuNum in virHostCPUGetStatsLinux: {args.cpuNum}")
    count = _pass(args.nparams, len(figures))
    stats = [types.NodeGetCpuStats(*figure) for figure in figures[:count]]
    return remote.NodeGetCpuStatsRet(stats, 0 if args.nparams else len(figures))


@TABLE.on(remote.NODE_GET_CPU_MAP)
def get_cpu_map(session: Session, args: remote.NodeGetCpuMapArgs) -> remote.NodeGetCpuMapRet:
    check_flags(args.flags, 0, "qemuNodeGetCPUMap")
    present = _cpu_list(_sys("present"))
    online = _cpu_list(_sys("online"))
    size = max(present) + 1
    bits = sum(1 << number for number in online)
    cpumap = bits.to_bytes((size + 7) // 8, "little") if args.need_map else b""
    return remote.NodeGetCpuMapRet(cpumap, len(online) if args.need_online else 0, size)


def _pass(asked: int, there: int) -> int:
    """How many of *there* figures to send: none in the first pass, which only asks for the number."""
    if asked < 0:
        raise InvalidArg("nparams must be positive or zero")
    return min(asked, there)


def memory_figures(meminfo: str) -> Sequence[tuple[str, int]]:
    """libvirt's four figures, in KiB, from the text of ``/proc/meminfo``."""
    found = {}
    for line in meminfo.splitlines():
        name, _, rest = line.partition(":")
        found[name] = int(rest.split()[0])
    return [
        ("total", found["MemTotal"]),
        ("free", found["MemFree"]),
        ("buffers", found["Buffers"]),
        ("cached", found["Cached"]),
    ]


def cpu_times(stat: str, cpu: int, ticks: int) -> Sequence[tuple[str, int]]:
    """libvirt's four figures, in ns, from the text of ``/proc/stat``; empty when there is no such *cpu*."""
    name = "cpu" if cpu == ALL_CPUS else f"cpu{cpu}"
    for line in stat.splitlines():
        words = line.split()
        if words and words[0] == name:
            user, nice, system, idle, iowait, irq, softirq = (int(word) * 1_000_000_000 // ticks for word in words[1:8])
            return [
                ("kernel", system + irq + softirq),
                ("user", user + nice),
                ("idle", idle),
                ("iowait", iowait),
            ]
    return []


def _read(name: str) -> str:
    return _text(Path("/proc") / name)


def _sys(name: str) -> str:
    return _text(Path("/sys/devices/system/cpu") / name)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError as error:
        raise SystemFailure.of(error, f"cannot read {path}") from None


def _cpu_list(text: str) -> list[int]:
    """``0-3,8`` as numbers."""
    numbers: list[int] = []
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        numbers += range(int(first), int(last or first) + 1)
    return numbers
