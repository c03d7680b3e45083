"""One daemon a user."""

from __future__ import annotations

import os

import pytest

from virlet.daemon.lock import DaemonLock, LockHeld
from virlet.errors import SystemFailure


def test_a_second_one_is_told_who_holds_it(tmp_path):
    first = DaemonLock(tmp_path / "lock")
    with pytest.raises(LockHeld, match=f"another virletd \\(pid {os.getpid()}\\)") as caught:
        DaemonLock(tmp_path / "lock")
    assert caught.value.holder == os.getpid()
    first.release()
    DaemonLock(tmp_path / "lock").release()


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SystemFailure, match="cannot open the lock file"):
        DaemonLock(tmp_path / "lock")
    assert not (tmp_path / "elsewhere").exists()


def test_what_a_dead_daemon_left_is_no_lock(tmp_path):
    (tmp_path / "lock").write_text("12345\n")
    lock = DaemonLock(tmp_path / "lock")
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n"
    lock.release()
