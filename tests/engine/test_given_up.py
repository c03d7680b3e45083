"""A helper that ends again and again is given up: what is told, what it says later, and how it comes back."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from unclaimed import free_port

from virlet.engine.api import HelperEvent
from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.guest import Guest
from virlet.engine.supervision import helper as helpers
from virlet.engine.supervision.budget import Budget
from virlet.enums import Affect
from virlet.plan.facts import Facts

Recorder = Any
Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

BACKENDS = {
    "passt": "<backend type='passt'/>",
    "slirp-helper": "<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/>",
}


def card(backend: str, port: int, link: str = "") -> str:
    return (
        f"<interface type='user'><mac address='52:54:00:00:00:07'/><model type='virtio'/>{link}"
        f"<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>"
        f"{BACKENDS[backend]}</interface>"
    )


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def helper_of(driver: QemuDriver, uuid: Any) -> dict[str, Any]:
    (found,) = driver.details(uuid)["helpers"]  # type: ignore[misc]
    return found  # type: ignore[no-any-return]


def link(dirs: Dirs) -> str:
    """Of the one card, as QEMU has it."""
    (log,) = dirs.state.rglob("qemu.log")
    return ["up", *re.findall(r"link of net0: (\w+)", log.read_text())][-1]


async def crash_loop(driver: QemuDriver, uuid: Any, heard: Recorder) -> None:
    """Let it fail until nobody starts it any more."""
    while "gave-up" not in heard.helpers:
        pid = helper_of(driver, uuid)["pid"]
        if pid is not None:
            os.kill(pid, signal.SIGSEGV)
        await until(lambda: "gave-up" in heard.helpers or helper_of(driver, uuid)["pid"] not in (None, pid))  # noqa: B023


@pytest.mark.parametrize("backend", BACKENDS)
async def test_a_crash_loop_ends_with_the_link_down_and_a_sentence_that_stays(
    backend: str,
    opener: Open,
    faking: Faking,
    recorder: Recorder,
    xml: Xml,
    dirs: Dirs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(helpers, "Budget", partial(Budget, pause=0.001))
    driver = await opener(faking(qemu={"links": "say"}))
    driver.subscribe(recorder)
    port = free_port()
    uuid = (await driver.define(xml(devices=card(backend, port)), 0)).uuid
    await driver.start(uuid, 0, None)
    assert helper_of(driver, uuid)["why"] is None
    await crash_loop(driver, uuid, recorder)
    await until(lambda: link(dirs) == "down")
    told = recorder.events[-1]
    assert isinstance(told, HelperEvent)
    assert "it ended 6 times within 60 s" in told.message
    assert "virlet link one net0 up" in told.message
    assert (helper_of(driver, uuid)["condition"], helper_of(driver, uuid)["why"]) == ("gave up", told.message)
    await driver.close()
    driver = await opener()
    driver.subscribe(recorder)
    assert (helper_of(driver, uuid)["condition"], helper_of(driver, uuid)["why"]) == ("gave up", told.message)
    recorder.events.clear()
    await driver.update(uuid, card(backend, port, "<link state='up'/>"), Affect.LIVE)
    await until(lambda: recorder.helpers == ["restarted"])
    assert (helper_of(driver, uuid)["condition"], helper_of(driver, uuid)["why"]) == ("running", None)
    assert link(dirs) == "up"
    with socket.create_connection(("127.0.0.1", port), 5):
        pass
    # The next loss is as good as the first.
    os.kill(helper_of(driver, uuid)["pid"], signal.SIGKILL)
    await until(lambda: recorder.helpers == ["restarted", "lost", "restarted"])
    await driver.destroy(uuid, 0)


async def test_what_an_older_virletd_gave_up_says_at_least_what_to_do(opener: Open, faking: Faking, xml: Xml) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=card("passt", 0).replace("<range start='0' to='22'/>", "")), 0)).uuid
    await driver.start(uuid, 0, None)
    guest: Guest = driver._find(uuid)
    helper = guest.running().helpers["net0"]
    helper.record = replace(helper.record, gave_up=True)
    assert "older virletd" in helper.why
    assert "virlet link one net0 up" in helper.why
    # Its user asks for it, and it runs: all that was missing is the cable.
    helper.revive()
    await until(lambda: helper.condition == "running" and not helper.why)
    await driver.destroy(uuid, 0)
