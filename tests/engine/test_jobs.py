"""One job a guest at a time."""

from __future__ import annotations

import asyncio

import pytest

from virlet.engine.jobs import JobLock
from virlet.engine.tasks import Tasks, together
from virlet.enums import ErrorCode
from virlet.errors import OperationFailed, OperationTimeout


async def test_who_waits_too_long_is_told_who_holds_the_job() -> None:
    lock = JobLock("one", wait=0.01)
    async with lock.hold("start"):
        with pytest.raises(OperationTimeout, match=r"cannot acquire state change lock \(held by start\)") as caught:
            async with lock.hold("suspend"):
                raise AssertionError("two jobs at once")
    assert caught.value.code == ErrorCode.OPERATION_TIMEOUT
    assert not lock.held


async def test_a_patient_job_waits_as_long_as_it_takes_and_a_failed_one_lets_go() -> None:
    lock = JobLock("one", wait=0.01)
    order: list[str] = []

    async def first() -> None:
        async with lock.hold("first"):
            await asyncio.sleep(0.05)
            order.append("first")
            raise OperationFailed("on purpose")

    task = asyncio.create_task(first())
    await asyncio.sleep(0)
    async with lock.hold("second", patient=True):
        order.append("second")
    assert order == ["first", "second"]
    assert isinstance(task.exception(), OperationFailed)


async def test_together_raises_the_first_error_and_cancels_the_rest() -> None:
    ended: list[str] = []

    async def slow() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            ended.append("slow")

    async def bad() -> None:
        raise OperationFailed("on purpose")

    with pytest.raises(OperationFailed):
        await together(slow(), bad())
    assert ended == ["slow"]


async def test_an_error_of_a_background_task_is_logged_and_cancelling_spares_the_caller(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tasks = Tasks()
    done: list[bool] = []

    async def fails() -> None:
        raise OperationFailed("on purpose")

    async def cancels() -> None:
        await tasks.cancel()
        done.append(True)

    tasks.start(fails(), "a chore")
    other = tasks.start(asyncio.sleep(10), "a long one")
    await tasks.start(cancels(), "the end")
    assert done == [True]
    assert other.cancelled()
    assert "a chore: operation failed: on purpose" in caplog.text
