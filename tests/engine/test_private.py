"""Nothing that a guest has on disk can be read, or its sockets be dialled, by another user."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.files import check_owner
from virlet.enums import CreateFlags
from virlet.errors import SystemFailure

pytestmark = [
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64"),
    pytest.mark.skipif(os.getuid() == 0, reason="guests do not run as root"),
]

DEVICES = """<interface type='user'><model type='virtio'/><backend type='passt'/></interface>
<channel type='unix'><target type='virtio' name='org.one'/></channel>
<graphics type='vnc'><listen type='socket'/></graphics>
<serial type='file'><source path='{where}/serial.txt'/></serial>"""


async def test_every_file_directory_and_socket_is_the_user_s_alone(
    driver: QemuDriver, dirs: Dirs, xml: Callable[..., str], tmp_path: Path
) -> None:
    uuid = (await driver.define(xml(devices=DEVICES.format(where=tmp_path)), 0)).uuid
    # Whatever the daemon's own umask is.
    before = os.umask(0)
    try:
        await driver.start(uuid, CreateFlags.PAUSED, None)
        await driver.set_autostart(uuid, True)
    finally:
        os.umask(before)
    found = [path for root in (dirs.config, dirs.state, dirs.runtime) for path in (root, *root.rglob("*"))]
    assert sum(stat.S_ISSOCK(path.lstat().st_mode) for path in found) >= 4
    assert any(path.suffix == ".json" for path in found)
    assert any(path.suffix == ".log" for path in found)
    reachable = {str(path): oct(path.lstat().st_mode) for path in found if _open_to_others(path)}
    assert not reachable
    assert not _open_to_others(tmp_path / "serial.txt")


def _open_to_others(path: Path) -> bool:
    """By its own mode; a socket that QEMU binds has its directory's protection, and QEMU's umask."""
    return bool(path.lstat().st_mode & 0o077) and not path.is_symlink()


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
def test_a_directory_that_others_may_write_is_not_used(tmp_path: Path, mode: int) -> None:
    place = tmp_path / "virlet"
    place.mkdir()
    place.chmod(mode)
    with pytest.raises(SystemFailure, match="not a directory of yours alone"):
        check_owner(place)


def test_a_link_that_somebody_was_quicker_to_make_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "virlet").symlink_to("real")
    with pytest.raises(SystemFailure, match="not a directory of yours alone"):
        check_owner(tmp_path / "virlet")
