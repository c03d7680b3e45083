"""What is known of the filesystem below a directory."""

from __future__ import annotations

import os
from pathlib import Path

from virlet.engine.filesystem import filesystem_of, names_go_with_files


def _line(path: Path, kind: str) -> str:
    device = path.stat().st_dev
    return f"29 1 {os.major(device)}:{os.minor(device)} / / rw,relatime shared:1 - {kind} /dev/sda rw\n"


def test_the_type_is_that_of_the_mount_with_the_directory_s_device(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(f"22 1 0:99999 / /proc rw - proc proc rw\n{_line(tmp_path, 'xfs')}")
    assert filesystem_of(tmp_path, mounts) == "xfs"


def test_nothing_is_claimed_where_no_mount_has_the_device_or_a_line_makes_no_sense(tmp_path: Path) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text("22 1 0:99999 / /proc rw - proc proc rw\n\n - \n1 2 - ext4\nnonsense\n")
    assert filesystem_of(tmp_path, mounts) == ""
    assert filesystem_of(tmp_path, tmp_path / "missing") == ""
    assert filesystem_of(tmp_path / "missing", mounts) == ""


def test_names_are_only_said_to_go_with_files_on_a_filesystem_that_is_known_for_it(tmp_path: Path) -> None:
    assert names_go_with_files(tmp_path) == (filesystem_of(tmp_path) in ("ext4", "xfs"))
    assert not names_go_with_files(Path("/proc"))
