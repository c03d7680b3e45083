"""What the filesystem below a directory promises about names, which decides how often a definition is synced."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

__all__ = ["filesystem_of", "names_go_with_files"]

_MOUNTS = Path("/proc/self/mountinfo")
_TOGETHER = frozenset({"ext4", "xfs"})
"""A new file's ``fsync`` commits the transaction (ext4) or forces the log (xfs) that holds its creation and rename:
both keep metadata in strict order.  fsync(2) does not promise it, so everywhere else the directory is synced too."""


@cache
def names_go_with_files(directory: Path) -> bool:
    """Does syncing a file that was just made in *directory* bring its name to the disk as well?"""
    return filesystem_of(directory) in _TOGETHER


def filesystem_of(path: Path, mounts: Path = _MOUNTS) -> str:
    """The type of the filesystem that *path* is on, as proc_pid_mountinfo(5) calls it; empty where that is not known.

    btrfs gives its subvolumes devices that no mount names, which is then "not known".
    """
    try:
        device = os.stat(path).st_dev
        lines = mounts.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    wanted = f"{os.major(device)}:{os.minor(device)}"
    found = (line.partition(" - ") for line in lines)
    return next((tail.split()[0] for head, _, tail in found if tail and head.split()[2:3] == [wanted]), "")
