"""A QEMU that runs on while the directory of its sockets is gone: seen, not touched, and ended when asked."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from collections.abc import Awaitable, Callable
from typing import cast

import pytest

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.enums import CreateFlags, DomainState
from virlet.errors import OperationFailed, OperationInvalid

Open = Callable[[], Awaitable[QemuDriver]]


async def test_a_guest_whose_monitor_has_vanished_is_shown_and_can_be_destroyed(
    driver: QemuDriver, xml: Callable[..., str], opener: Open, dirs: Dirs
) -> None:
    ref = await driver.define(xml("one"), 0)
    await driver.start(ref.uuid, CreateFlags.PAUSED, None)
    await driver.close()
    shutil.rmtree(dirs.runtime)
    heir = await opener()
    assert heir.state(ref.uuid)[0] is DomainState.PAUSED
    assert any("can only be destroyed" in str(each) for each in (await heir.doctor())["problems"])
    with pytest.raises(OperationFailed, match="cannot be reached"):
        await heir.resume(ref.uuid)
    with pytest.raises(OperationInvalid, match="already running"):
        await heir.start(ref.uuid, 0, None)
    await heir.destroy(ref.uuid, 0)
    assert heir.state(ref.uuid)[0] is DomainState.SHUTOFF
    await heir.start(ref.uuid, CreateFlags.PAUSED, None)
    await heir.destroy(ref.uuid, 0)


@pytest.mark.skipif(shutil.which("passt") is None, reason="needs passt")
async def test_a_helper_comes_back_although_the_directory_of_its_socket_is_gone(
    driver: QemuDriver, xml: Callable[..., str], dirs: Dirs
) -> None:
    nic = "<interface type='user'><model type='virtio'/><backend type='passt'/></interface>"
    ref = await driver.define(xml("one", devices=nic), 0)
    restarted = asyncio.Event()
    driver.subscribe(lambda event: restarted.set() if getattr(event, "kind", "") == "restarted" else None)
    await driver.start(ref.uuid, 0, None)
    shutil.rmtree(dirs.runtime)
    (helper,) = cast("list[dict[str, int]]", driver.details(ref.uuid)["helpers"])
    os.kill(helper["pid"], signal.SIGKILL)
    async with asyncio.timeout(30):
        await restarted.wait()
    await driver.destroy(ref.uuid, 0)
