"""A guest that has taken over its QEMU has this user's uid; the daemon does not serve it all the same."""

from __future__ import annotations

import asyncio
import os

from virlet.daemon.drivers import Drivers


class Suspicious:
    """A driver that takes this very process for a guest's."""

    def __init__(self, kit):
        self.inner = kit.MemoryDriver()

    def __getattr__(self, name):
        return getattr(self.inner, name)

    def is_guest(self, pid):
        return pid == os.getpid()


async def test_a_guest_s_own_process_is_not_let_in(kit, caplog):
    async with kit.serving(Suspicious(kit)) as (_, path):
        reader, writer = await asyncio.open_unix_connection(str(path))
        assert await reader.read() == b""
        writer.close()
    assert "a guest's own process" in caplog.text


async def test_a_driver_without_processes_suspects_nobody(kit):
    class Nothing:
        def attach(self, driver):
            pass

    drivers = Drivers(Nothing())
    drivers.add("memory:///", kit.MemoryDriver())
    assert not drivers.is_guest(os.getpid())
