"""Whether a file can be had is known before anything is done."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from virlet.engine.needs import file_problem
from virlet.plan.base import Access, FileNeed

pytestmark = pytest.mark.skipif(os.getuid() == 0, reason="root may everything: run this as an ordinary user")


def problem(path: Path, access: Access) -> int:
    return file_problem(FileNeed(path, access, "devices/serial[1]/source/@path", "file"))


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with one of each."""
    (tmp_path / "file").write_text("mine")
    (tmp_path / "locked").mkdir(mode=0o500)
    (tmp_path / "unwritable").touch(mode=0o400)
    (tmp_path / "link").symlink_to("not-yet")
    (tmp_path / "astray").symlink_to("nowhere/file")
    for end in ("in", "out"):
        os.mkfifo(tmp_path / f"pipe.{end}")
    os.mkfifo(tmp_path / "half.in")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    return tmp_path


@pytest.mark.parametrize(
    ("name", "access", "number"),
    [
        ("new", Access.CREATE, 0),
        ("file", Access.CREATE, 0),
        ("link", Access.CREATE, 0),
        ("pipe.in", Access.CREATE, 0),
        ("astray", Access.CREATE, errno.ENOENT),
        ("nowhere/new", Access.CREATE, errno.ENOENT),
        ("file/new", Access.CREATE, errno.ENOTDIR),
        ("locked", Access.CREATE, errno.EISDIR),
        ("locked/new", Access.CREATE, errno.EACCES),
        ("unwritable", Access.CREATE, errno.EACCES),
        ("new", Access.BIND, 0),
        ("socket", Access.BIND, 0),
        ("file", Access.BIND, errno.EEXIST),
        ("link", Access.BIND, errno.EEXIST),
        ("locked/new", Access.BIND, errno.EACCES),
        ("nowhere/new", Access.BIND, errno.ENOENT),
        ("x" * 108, Access.BIND, errno.ENAMETOOLONG),
        ("pipe", Access.PIPE, 0),
        ("pipe.in", Access.PIPE, 0),
        ("half", Access.PIPE, errno.ENOENT),
        ("new", Access.READ_WRITE, errno.ENOENT),
        ("locked", Access.EXECUTE, errno.EISDIR),
        ("file", Access.EXECUTE, errno.EACCES),
        ("bad\0name", Access.CREATE, errno.EINVAL),
    ],
)
def test_what_opening_it_would_say(name: str, access: Access, number: int, place: Path) -> None:
    before = sorted(place.iterdir())
    assert problem(place / name, access) == number
    assert sorted(place.iterdir()) == before
