"""The in-memory driver behaves as the real one, as far as a client can see."""

from __future__ import annotations

import os

import pytest

from virlet.engine.api import Driver, Events, Lifecycle, Node, Streams
from virlet.enums import CreateFlags, DomainState, ListDomainsFlags
from virlet.errors import NoConnect, NoDomain, OperationFailed, OperationInvalid
from virlet.fake.driver import FakeDriver, open_driver

XML = "<domain type='qemu'><name>{}</name><memory>1024</memory><os><type arch='x86_64'>hvm</type></os></domain>"


@pytest.fixture
async def driver() -> FakeDriver:
    return await open_driver()


def heard(driver: FakeDriver) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    driver.subscribe(lambda event: found.append((int(event.args["event"]), int(event.args["detail"]))))  # type: ignore[union-attr]
    return found


async def test_it_is_a_driver_with_one_running_domain(driver: FakeDriver) -> None:
    assert all(isinstance(driver, part) for part in (Driver, Node, Lifecycle, Events, Streams))
    (ref,) = driver.domains(ListDomainsFlags.ACTIVE)
    assert (ref.name, ref.id) == ("test", 1)
    assert driver.by_id(1) == driver.by_name("test") == driver.by_uuid(ref.uuid) == ref
    assert driver.state(ref.uuid) == (DomainState.RUNNING, 1)
    assert "id='1'" in driver.xml(ref.uuid, 0)
    assert "id='1'" not in driver.xml(ref.uuid, 2)


async def test_a_life_from_definition_to_undefinition(driver: FakeDriver) -> None:
    events = heard(driver)
    uuid = (await driver.define(XML.format("new"), 0)).uuid
    assert (await driver.start(uuid, 0, None)).id == 2
    await driver.suspend(uuid)
    await driver.resume(uuid)
    await driver.shutdown(uuid, 0)
    assert driver.state(uuid) == (DomainState.SHUTOFF, 1)
    await driver.start(uuid, CreateFlags.PAUSED, None)
    await driver.destroy(uuid, 0)
    await driver.undefine(uuid, 0)
    with pytest.raises(NoDomain):
        driver.by_uuid(uuid)
    assert events == [(0, 0), (4, 0), (2, 0), (3, 0), (4, 0), (6, 1), (5, 0), (2, 0), (3, 0), (6, 2), (5, 1), (1, 0)]


async def test_transient_domains_vanish_and_autodestroy_follows_the_owner(driver: FakeDriver) -> None:
    owner = object()
    ref = await driver.create(XML.format("brief"), CreateFlags.AUTODESTROY, owner)
    assert not driver.is_persistent(ref.uuid)
    await driver.owner_gone(object())
    assert driver.is_active(ref.uuid)
    await driver.owner_gone(owner)
    with pytest.raises(NoDomain):
        driver.by_name("brief")


async def test_names_and_states_are_guarded(driver: FakeDriver) -> None:
    with pytest.raises(OperationFailed, match="already exists with uuid"):
        await driver.define(XML.format("test"), 0)
    uuid = driver.by_name("test").uuid
    with pytest.raises(OperationInvalid, match="already running"):
        await driver.start(uuid, 0, None)
    await driver.destroy(uuid, 0)
    with pytest.raises(OperationInvalid, match="not running"):
        await driver.destroy(uuid, 0)
    with pytest.raises(NoConnect):
        await open_driver("/other")


async def test_a_console_echoes_has_one_user_and_ends_with_the_domain(driver: FakeDriver) -> None:
    import asyncio

    uuid = driver.by_name("test").uuid
    first = await driver.open_console(uuid, None, 0)
    with pytest.raises(OperationFailed, match="Active console session"):
        await driver.open_console(uuid, None, 0)
    taken: list[bool] = []
    first.on_taken(lambda: taken.append(True))
    second = await driver.open_console(uuid, None, 1)
    assert taken == [True]
    os.write(second.fileno(), b"hello")
    await asyncio.sleep(0.01)
    assert os.read(second.fileno(), 10) == b"hello"
    await driver.destroy(uuid, 0)
    assert os.read(second.fileno(), 10) == b""
    first.close()
    second.close()
    await driver.close()
