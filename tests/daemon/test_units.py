"""The units that the wheel ships."""

from __future__ import annotations

import shutil
import subprocess
from configparser import ConfigParser
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "units"


def unit(name):
    parser = ConfigParser(interpolation=None)
    parser.optionxform = str
    parser.read(UNITS / name)
    return parser


def test_guests_outlive_the_service_which_says_when_it_is_ready():
    service = unit("virletd.service")["Service"]
    assert (service["Type"], service["KillMode"]) == ("notify", "process")
    assert service["ExecStart"].endswith(" virletd")


def test_the_socket_is_where_clients_look_and_for_this_user_alone():
    socket = unit("virletd.socket")["Socket"]
    assert socket["ListenStream"] == "%t/virlet/virletd.sock"
    assert (socket["SocketMode"], socket["DirectoryMode"]) == ("0600", "0700")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_systemd_understands_them(tmp_path):
    said = subprocess.run(
        ["systemd-analyze", "verify", "--user", "--man=no", UNITS / "virletd.service", UNITS / "virletd.socket"],
        env={"XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (said.returncode, said.stderr) == (0, "")
