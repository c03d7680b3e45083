"""Logs of guests that run, and of those that are no more."""

from __future__ import annotations

import asyncio
import fcntl
import os
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from virlet.engine.logs import GONE_DAYS, GONE_KEPT, sweep_logs
from virlet.proc.logfile import MAX_LOG, open_log

NIC = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><backend type='passt'/></interface>"
)

NOW = 2_000_000_000.0


def log_of(root: Path, age_days: float, uuid: UUID | None = None) -> Path:
    directory = root / str(uuid or uuid4())
    directory.mkdir()
    (directory / "qemu.log").write_text("said")
    for path in (directory / "qemu.log", directory):
        os.utime(path, (NOW - age_days * 86_400,) * 2)
    return directory


def test_old_logs_of_guests_that_are_no_more_go(tmp_path: Path) -> None:
    old, fresh = log_of(tmp_path, GONE_DAYS + 1), log_of(tmp_path, GONE_DAYS - 1)
    assert sweep_logs(tmp_path, set(), NOW) == [old]
    assert not old.exists()
    assert fresh.exists()


def test_no_more_than_so_many_are_kept_the_newest(tmp_path: Path) -> None:
    made = [log_of(tmp_path, n / 100) for n in range(GONE_KEPT + 3)]
    assert set(sweep_logs(tmp_path, set(), NOW)) == set(made[GONE_KEPT:])


def test_logs_of_known_guests_and_things_of_other_names_stay(tmp_path: Path) -> None:
    uuid = uuid4()
    log_of(tmp_path, 100, uuid)
    (tmp_path / "mine").mkdir()
    os.utime(tmp_path / "mine", (0, 0))
    assert sweep_logs(tmp_path, {uuid}, NOW) == []


def test_a_log_that_a_running_qemu_holds_stays(tmp_path: Path) -> None:
    directory = log_of(tmp_path, 100)
    with (directory / "qemu.log").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert sweep_logs(tmp_path, set(), NOW) == []
    assert sweep_logs(tmp_path, set(), NOW) == [directory]


async def grown(path: Path) -> None:
    """Wait until *path* was rotated."""
    older = path.with_name(path.name + ".1")
    async with asyncio.timeout(10):
        while not (older.is_file() and path.stat().st_size <= MAX_LOG):  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_the_logs_of_a_running_guest_stay_small_and_its_processes_write_on(
    opener: Any, faking: Any, xml: Any, dirs: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("virlet.engine.logs.LOOK_INTERVAL", 0.02)
    monkeypatch.setattr("virlet.engine.logs.FLOODED_INTERVAL", 0.01)
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=NIC), 0)).uuid
    await driver.start(uuid, 0, None)
    logs = dirs.state / "log" / str(uuid)
    qemu, passt = logs / "qemu.log", logs / "net0-passt.log"
    (logs / "net0-passt.log.1").mkdir()  # This one cannot be rotated.
    child, other = open_log(qemu), open_log(passt)  # As the processes have them.
    os.write(other, b"y" * (MAX_LOG + 1))
    for _ in range(3):
        os.write(child, b"x" * (MAX_LOG + 100_000) + b"end\n")
        await grown(qemu)
        assert (logs / "qemu.log.1").stat().st_size == MAX_LOG
        assert (logs / "qemu.log.1").read_bytes().endswith(b"end\n")
        (logs / "qemu.log.1").unlink()
    os.write(child, b"more\n")
    os.close(child)
    os.close(other)
    assert qemu.read_bytes() == b"more\n"
    assert passt.stat().st_size > MAX_LOG
    assert len([each for each in caplog.messages if "net0-passt.log" in each]) == 1
    await driver.destroy(uuid, 0)


def test_where_nothing_was_logged_nothing_is_swept(tmp_path: Path) -> None:
    assert sweep_logs(tmp_path / "none", set(), NOW) == []
