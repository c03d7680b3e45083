"""A QEMU that answers nobody while the daemon begins (stopped, or writing its memory): ours, and taken over later."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partialmethod
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import pytest
from unclaimed import free_port

from virlet.engine import adopt, takeover
from virlet.engine.driver import QemuDriver
from virlet.engine.guest import Guest, Run
from virlet.enums import CreateFlags, DomainState, RunningReason
from virlet.errors import OperationFailed
from virlet.plan.facts import Facts
from virlet.proc.identity import identify
from virlet.qmp.monitor import Monitor, MonitorClosed

Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

NIC = """<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><backend type='passt'/>
{forward}</interface>"""
FORWARD = "<portForward proto='tcp' address='127.0.0.1'><range start='{}' to='22'/></portForward>"


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


class House:
    """A guest and its neighbour; the guest's QEMU is stopped while no daemon runs."""

    def __init__(self, opener: Open, facts: Facts, xml: Xml, recorder: Any, port: int = 0) -> None:
        self.opener, self.facts, self.xml, self.recorder, self.port = opener, facts, xml, recorder, port
        self.uuid = self.other = UUID(int=0)
        self.qemu = 0

    async def stopped(self, extra: str = "", *, autodestroy: bool = False) -> QemuDriver:
        """The next daemon, which began while QEMU stood still."""
        first = await self.opener(self.facts)
        self.other = (await first.create(self.xml("other", 2), 0, None)).uuid
        nic = NIC.format(forward=FORWARD.format(self.port) if self.port else "")
        text = self.xml("one", 1, devices=nic, extra=extra)
        owner = (CreateFlags.AUTODESTROY, self) if autodestroy else (0, None)
        self.uuid = (await first.create(text, *owner)).uuid
        self.qemu = cast("int", first.details(self.uuid)["pid"])
        await first.close()
        os.kill(self.qemu, signal.SIGSTOP)
        return await self.opened()

    async def opened(self) -> QemuDriver:
        # For the silent one's answer itself the daemon would wait without end.
        async with asyncio.timeout(30):
            driver = await self.opener(self.facts)
        driver.subscribe(self.recorder)
        assert driver.state(self.other)[0] is DomainState.RUNNING
        neighbour = driver._context.guests.find(self.other)
        await until(lambda: neighbour.running().reachable and not neighbour.job.held)
        return driver

    def goes_on(self) -> None:
        os.kill(self.qemu, signal.SIGCONT)

    async def answers(self) -> None:
        """Its guest does so, by the forwarded port."""
        said = b""
        async with asyncio.timeout(30):
            while not said:
                with suppress(OSError):
                    reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                    said = await reader.readline()
                    writer.close()
                    await writer.wait_closed()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adopt, "PATIENCE", 0.2)
    monkeypatch.setattr(takeover, "AGAIN", 0.05)


@pytest.fixture
def house(impatient: None, opener: Open, faking: Faking, xml: Xml, recorder: Any) -> Iterator[House]:
    one = House(opener, faking(), xml, recorder)
    yield one
    with suppress(ProcessLookupError):
        one.goes_on()


@pytest.fixture
def quiet(impatient: None, opener: Open, faking: Faking, xml: Xml, recorder: Any) -> Iterator[House]:
    """Its guest says nothing by itself, and its passt reaches nobody that it has not heard."""
    one = House(opener, faking(passt={"learns": "heard"}), xml, recorder, free_port())
    yield one
    with suppress(ProcessLookupError):
        one.goes_on()


def helper_pid(driver: QemuDriver, uuid: UUID) -> int:
    (helper,) = cast("list[dict[str, int]]", driver.details(uuid)["helpers"])
    return helper["pid"]


async def problems(driver: QemuDriver) -> str:
    return "\n".join(cast("list[str]", (await driver.doctor())["problems"]))


async def test_it_is_shown_and_taken_over_when_it_answers(house: House) -> None:
    driver = await house.stopped()
    assert driver.state(house.uuid)[0] is DomainState.RUNNING
    assert "has not answered" in str(driver.details(house.uuid)["unreachable"])
    assert f"QEMU of guest 'one' (pid {house.qemu}) does not answer" in await problems(driver)
    with pytest.raises(OperationFailed, match="cannot be reached"):
        await driver._context.guests.find(house.uuid).execute("query-status")
    suspending = asyncio.ensure_future(driver.suspend(house.uuid))  # It waits for its turn.
    await asyncio.sleep(0)
    assert not suspending.done()
    house.goes_on()
    await suspending
    assert driver.state(house.uuid)[0] is DomainState.PAUSED
    assert await problems(driver) == ""
    assert "unreachable" not in driver.details(house.uuid)
    await driver.resume(house.uuid)
    os.kill(helper_pid(driver, house.uuid), signal.SIGKILL)
    await until(lambda: "restarted" in house.recorder.helpers)
    await driver.destroy(house.uuid, 0)


async def test_a_helper_that_is_lost_meanwhile_comes_back(house: House) -> None:
    driver = await house.stopped()
    before = helper_pid(driver, house.uuid)
    os.kill(before, signal.SIGKILL)
    await until(lambda: "lost" in house.recorder.helpers)
    house.goes_on()
    await until(lambda: "restarted" in house.recorder.helpers)
    assert helper_pid(driver, house.uuid) != before
    await driver.suspend(house.uuid)
    await driver.destroy(house.uuid, 0)


async def test_a_helper_that_is_lost_meanwhile_is_told_the_guests_address_and_replaced_once_more(quiet: House) -> None:
    driver = await quiet.stopped()
    os.kill(helper_pid(driver, quiet.uuid), signal.SIGKILL)
    await until(lambda: quiet.recorder.helpers == ["lost"])
    quiet.goes_on()
    await quiet.answers()
    await until(lambda: quiet.recorder.helpers == ["lost", "restarted"])
    os.kill(helper_pid(driver, quiet.uuid), signal.SIGKILL)
    await until(lambda: quiet.recorder.helpers == ["lost", "restarted"] * 2)
    await quiet.answers()


async def test_a_helper_that_the_last_daemon_has_started_is_told_by_the_next(quiet: House) -> None:
    driver = await quiet.stopped()
    quiet.goes_on()
    await driver.suspend(quiet.uuid)  # When it has been taken over.
    os.kill(quiet.qemu, signal.SIGSTOP)
    os.kill(helper_pid(driver, quiet.uuid), signal.SIGKILL)
    await until(lambda: quiet.recorder.helpers == ["lost", "restarted"])
    await driver.close()
    await quiet.opened()
    quiet.goes_on()
    await quiet.answers()


async def test_what_its_guest_has_done_meanwhile_is_answered(house: House) -> None:
    driver = await house.stopped("<on_crash>restart</on_crash>")
    os.kill(house.qemu, signal.SIGUSR1)  # Its guest panics as soon as it goes on.
    house.goes_on()
    await until(lambda: (4, 0) in house.recorder.lifecycle)
    assert house.recorder.lifecycle == [(8, 0), (4, 0)]
    assert driver.state(house.uuid) == (DomainState.RUNNING, RunningReason.CRASHED)
    await driver.destroy(house.uuid, 0)


async def test_one_that_falls_silent_while_it_is_taken_over_is_asked_again(
    house: House, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    catch_up = takeover._catch_up

    async def stop(guest: Guest, run: Run) -> None:
        await catch_up(guest, run)
        if guest.uuid == house.uuid:
            os.kill(house.qemu, signal.SIGSTOP)

    await (await house.stopped()).close()
    house.goes_on()
    with monkeypatch.context() as patch:
        patch.setattr(takeover, "_catch_up", stop)
        patch.setattr(Monitor, "execute", partialmethod(Monitor.execute, timeout=0.5))
        driver = await house.opened()
        assert f"QEMU of guest 'one' (pid {house.qemu}) does not answer" in await problems(driver)
        await until(lambda: "'qom-list' within 0.5 s; it is asked again" in caplog.text)
    house.goes_on()
    await driver.suspend(house.uuid)  # It waits for its turn.
    assert await problems(driver) == ""
    await driver.resume(house.uuid)
    os.kill(helper_pid(driver, house.uuid), signal.SIGKILL)
    await until(lambda: "restarted" in house.recorder.helpers)
    await driver.destroy(house.uuid, 0)


async def test_one_that_hangs_up_before_it_has_agreed_is_tried_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect, tries = Monitor.connect, 0
    driver = await house.stopped()
    path = driver._context.guests.find(house.uuid).running().record.monitor

    async def refused(where: Path, **arguments: Any) -> Monitor:
        nonlocal tries
        if where == path and (tries := tries + 1) < 3:
            raise MonitorClosed("it said something strange")
        return await connect(where, **arguments)

    await driver.close()
    house.goes_on()
    monkeypatch.setattr(takeover, "LAST_WORDS", 0.01)
    monkeypatch.setattr(Monitor, "connect", refused)
    driver = await house.opened()
    await driver.suspend(house.uuid)  # It waits for its turn.
    assert (tries, await problems(driver)) == (3, "")
    await driver.destroy(house.uuid, 0)


async def test_its_end_is_noticed(house: House) -> None:
    driver = await house.stopped()
    passt = helper_pid(driver, house.uuid)
    os.kill(house.qemu, signal.SIGKILL)
    await until(lambda: house.uuid not in [guest.uuid for guest in driver._context.guests])
    assert identify(passt) is None
    assert await problems(driver) == ""


async def test_it_can_be_destroyed(house: House) -> None:
    driver = await house.stopped()
    ending = asyncio.ensure_future(driver.destroy(house.uuid, 0))
    await until(lambda: driver._context.guests.find(house.uuid).running().stopping)
    house.goes_on()  # It takes its SIGTERM; one that does not gets SIGKILL after 10 s.
    await ending
    assert house.uuid not in [guest.uuid for guest in driver._context.guests]
    assert (5, 1) in house.recorder.lifecycle


async def test_one_whose_client_is_gone_is_ended_without_a_word(house: House) -> None:
    driver = await house.stopped(autodestroy=True)
    assert driver._context.guests.find(house.uuid).running().stopping
    house.goes_on()
    await until(lambda: house.uuid not in [guest.uuid for guest in driver._context.guests])
    assert identify(house.qemu) is None


async def test_daemons_that_came_and_went_meanwhile_keep_nobody_from_it(house: House) -> None:
    """Their dials wait in the backlog of its monitor, which has room for few."""
    driver = await house.stopped()
    for _ in range(5):
        await driver.close()
        driver = await house.opened()
    house.goes_on()
    await driver.suspend(house.uuid)
    assert driver.state(house.uuid)[0] is DomainState.PAUSED
    await driver.destroy(house.uuid, 0)
