"""A start whose last status write fails: a nearly full disk may take the smaller ones before it."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from unclaimed import free_port

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.status import Phase, Record, StatusDir
from virlet.errors import SystemFailure
from virlet.plan.facts import Facts

Recorder = Any
Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
KINDS = {
    "passt": "<interface type='user'><backend type='passt'/>{forward}</interface>",
    "vhost-user": "<interface type='vhostuser'><backend type='passt'/>{forward}</interface>",
    "slirp helper": "<interface type='user'>{forward}<virlet:backend"
    " xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/></interface>",
}


def card(kind: str) -> str:
    forward = f"<portForward proto='tcp' address='127.0.0.1'><range start='{free_port()}' to='22'/></portForward>"
    return KINDS[kind].format(forward=forward)


def able(facts: Facts) -> Facts:
    """With a QEMU and a passt that know vhost-user, as the fakes do."""
    (qemu,), passt = facts.qemu.values(), facts.passt
    assert passt is not None
    chardevs = {**qemu.chardevs, "socket": qemu.chardevs["socket"] | {"reconnect-ms"}}
    later = replace(qemu, chardevs=chardevs, events=qemu.events | {"NETDEV_VHOST_USER_CONNECTED"})
    return replace(facts, qemu={later.path: later}, passt=replace(passt, options=passt.options | {"vhost-user", "fd"}))


def descriptors() -> list[str]:
    """Of which kinds there are."""
    return sorted(
        target.partition("[")[0]
        for name in os.listdir("/proc/self/fd")
        if os.path.lexists(path := f"/proc/self/fd/{name}")
        and not (target := os.readlink(path)).startswith(("/proc", "/dev/urandom"))
    )


@pytest.mark.parametrize("kind", KINDS)
async def test_nothing_is_left_of_it_and_no_helper_is_told_to_be_lost(
    kind: str,
    opener: Open,
    faking: Faking,
    recorder: Recorder,
    xml: Xml,
    dirs: Dirs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    driver = await opener(able(faking()))
    uuid = (await driver.define(xml(devices=card(kind), extra=SHARED), 0)).uuid
    await driver.start(uuid, 0, None)  # What is imported and opened once is open now.
    await driver.destroy(uuid, 0)
    before = descriptors()
    save = StatusDir.save

    def nearly_full(self: StatusDir, record: Record) -> None:
        if record.phase is Phase.RUNNING:
            raise SystemFailure("cannot write: No space left on device", errno=errno.ENOSPC)
        save(self, record)

    driver.subscribe(recorder)
    caplog.set_level(logging.ERROR)
    with monkeypatch.context() as patch:
        patch.setattr(StatusDir, "save", nearly_full)
        with pytest.raises(SystemFailure, match="No space left"):
            await driver.start(uuid, 0, None)
    assert not driver.is_active(uuid)
    for _ in range(10):
        await asyncio.sleep(0)
    assert recorder.helpers == []
    assert caplog.text == ""
    assert list(dirs.runtime.rglob("*")) == []
    assert list(dirs.state.rglob("*.json")) == []
    assert descriptors() == before
    await driver.start(uuid, 0, None)
    await driver.destroy(uuid, 0)
