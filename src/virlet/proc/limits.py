"""Room for many descriptors in the daemon, and none of it for its children: a program that still uses select(2) breaks
with numbers above 1023, which is why the soft limit is that low to begin with."""

from __future__ import annotations

import resource

__all__ = ["files_of_children", "raise_files"]

_before: tuple[int, int] | None = None


def raise_files(most: int) -> None:
    """Allow ourselves *most* descriptors, or as many as the hard limit lets us."""
    global _before
    _before = resource.getrlimit(resource.RLIMIT_NOFILE)
    _, hard = _before
    resource.setrlimit(resource.RLIMIT_NOFILE, (most if hard == resource.RLIM_INFINITY else min(hard, most), hard))


def files_of_children() -> tuple[int, int] | None:
    """The limit that we were started with, if we have raised it."""
    return _before
