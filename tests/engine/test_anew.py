"""An interface that is taken out of a running guest and plugged in again, with the fake QEMU."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from virlet.engine import anew, unplug
from virlet.engine.anew import regain
from virlet.engine.driver import QemuDriver
from virlet.engine.guest import Guest
from virlet.engine.helpers import Helper
from virlet.engine.status import Returning
from virlet.enums import Affect, EventId
from virlet.plan.facts import Facts

Recorder = Any
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]
Up = Callable[..., Awaitable[tuple[Guest, QemuDriver]]]
MAC = "52:54:00:00:00:07"


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def up(opener: Open, faking: Faking, recorder: Recorder, xml: Callable[..., str], port: int) -> Up:
    """A guest with one card, whose helper is on a way that can be lost."""
    card = (
        f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/><backend type='passt'/>"
        f"<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"
    )

    async def made(**qemu: Any) -> tuple[Guest, QemuDriver]:
        driver = await opener(faking(qemu=qemu))
        driver.subscribe(recorder)
        guest = driver._find((await driver.define(xml(), 0)).uuid)
        await driver.start(guest.uuid, 0, None)
        await driver.attach(guest.uuid, card, Affect.LIVE)
        regain(guest, guest.running(), helper_of(guest))
        recorder.events.clear()
        return guest, driver

    return made


def helper_of(guest: Guest) -> Helper:
    return guest.running().helpers["net0"]


def lose(guest: Guest) -> None:
    plug_in = helper_of(guest).anew
    assert plug_in is not None
    plug_in("its socket is lost")


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def live(guest: Guest) -> list[tuple[str | None, str | None, object]]:
    assert guest.live is not None
    return [(nic.mac, nic.alias, nic.address) for nic in guest.live.devices.interfaces]


async def test_the_guest_gets_the_same_card_with_another_helper_and_the_forwards(
    up: Up, recorder: Recorder, port: int
) -> None:
    guest, _ = await up()
    before, lost = live(guest), helper_of(guest)
    lose(guest)
    await until(lambda: "restarted" in recorder.helpers)
    assert live(guest) == before
    assert helper_of(guest) is not lost
    assert helper_of(guest).record.restarts == 1
    assert not guest.job.held
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        assert stream.recv(100)


async def test_a_guest_that_refuses_keeps_its_card_with_the_link_down(up: Up, recorder: Recorder) -> None:
    guest, _ = await up(unplug="refuse")
    before, lost = live(guest), helper_of(guest)
    lose(guest)
    await until(lambda: "gave-up" in recorder.helpers)
    assert (live(guest), helper_of(guest)) == (before, lost)
    assert lost.record.gave_up
    assert guest.running().given_back == {}


async def test_a_guest_that_answers_late_gets_it_then(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.0)
    guest, _ = await up()
    before = live(guest)
    lose(guest)
    await until(lambda: "restarted" in recorder.helpers)
    assert live(guest) == before


async def test_a_daemon_that_dies_in_between_is_followed_by_one_that_plugs_it_in(
    up: Up, opener: Open, faking: Faking, recorder: Recorder, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, driver = await up()
    before = live(guest)
    begun = asyncio.Event()

    async def never(*_args: object) -> None:
        begun.set()
        await asyncio.Event().wait()

    with monkeypatch.context() as patch:
        patch.setattr(anew, "plug", never)
        lose(guest)
        await begun.wait()
        assert live(guest) == []
        await driver.close()
    second = await opener(faking())
    second.subscribe(recorder)
    guest = second._find(guest.uuid)
    await until(lambda: "restarted" in recorder.helpers)
    assert live(guest) == before
    assert helper_of(guest).record.restarts == 1
    assert guest.running().record.returning == ()
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        assert stream.recv(100)


@pytest.mark.parametrize("taken", [False, True])
async def test_the_next_daemon_waits_on_for_a_guest_that_has_not_answered(
    up: Up, opener: Open, faking: Faking, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, taken: bool
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, driver = await up(unplug="ignore" if taken else "second")
    before = live(guest)
    lose(guest)
    await until(lambda: guest.running().given_back)
    process = helper_of(guest).process
    assert process is not None
    await driver.close()
    os.kill(process.pid, signal.SIGKILL)
    second = await opener(faking())
    second.subscribe(recorder)
    guest = second._find(guest.uuid)
    recorder.events.clear()
    if taken:
        assert "net0" in guest.running().given_back
    if taken:
        await second.detach(guest.uuid, f"<interface type='user'><mac address='{MAC}'/></interface>", Affect.LIVE)
        await until(lambda: guest.running().record.returning == ())
        await unplug.remove_nic(guest, guest.running(), "net0")
        await until(lambda: live(guest) == [])
        assert "restarted" not in recorder.helpers
    else:
        await until(lambda: "restarted" in recorder.helpers)
        assert live(guest) == before
    assert guest.running().record.returning == ()


async def test_one_that_was_plugged_in_when_its_daemon_died_is_left_alone(
    up: Up, opener: Open, faking: Faking, recorder: Recorder
) -> None:
    guest, driver = await up()
    before = live(guest)
    guest.running().record = replace(guest.running().record, returning=(Returning("net0", "<none/>", "passt", 1),))
    guest.save()
    await driver.close()
    second = await opener(faking())
    guest = second._find(guest.uuid)
    assert guest.running().record.returning == ()
    assert live(guest) == before
    assert helper_of(guest).record.restarts == 0


async def test_what_the_user_takes_away_meanwhile_does_not_come_back(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, driver = await up(unplug="ignore")
    lose(guest)
    await until(lambda: guest.running().given_back)
    waiting = guest.running().given_back["net0"]
    lose(guest)  # Somebody has asked for its link: it is still awaited, once.
    await until(lambda: recorder.helpers.count("gave-up") == 2)
    assert guest.running().given_back["net0"] is waiting
    await driver.detach(guest.uuid, f"<interface type='user'><mac address='{MAC}'/></interface>", Affect.LIVE)
    assert waiting.cancelled()
    await unplug.remove_nic(guest, guest.running(), "net0")
    await until(lambda: any(getattr(each, "id", None) is EventId.DEVICE_REMOVED for each in recorder.events))
    assert live(guest) == []
    assert "restarted" not in recorder.helpers
