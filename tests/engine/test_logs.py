"""Logs of guests that are no more."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from uuid import UUID, uuid4

from virlet.engine.logs import GONE_DAYS, GONE_KEPT, sweep_logs

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


def test_where_nothing_was_logged_nothing_is_swept(tmp_path: Path) -> None:
    assert sweep_logs(tmp_path / "none", set(), NOW) == []
