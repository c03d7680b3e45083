"""What is that guest's own, whatever its status file says: no other file is removed, and no other QEMU is talked to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from virlet.engine.context import Context
from virlet.engine.status import HelperRecord, Record

__all__ = ["own_files", "own_monitor", "remove_files"]


def own_files(context: Context, record: Record) -> Record:
    """Of what is to be removed in the end only what is that guest's, whatever its status file says."""
    dirs = context.guest_dirs(record.uuid)
    roots = (dirs.runtime, dirs.logs, dirs.state)

    def own(paths: Iterable[Path]) -> tuple[Path, ...]:
        return tuple(path for path in paths if ".." not in path.parts and any(map(path.is_relative_to, roots)))

    def owned(helper: HelperRecord) -> HelperRecord:
        return replace(helper, plan=replace(helper.plan, leaves=own(helper.plan.leaves)))

    return replace(
        record,
        leaves=own(record.leaves),
        directories=own(record.directories),
        helpers=tuple(map(owned, record.helpers)),
        attaching=tuple(
            replace(each, helper=owned(each.helper) if each.helper is not None else None) for each in record.attaching
        ),
    )


def own_monitor(context: Context, record: Record) -> bool:
    """Whether the monitor is that guest's, wherever sockets were when it began: another's is not talked to."""
    return record.monitor.parent.name == context.guest_dirs(record.uuid).runtime.name


def remove_files(leaves: Iterable[Path], directories: Iterable[Path]) -> None:
    """Remove *leaves*, and *directories* with the files in them; what is not there, or cannot go, is passed over."""
    for path in leaves:
        with suppress(OSError):
            path.unlink()
    for path in directories:
        with suppress(OSError):
            for left in path.iterdir() if not path.is_symlink() else ():
                with suppress(OSError):
                    left.unlink()
            path.rmdir()
