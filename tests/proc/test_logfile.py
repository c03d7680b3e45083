from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.errors import SystemFailure
from virlet.proc.logfile import cap, locked, open_log, tail


def test_a_log_is_private_appended_to_and_closed_on_exec(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\n")
    path.chmod(0o600)
    fd = open_log(path)
    os.write(fd, b"new\n")
    assert not os.get_inheritable(fd)
    os.close(fd)
    assert path.read_text() == "old\nnew\n"
    other = tmp_path / "y.log"
    os.close(open_log(other))
    assert stat.S_IMODE(other.stat().st_mode) == 0o600


def test_a_log_can_be_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    path.write_text("old\n")
    os.close(open_log(path, truncate=True))
    assert path.read_text() == ""


def test_a_log_that_cannot_be_opened_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(SystemFailure, match=r"cannot open log file .*No such file") as caught:
        open_log(tmp_path / "none" / "x.log")
    assert "mkdir" in (caught.value.hint or "")


@pytest.mark.parametrize("kind", ["fifo", "directory", "device"])
def test_a_log_that_is_no_file_is_refused_and_hangs_nobody(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path = Path("/dev/null")
    with pytest.raises(SystemFailure):
        open_log(path)


def test_a_writer_goes_on_after_the_log_was_rotated(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    fd = open_log(path)
    os.write(fd, b"a" * 50 + b"b" * 100)
    assert cap(path, 100)
    os.write(fd, b"c")
    os.close(fd)
    assert path.read_bytes() == b"c"
    assert (tmp_path / "x.log.1").read_bytes() == b"b" * 100
    assert not cap(path, 100)


def test_rotating_replaces_a_link_and_does_not_follow_it(tmp_path: Path) -> None:
    path, precious = tmp_path / "x.log", tmp_path / "precious"
    precious.write_text("keep")
    (tmp_path / "x.log.1").symlink_to(precious)
    path.write_text("x" * 11)
    assert cap(path, 10)
    assert precious.read_text() == "keep"


def test_a_log_that_is_gone_needs_no_rotation_and_has_no_tail(tmp_path: Path) -> None:
    assert not cap(tmp_path / "none")
    assert tail(tmp_path / "none") == ""
    assert tail(tmp_path) == "", "what cannot be read has nothing to say"


@given(st.binary(max_size=300), st.integers(1, 100))
def test_a_tail_is_the_end_of_the_log_and_never_longer(data: bytes, limit: int) -> None:
    """Invariant: at most *limit* bytes, from the end, beginning after a newline unless it is everything."""
    path = Path(f"/proc/self/fd/{(fd := os.memfd_create('log'))}")
    path.write_bytes(data)
    text = tail(path, limit)
    os.close(fd)
    end = data[-limit:] if len(data) <= limit else data[-limit:].partition(b"\n")[2]
    assert text == end.decode("utf-8", "replace").strip()


def test_what_passt_says_of_a_missing_syslog_is_not_its_last_word(tmp_path: Path) -> None:
    path = tmp_path / "passt.log"
    path.write_text("Failed to send 39 bytes to syslog\nInvalid port specifier %lo/26500\n")
    assert tail(path) == "Invalid port specifier %lo/26500"


def test_a_log_is_locked_as_long_as_somebody_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "x.log"
    assert not locked(path)
    fd = open_log(path)
    assert not locked(path)
    fcntl.flock(fd, fcntl.LOCK_EX)
    child = os.dup(fd)
    os.close(fd)
    assert locked(path)
    assert locked(path)
    os.close(child)
    assert not locked(path)
