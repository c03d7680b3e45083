"""Whether a program has finished with its options."""

from __future__ import annotations

import asyncio
import os
import time

import pytest

from virlet.proc import settled as module
from virlet.proc.settled import filters, settled
from virlet.proc.spawn import Command, spawn


def test_a_process_that_is_not_there_has_no_filter() -> None:
    assert filters(2**22 + 1) == 0
    assert filters() >= 0


async def test_one_that_refuses_its_options_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 60)
    assert not await settled(await spawn(Command(("false",)), "false"))


async def test_one_that_refuses_them_after_the_host_has_stood_still_has_ended_as_well() -> None:
    reading, writing = os.pipe()
    process = await spawn(Command(("/bin/sh", "-c", "read -r go; exit 1"), stdin=reading), "sh")
    os.close(reading)

    def stand_still() -> None:
        time.sleep(module.PATIENCE + 0.1)
        os.close(writing)

    asyncio.get_running_loop().call_soon(stand_still)
    assert not await settled(process)


async def test_one_that_installs_no_filter_is_trusted_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.02)
    process = await spawn(Command(("sleep", "60")), "sleep")
    assert await settled(process)
    await process.terminate(1)


async def test_a_filter_more_than_ours_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "filters", lambda pid=None: 0 if pid is None else 1)
    monkeypatch.setattr(module, "PATIENCE", 60)
    process = await spawn(Command(("sleep", "60")), "sleep")
    assert await settled(process)
    await process.terminate(1)
