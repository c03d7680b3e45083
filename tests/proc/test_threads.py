"""Threads that cannot be made: an error at once, and nothing left to be done later."""

from __future__ import annotations

import errno
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from virlet.proc.threads import alone, aside, worker

NoProcess = Callable[[], AbstractContextManager[None]]


@pytest.fixture(autouse=True)
def _none_yet() -> None:
    worker.cache_clear()


def test_a_worker_is_one_thread_that_keeps_its_order() -> None:
    done: list[tuple[int, str]] = []
    for number in range(10):
        worker("test").submit(lambda n=number: done.append((n, threading.current_thread().name)))
    worker("test").submit(int).result()
    assert done == [(number, "test_0") for number in range(10)]


def test_a_worker_that_cannot_be_made_is_an_error_and_can_be_made_later(no_process: NoProcess) -> None:
    with no_process():
        for _ in range(2):
            with pytest.raises(OSError, match="Resource temporarily unavailable") as caught:
                worker("test")
            assert caught.value.errno == errno.EAGAIN
    assert worker("test").submit(threading.get_ident).result() != threading.get_ident()


def test_work_alone_that_cannot_begin_is_an_error_and_never_done(no_process: NoProcess) -> None:
    done: list[int] = []
    with no_process(), pytest.raises(OSError, match="Resource temporarily unavailable"):
        alone("test", done.append, 1)
    alone("test", done.append, 2)
    assert done == [2]
    with pytest.raises(RuntimeError, match="its own"):
        alone("test", _fails)


def _fails() -> None:
    raise RuntimeError("its own")


async def test_what_is_done_aside_is_done_here_where_there_is_no_thread(no_process: NoProcess) -> None:
    with no_process():
        assert await aside("test", threading.get_ident) == threading.get_ident()
    assert await aside("test", threading.get_ident) != threading.get_ident()
