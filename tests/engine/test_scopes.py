"""Guests in scopes of the user's systemd."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from virlet.engine.driver import QemuDriver
from virlet.fake.systemd import Manager
from virlet.plan.facts import Facts
from virlet.proc import scope

Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]
NIC = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><backend type='passt'/></interface>"
)


@pytest.fixture
async def manager(dirs: Any, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Manager]:
    runtime = Path(f"{dirs.runtime}-user")
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    made = Manager()
    await made.on_socket(runtime)
    yield made
    await made.close()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_qemu_and_its_helpers_are_in_one_scope_and_so_are_those_that_come_later(
    opener: Open, faking: Faking, xml: Xml, manager: Manager
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=NIC), 0)).uuid
    await driver.start(uuid, 0, None)
    await until(lambda: manager.units)
    details: Any = driver.details(uuid)
    qemu, passt = details["pid"], details["helpers"][0]["pid"]
    unit = f"virlet-{uuid}-{qemu}.scope"
    assert list(manager.units) == [unit]
    assert manager.units[unit]["PIDs"] == [qemu, passt]
    assert manager.units[unit]["Description"] == "Virtual machine one"
    os.kill(passt, signal.SIGKILL)
    await until(lambda: len(manager.units[unit]["PIDs"]) == 3)
    assert manager.wrong == []
    await driver.destroy(uuid, 0)


async def test_a_guest_that_was_taken_over_before_it_had_a_scope_gets_one(
    opener: Open, faking: Faking, xml: Xml, manager: Manager
) -> None:
    facts = faking()
    manager.refuse = "not yet"
    first = await opener(facts)
    uuid = (await first.define(xml(devices=NIC), 0)).uuid
    await first.start(uuid, 0, None)
    await until(lambda: manager.wrong)
    await first.close()
    manager.refuse = ""
    second = await opener(facts)
    await until(lambda: manager.units)
    details: Any = second.details(uuid)
    qemu, passt = details["pid"], details["helpers"][0]["pid"]
    assert manager.units[f"virlet-{uuid}-{qemu}.scope"]["PIDs"] == [qemu, passt]
    await second.destroy(uuid, 0)


async def test_a_systemd_that_says_no_is_told_once_and_changes_nothing(
    opener: Open, faking: Faking, xml: Xml, manager: Manager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.refuse = "Access denied"
    driver = await opener(faking())
    uuid = (await driver.define(xml(), 0)).uuid
    with caplog.at_level(logging.WARNING, "virlet.engine.scopes"):
        for n in range(3):
            await driver.start(uuid, 0, None)
            await until(lambda n=n: len(manager.wrong) > n)
            await driver.destroy(uuid, 0)
    said = [record.getMessage() for record in caplog.records if record.name == "virlet.engine.scopes"]
    assert len(said) == 1
    assert "its processes stay in virletd's own control group" in said[0]
    assert "systemd says no: Access denied" in said[0]


async def test_a_systemd_that_is_silent_delays_nobody(
    opener: Open, faking: Faking, xml: Xml, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager.silent = True
    monkeypatch.setattr(scope, "TIMEOUT", 1000.0)  # Who waited for the answer would come to the end of the test's time.
    driver = await opener(faking())
    uuid = (await driver.define(xml(), 0)).uuid
    async with asyncio.timeout(30):
        await driver.start(uuid, 0, None)
        await driver.destroy(uuid, 0)
