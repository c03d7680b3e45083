"""Memory: one heap for all threads; after the start what was only needed for it goes back to the kernel."""

from __future__ import annotations

import gc

__all__ = ["settle", "share_heap"]

_M_ARENA_MAX = -8
"""mallopt(3)."""


def share_heap() -> None:
    """Have no thread make a heap of its own: a few do short work for us, one at a time, and each heap keeps 0.3 MB."""
    import ctypes

    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # as below
        libc.mallopt(_M_ARENA_MAX, 1)


def settle() -> None:
    """Collect what importing and probing left behind (1 to 2 MB), and spare later collections the 100 000 objects that
    stay: a full one took 15 ms, in which no client was answered."""
    import ctypes

    gc.collect()
    gc.freeze()
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):  # glibc has it, musl has not
        libc.malloc_trim(0)
