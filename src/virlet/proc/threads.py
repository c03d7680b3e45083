"""Threads whose making may fail: where the user may have no more of them, that is an error of the host's and no bug.

``ThreadPoolExecutor.submit`` queues its work first and makes the thread then.  Where pthread_create(3) fails with
EAGAIN (RLIMIT_NPROC counts threads, and a stack takes memory) it raises, and what it has queued is done by whatever
thread comes later: a command whose caller has long closed its descriptors and reused their numbers.  So nothing is
queued here before there is a thread to do it.
"""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import ParamSpec, TypeVar

__all__ = ["alone", "aside", "worker"]

P = ParamSpec("P")
T = TypeVar("T")


@cache
def worker(name: str) -> ThreadPoolExecutor:
    """The thread called *name*, made when it is first asked for, which does one thing after the other.

    :raises OSError: EAGAIN, it could not be made; whoever asks again tries again.
    """
    pool = ThreadPoolExecutor(1, thread_name_prefix=name)
    _ensure(pool)
    return pool


def _ensure(pool: ThreadPoolExecutor) -> None:
    """Have its thread made by nothing to do, which is all that is left queued where it cannot be."""
    try:
        pool.submit(int)
    except RuntimeError:
        # Says the interpreter, whatever the cause is; pthread_create(3) knows no other that could be ours.
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from None


def alone(name: str, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do *work* in a thread of its own, called *name*, that ends with it, and wait for that.

    :raises OSError: EAGAIN, there can be no such thread; nothing was done.
    """
    with ThreadPoolExecutor(1, thread_name_prefix=name) as pool:
        _ensure(pool)
        return pool.submit(work, *args, **kwargs).result()


async def aside(name: str, work: Callable[[], T]) -> T:
    """Do *work*, which may wait for a disk, in the :func:`worker` called *name*; where there can be none, here."""
    try:
        pool = worker(name)
    except OSError:
        return work()
    return await asyncio.get_running_loop().run_in_executor(pool, work)
