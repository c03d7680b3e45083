"""Ask a QEMU what it can do: a QEMU without a machine answers over QMP in 150 ms and never runs a guest."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from virlet.errors import InternalError
from virlet.plan.facts import CpuModel, MachineType, QemuFacts
from virlet.proc.spawn import Command, spawn
from virlet.qmp.monitor import Monitor, MonitorClosed, QmpError

__all__ = ["Schema", "probe_qemu"]

_LIBVIRT_ARCH = {"i386": "i686", "arm": "armv7l", "sh4eb": "sh4eb", "microblazeel": "microblazeel"}
"""QEMU's target names that libvirt spells otherwise."""

_MONITOR_FORMS = ("-mon", "chardev=monitor,mode=control"), ("-object", "monitor-qmp,id=qmp,chardev=monitor")
"""How a monitor is asked for; the newest QEMU deprecates the first, older ones do not know the second."""


class Schema:
    """``query-qmp-schema``: the types of every command, event and argument (QAPI introspection)."""

    def __init__(self, entries: object) -> None:
        self._entries = {str(entry.get("name")): entry for entry in _objects(entries)}

    def names(self, kind: str) -> frozenset[str]:
        """Every ``command`` or ``event``."""
        return frozenset(name for name, entry in self._entries.items() if entry.get("meta-type") == kind)

    def _type(self, name: object) -> Mapping[str, object]:
        return self._entries.get(str(name), {})

    def _arguments(self, command: str) -> Mapping[str, object]:
        return self._type(self._type(command).get("arg-type"))

    def _member_types(self, entry: Mapping[str, object]) -> dict[str, object]:
        return {str(member.get("name")): member.get("type") for member in _objects(entry.get("members"))}

    def variants(self, command: str, argument: str | None = None) -> dict[str, frozenset[str]]:
        """The cases of a command's union (or of its *argument*'s) and the members of each.

        A case that wraps its members in ``data``, as character devices do, is seen through.
        """
        union = self._arguments(command)
        if argument is not None:
            union = self._type(self._member_types(union).get(argument))
        found = {}
        for variant in _objects(union.get("variants")):
            members = self._member_types(self._type(variant.get("type")))
            if set(members) == {"data"}:
                members = self._member_types(self._type(members["data"]))
            found[str(variant.get("case"))] = frozenset(members)
        # A case without members of its own is a value of the tag alone.
        tag = self._type(self._member_types(union).get(str(union.get("tag"))))
        values = [member.get("name") for member in _objects(tag.get("members"))] or tag.get("values")
        for value in values if isinstance(values, list) else ():
            found.setdefault(str(value), frozenset())
        return found


def _objects(value: object) -> Iterator[Mapping[str, object]]:
    """The JSON objects in what should be an array of them."""
    if isinstance(value, list):
        yield from (item for item in value if isinstance(item, dict))


async def probe_qemu(path: Path) -> QemuFacts:
    """Start the QEMU at *path* without a machine, and ask.

    :raises SystemFailure: it cannot be run.
    :raises InternalError: it ran, and spoke no QMP; its last words are in the message.
    """
    failure: MonitorClosed | None = None
    for form in _MONITOR_FORMS:
        try:
            return await _probe(path, form)
        except MonitorClosed as error:
            failure = failure or error
    raise failure if failure is not None else InternalError(f"{path} was not asked")


async def _probe(path: Path, form: tuple[str, str]) -> QemuFacts:
    ours, theirs = socket.socketpair()
    with _scratch() as errors:
        with theirs:
            fd = theirs.fileno()
            words = ("-nodefaults", "-no-user-config", "-display", "none", "-machine", "none", "-S")
            argv = (str(path), *words, "-chardev", f"socket,id=monitor,fd={fd}", *form)
            try:
                process = await spawn(
                    Command(argv, fds=(fd,), stderr=errors.fileno(), outlives_us=False), f"probe of {path.name}"
                )
            except BaseException:
                ours.close()
                raise
        try:
            async with await Monitor.connect(ours, name=path.name, timeout=10) as monitor:
                return await _ask(path, monitor)
        except MonitorClosed as error:
            said = os.pread(errors.fileno(), 2000, 0).decode("utf-8", "replace").strip()
            raise MonitorClosed(f"{path} cannot be asked what it can do: {said or error.detail}") from error
        finally:
            # It has no guest and no disk: there is nothing to end in order.
            process.signal(signal.SIGKILL)
            await process.exited()


def _scratch() -> BinaryIO:
    """A file without a name or a disk."""
    return open(os.memfd_create("errors"), "rb")


async def _ask(path: Path, monitor: Monitor) -> QemuFacts:
    schema = Schema(await monitor.execute("query-qmp-schema"))
    types = _names(await monitor.execute("qom-list-types", {"abstract": False}))
    devices = _names(await monitor.execute("qom-list-types", {"implements": "device", "abstract": False}))
    version = await monitor.execute("query-version")
    target = await monitor.execute("query-target")
    arch = str(target.get("arch")) if isinstance(target, dict) else ""
    return QemuFacts(
        path=str(path),
        arch=_LIBVIRT_ARCH.get(arch, arch),
        version=monitor.version,
        package=str(version.get("package", "")) if isinstance(version, dict) else "",
        machines={board.name: board for board in _machines(await monitor.execute("query-machines"))},
        types=types,
        devices=devices,
        objects=frozenset(schema.variants("object-add")) & types,
        netdevs=schema.variants("netdev_add"),
        chardevs=schema.variants("chardev-add", "backend"),
        blockdevs=frozenset(schema.variants("blockdev-add")),
        commands=schema.names("command"),
        events=schema.names("event"),
        options=_options(await monitor.execute("query-command-line-options")),
        accels=frozenset(name.removesuffix("-accel") for name in types if name.endswith("-accel")),
        cpus={model.name: model for model in await _cpus(monitor)},
    )


def _names(answer: object) -> frozenset[str]:
    return frozenset(str(item.get("name")) for item in _objects(answer))


def _options(answer: object) -> dict[str, frozenset[str]]:
    return {str(item.get("option")): _names(item.get("parameters")) for item in _objects(answer)}


def _machines(answer: object) -> Iterator[MachineType]:
    for item in _objects(answer):
        cpus, acpi = item.get("cpu-max"), item.get("acpi")
        if item.get("name") == "none":
            continue
        yield MachineType(
            name=str(item.get("name")),
            max_cpus=cpus if isinstance(cpus, int) else 1,
            alias=_text(item.get("alias")),
            default=item.get("is-default") is True,
            deprecated=item.get("deprecated") is True,
            hotpluggable_cpus=item.get("hotpluggable-cpus") is True,
            numa_memory=item.get("numa-mem-supported") is True,
            default_cpu=_text(item.get("default-cpu-type")),
            default_ram_id=_text(item.get("default-ram-id")),
            acpi=acpi if isinstance(acpi, bool) else None,
        )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


async def _cpus(monitor: Monitor) -> Iterable[CpuModel]:
    try:
        answer = await monitor.execute("query-cpu-definitions")
    except QmpError:
        return ()  # Some targets do not offer it.
    return tuple(_cpu_models(answer))


def _cpu_models(answer: object) -> Iterator[CpuModel]:
    for item in _objects(answer):
        missing = item.get("unavailable-features")
        yield CpuModel(
            name=str(item.get("name")),
            usable=missing == [],
            missing=frozenset(map(str, missing)) if isinstance(missing, list) else frozenset(),
            deprecated=item.get("deprecated") is True,
            migration_safe=item.get("migration-safe") is True,
            static=item.get("static") is True,
        )
