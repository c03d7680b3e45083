"""virlet.paths: where files go, by environment."""

from __future__ import annotations

from pathlib import Path

from virlet import paths

XDG = {
    "HOME": "/home/ada",
    "XDG_RUNTIME_DIR": "/run/user/7",
    "XDG_CONFIG_HOME": "/c",
    "XDG_STATE_HOME": "/s",
    "XDG_CACHE_HOME": "/k",
}


def test_xdg_variables_name_the_directories() -> None:
    assert paths.runtime_dir(XDG, 7) == Path("/run/user/7/virlet")
    assert paths.server_socket(XDG, 7) == Path("/run/user/7/virlet/virletd.sock")
    assert paths.config_dir(XDG, 7) == Path("/c/virlet")
    assert paths.state_dir(XDG, 7, "m", "b") == Path("/s/virlet/m/b")
    assert paths.state_dir(XDG, 7) == Path("/s/virlet")
    assert paths.cache_dir(XDG, 7) == Path("/k/virlet")
    assert paths.libvirt_socket_dir(XDG, 7) == Path("/run/user/7/libvirt")


def test_without_variables_the_home_directory_is_used() -> None:
    home = {"HOME": "/home/ada"}
    assert paths.runtime_dir(home, 7) == Path("/tmp/virlet-7")
    assert paths.config_dir(home, 7) == Path("/home/ada/.config/virlet")
    assert paths.state_dir(home, 7, "m") == Path("/home/ada/.local/state/virlet/m")
    assert paths.cache_dir(home, 7) == Path("/home/ada/.cache/virlet")
    assert paths.libvirt_socket_dir(home, 7) == Path("/home/ada/.cache/libvirt")


def test_relative_values_are_ignored() -> None:
    assert paths.runtime_dir({"XDG_RUNTIME_DIR": "run"}, 7) == Path("/tmp/virlet-7")


def test_a_user_without_home_has_one_in_the_password_database_or_the_root() -> None:
    assert paths.home_dir({}, 0) == Path("/root")
    assert paths.home_dir({}, 4_000_000_000) == Path("/")
