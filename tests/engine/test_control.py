"""Whether a guest can be asked for something, as ``virsh domcontrol`` shows it."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from virlet.engine.api import Control
from virlet.engine.driver import QemuDriver
from virlet.enums import ControlErrorReason, ControlState
from virlet.errors import OperationInvalid
from virlet.plan.facts import Facts


async def test_it_can_it_is_being_changed_it_does_not_answer_or_it_cannot_be_reached(
    opener: Callable[..., Awaitable[QemuDriver]], faking: Callable[..., Facts], xml: Callable[..., str]
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml("one", 1), 0)).uuid
    with pytest.raises(OperationInvalid, match="not running"):
        driver.control(uuid)
    await driver.start(uuid, 0, None)
    assert driver.control(uuid) == Control(ControlState.OK)
    guest = driver._context.guests.find(uuid)
    async with guest.job.hold("test"):
        await asyncio.sleep(0.02)
        busy = driver.control(uuid)
        assert (busy.state, busy.reason) == (ControlState.JOB, ControlErrorReason.NONE)
        assert 20 <= busy.milliseconds < 30_000
    qemu = cast("int", driver.details(uuid)["pid"])
    os.kill(qemu, signal.SIGSTOP)
    try:
        suspending = asyncio.ensure_future(driver.suspend(uuid))
        async with asyncio.timeout(30):
            while driver.control(uuid).state is not ControlState.OCCUPIED:  # noqa: ASYNC110
                await asyncio.sleep(0)
        await asyncio.sleep(0.02)
        waiting = driver.control(uuid)
        assert (waiting.state, waiting.reason) == (ControlState.OCCUPIED, ControlErrorReason.NONE)
        assert 20 <= waiting.milliseconds < 30_000
    finally:
        os.kill(qemu, signal.SIGCONT)
    await suspending
    assert driver.control(uuid) == Control(ControlState.OK)
    await guest.running().monitor.close()
    assert driver.control(uuid) == Control(ControlState.ERROR, ControlErrorReason.MONITOR)
    await driver.destroy(uuid, 0)
    with pytest.raises(OperationInvalid, match="not running"):
        driver.control(uuid)
