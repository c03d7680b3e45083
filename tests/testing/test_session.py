"""What a kit sees of the virletd under it."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import cast

from virlet.client.sync import Connection
from virlet.proc.spawn import Command, spawn
from virlet.testing.session import LiveDaemon, outlived


async def test_what_a_daemon_has_started_is_seen_and_when_it_has_ended(tmp_path: Path) -> None:
    daemon = LiveDaemon(cast("Connection", None), os.getpid(), tmp_path)
    before = daemon.children()
    process = await spawn(Command(("/bin/sleep", "60")), "sleep")
    assert process.pid in daemon.children() - before
    assert outlived(frozenset({process.pid}), 0.01) == {process.pid}
    process.signal(signal.SIGKILL)
    await process.exited()
    assert not outlived(frozenset({process.pid}))
