"""An interface that is taken out of a running guest and plugged in again, with the fake QEMU."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from unclaimed import free_port

from virlet.engine import unplug
from virlet.engine.driver import QemuDriver
from virlet.engine.guest import Guest
from virlet.engine.status import Returning
from virlet.engine.supervision import anew
from virlet.engine.supervision.anew import regain
from virlet.engine.supervision.budget import Budget
from virlet.engine.supervision.helper import Helper
from virlet.enums import Affect, EventId
from virlet.errors import OperationTimeout, SystemFailure
from virlet.model.domain import format_device
from virlet.model.interface import LinkState
from virlet.plan.facts import Facts
from virlet.proc.identity import alive

Recorder = Any
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]
Up = Callable[..., Awaitable[tuple[Guest, QemuDriver]]]
MAC = "52:54:00:00:00:07"
NAMED = f"<mac address='{MAC}'/>"


@pytest.fixture
def port() -> int:
    return free_port()


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
    assert guest.running().record.returning == ()


async def answer(guest: Guest) -> None:
    """The guest does what it was asked for long ago (the fake does it when it is asked a second time)."""
    await guest.execute("device_del", {"id": "net0"})


async def test_a_guest_that_answers_late_gets_it_then(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, _ = await up(unplug="second")
    before = live(guest)
    lose(guest)
    lose(guest)  # Somebody has asked for its link meanwhile.
    await until(lambda: "gave-up" in recorder.helpers)
    await until(lambda: "restarted" in recorder.helpers)
    assert live(guest) == before
    assert guest.running().record.returning == ()


async def test_a_cable_that_was_pulled_meanwhile_is_out_when_it_is_back(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, driver = await up(unplug="second")
    lose(guest)
    await until(lambda: "gave-up" in recorder.helpers)
    (nic,) = guest.domain.devices.interfaces
    await driver.update(guest.uuid, format_device(replace(nic, link_state=LinkState.DOWN)), Affect.LIVE)
    await answer(guest)
    await until(lambda: "restarted" in recorder.helpers)
    assert not guest.link_wanted("net0")


async def test_a_guest_that_refuses_late_keeps_it(up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, _ = await up(unplug="ignore")
    lose(guest)
    await until(lambda: "gave-up" in recorder.helpers)
    unplug.refused(guest, guest.running(), "net0")
    assert guest.running().record.returning == ()
    assert recorder.helpers == ["gave-up", "gave-up"]


async def test_what_cannot_be_given_up_comes_back_all_the_same(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(_self: Helper, _why: str) -> None:
        raise OperationTimeout("QEMU did not answer set_link")

    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, _ = await up(unplug="second")
    with monkeypatch.context() as patch:
        patch.setattr(Helper, "give_up", broken)
        lose(guest)
        await until(lambda: guest.running().record.returning and not guest.job.held)
    await answer(guest)
    await until(lambda: "restarted" in recorder.helpers)


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
    guest, driver = await up(unplug="second")
    before = live(guest)
    lose(guest)
    await until(lambda: "gave-up" in recorder.helpers)
    process = helper_of(guest).process
    assert process is not None
    await driver.close()
    os.kill(process.pid, signal.SIGKILL)
    await until(lambda: not alive(process.identity))
    second = await opener(faking())
    second.subscribe(recorder)
    guest = second._find(guest.uuid)
    recorder.events.clear()
    assert guest.running().returning("net0") is not None
    if taken:
        await gone(second, guest, recorder)
    else:
        await answer(guest)
        await until(lambda: "restarted" in recorder.helpers)
        assert live(guest) == before
    assert guest.running().record.returning == ()


async def gone(driver: QemuDriver, guest: Guest, recorder: Recorder) -> None:
    """Taken away by its user, for good."""
    await driver.detach(guest.uuid, f"<interface type='user'>{NAMED}</interface>", Affect.LIVE)
    await until(lambda: any(getattr(each, "id", None) is EventId.DEVICE_REMOVED for each in recorder.events))
    async with guest.job.hold("look whether anybody does more", patient=True):
        assert live(guest) == []
    assert recorder.helpers == []


async def test_what_the_user_takes_away_meanwhile_does_not_come_back(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, driver = await up(unplug="second")
    lose(guest)
    await until(lambda: "gave-up" in recorder.helpers)
    recorder.events.clear()
    await gone(driver, guest, recorder)
    assert guest.running().record.returning == ()


async def test_what_the_user_has_taken_away_before_does_not_come_back(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, driver = await up(unplug="second")
    await driver.detach(guest.uuid, f"<interface type='user'>{NAMED}</interface>", Affect.LIVE)
    assert len(live(guest)) == 1
    lose(guest)
    await until(lambda: "gave-up" in recorder.helpers)
    recorder.events.clear()
    await gone(driver, guest, recorder)
    assert guest.running().leaving == set()


@pytest.mark.parametrize("kept", [False, True])
async def test_nor_does_it_under_the_next_daemon_unless_the_guest_keeps_it(
    up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch, opener: Open, faking: Faking, kept: bool
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    guest, driver = await up(unplug="second")
    await driver.detach(guest.uuid, f"<interface type='user'>{NAMED}</interface>", Affect.LIVE)
    if kept:
        unplug.refused(guest, guest.running(), "net0")
    await driver.close()
    driver = await opener(faking())
    driver.subscribe(recorder)
    guest = driver._find(guest.uuid)
    assert guest.running().leaving == (set() if kept else {"net0"})
    lose(guest)
    if kept:
        await until(lambda: "restarted" in recorder.helpers)
        return
    await until(lambda: "gave-up" in recorder.helpers)
    assert "asked for its interface" in helper_of(guest).why
    recorder.events.clear()
    await answer(guest)
    await until(lambda: live(guest) == [])
    async with guest.job.hold("look whether anybody plugs it in", patient=True):
        assert recorder.helpers == []


async def test_one_that_was_plugged_in_when_its_daemon_died_is_left_alone(up: Up, opener: Open, faking: Faking) -> None:
    guest, driver = await up()
    before = live(guest)
    guest.running().returns(Returning("net0", "<none/>", "passt", 1))
    guest.save()
    await driver.close()
    second = await opener(faking())
    guest = second._find(guest.uuid)
    assert guest.running().record.returning == ()
    assert live(guest) == before
    assert helper_of(guest).record.restarts == 0


async def test_a_host_that_is_out_of_something_is_waited_for(
    up: Up, recorder: Recorder, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    guest, _ = await up()
    before, tries = live(guest), 0

    async def out_of_descriptors(*_args: object) -> None:
        nonlocal tries
        tries += 1
        raise SystemFailure("cannot make a socket: Too many open files", errno=errno.EMFILE)

    monkeypatch.setattr(anew, "Budget", partial(Budget, pause=0.01))
    with monkeypatch.context() as patch:
        patch.setattr(anew, "plug", out_of_descriptors)
        lose(guest)
        await until(lambda: tries == 4)
        assert live(guest) == []
        assert guest.running().returning("net0") is not None
    await until(lambda: "restarted" in recorder.helpers)
    assert recorder.helpers == ["lost", "restarted"]
    assert live(guest) == before
    assert guest.running().record.returning == ()
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        assert stream.recv(100)


async def test_what_does_not_pass_is_given_up(up: Up, recorder: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    async def refused(*_args: object) -> None:
        raise SystemFailure("no such thing", errno=errno.ENOENT)

    guest, _ = await up()
    monkeypatch.setattr(anew, "plug", refused)
    lose(guest)
    await until(lambda: recorder.helpers)
    assert recorder.helpers == ["gave-up"]
    assert guest.running().record.returning == ()
