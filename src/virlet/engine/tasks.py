"""Background work that has an owner: nothing runs that nobody would miss, and no error is lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

from virlet.errors import VirletError

__all__ = ["Tasks", "together"]

log = logging.getLogger(__name__)


async def together(*work: Coroutine[Any, Any, object]) -> None:
    """Run all of *work* side by side; at the first error the others are cancelled, and that error is raised."""
    tasks = [asyncio.ensure_future(each) for each in work]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    finally:
        left = [task for task in tasks if not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
    for task in tasks:
        if not task.cancelled():
            task.result()


class Tasks:
    """The tasks of one owner; they end with it."""

    __slots__ = ("_tasks",)

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None], what: str) -> asyncio.Task[None]:
        """Run *work* beside the caller; *what* names it in the log."""
        task = asyncio.get_running_loop().create_task(work, name=what)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if isinstance(error, VirletError):
            log.error("%s: %s", task.get_name(), error)
        elif error is not None:
            task.get_loop().call_exception_handler(
                {"message": f"bug in virlet, please report: {task.get_name()}", "exception": error, "task": task}
            )

    async def cancel(self) -> None:
        """End all of them and wait until they have ended; the caller, if it is one of them, excepted."""
        others = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)
