"""What is written about a guest, while it runs and in its definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from virlet.engine.driver import QemuDriver
from virlet.engine.stats import cpu_time, resident_kib
from virlet.enums import Affect, CreateFlags, EventId, MetadataType, StatsTypes, XmlFlags
from virlet.errors import OperationInvalid
from virlet.model.metadata import MetadataChange

Xml = Callable[..., str]
TITLE = MetadataChange(MetadataType.TITLE, "The title")


async def test_a_title_of_a_definition_lasts(driver: QemuDriver, xml: Xml, heard: Any, opener: Any) -> None:
    ref = await driver.define(xml("one"), 0)
    await driver.set_metadata(ref.uuid, TITLE, Affect.CONFIG)
    assert "<title>The title</title>" in driver.xml(ref.uuid, 0)
    assert [(each.id, dict(each.args)) for each in heard.events][-1] == (
        EventId.METADATA_CHANGE,
        {"type": 1, "nsuri": None},
    )
    with pytest.raises(OperationInvalid, match="domain is not running"):
        await driver.set_metadata(ref.uuid, TITLE, Affect.LIVE)
    await driver.close()
    assert "<title>The title</title>" in (await opener()).xml(ref.uuid, 0)


async def test_live_and_definition_are_changed_apart(driver: QemuDriver, xml: Xml) -> None:
    ref = await driver.define(xml("one"), 0)
    await driver.start(ref.uuid, CreateFlags.PAUSED, None)
    await driver.set_metadata(ref.uuid, TITLE, Affect.LIVE)
    assert "<title>" in driver.xml(ref.uuid, 0)
    assert "<title>" not in driver.xml(ref.uuid, XmlFlags.INACTIVE)
    await driver.set_metadata(ref.uuid, TITLE, Affect.CONFIG)
    assert "<title>" in driver.xml(ref.uuid, XmlFlags.INACTIVE)
    await driver.destroy(ref.uuid, 0)


async def test_a_transient_guest_has_no_definition_to_write_in(driver: QemuDriver, xml: Xml) -> None:
    ref = await driver.create(xml("one"), CreateFlags.PAUSED, None)
    with pytest.raises(OperationInvalid, match="transient domains"):
        await driver.set_metadata(ref.uuid, TITLE, Affect.CONFIG)
    await driver.set_metadata(ref.uuid, TITLE, Affect.LIVE)
    assert "<title>" in driver.xml(ref.uuid, XmlFlags.INACTIVE)
    await driver.destroy(ref.uuid, 0)


async def test_statistics_of_a_guest_that_runs_and_of_one_that_does_not(driver: QemuDriver, xml: Xml) -> None:
    ref = await driver.define(xml("one"), 0)
    every = StatsTypes(sum(StatsTypes))
    off = driver.statistics(ref.uuid, every)
    assert (off["state.state"], off["vcpu.maximum"], off["balloon.maximum"], off["block.count"]) == (5, 1, 32768, 0)
    assert "cpu.time" not in off
    await driver.start(ref.uuid, CreateFlags.PAUSED, None)
    on = driver.statistics(ref.uuid, every)
    assert on["state.state"] == 3
    assert on["cpu.time"] == int(on["cpu.user"]) + int(on["cpu.system"])
    assert int(on["balloon.rss"]) > 1000
    assert on["vcpu.0.state"] == 1
    assert on["net.count"] == 0
    assert set(driver.statistics(ref.uuid, StatsTypes.STATE)) == {"state.state", "state.reason"}
    assert driver.vcpu_counts(ref.uuid, Affect.LIVE) == driver.vcpu_counts(ref.uuid, Affect.CONFIG) == (1, 1)
    await driver.destroy(ref.uuid, 0)


def test_a_process_that_is_gone_has_used_nothing() -> None:
    assert cpu_time(2**22 + 1) == (0, 0)
    assert resident_kib(2**22 + 1) == 0
