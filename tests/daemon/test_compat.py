"""Serving libvirt's own path, and never anybody else's."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from virlet.daemon import compat
from virlet.daemon.compat import Compat, held_by, pid_file_holder, recalled
from virlet.daemon.listener import Listener
from virlet.errors import InvalidArg, OperationDenied, ResourceBusy
from virlet.wire import virlet


@pytest.fixture
def setting(tmp_path):
    made = Compat(tmp_path / "config", tmp_path / "libvirt")
    yield made
    made.close()


def test_enabled_is_a_directory_of_links_to_the_daemon(setting):
    assert not setting.enabled
    setting.enable({})
    setting.enable({})
    assert setting.enabled
    assert sorted(os.listdir(setting.programs)) == ["environment", "libvirtd", "virtqemud"]
    assert (setting.programs / "libvirtd").resolve().name == "virletd"
    setting.disable()
    assert not setting.programs.exists()
    assert not setting.enabled


def test_what_clients_do_not_pass_on_is_recalled_by_a_daemon_that_they_start(setting):
    setting.enable({"XDG_STATE_HOME": "/there", "XDG_CONFIG_HOME": "/not/kept"})
    started = str(setting.programs / "virtqemud")
    assert recalled(started, {}) == {"XDG_STATE_HOME": "/there"}
    assert recalled(started, {"XDG_STATE_HOME": "/mine"}) == {}
    assert recalled(str(setting.programs / "virletd"), {}) == {}
    setting.enable({})
    assert recalled(started, {}) == {}


@pytest.mark.parametrize("written", [b"\xff\xfe", b"PATH=/evil\nLD_PRELOAD=x\n", b"=\n\0", b""])
def test_an_environment_file_sets_nothing_but_what_is_ours(setting, written):
    setting.enable({})
    (setting.programs / "environment").write_bytes(written)
    assert recalled(str(setting.programs / "libvirtd"), {}) == {}


def test_both_of_libvirts_paths_are_served_and_removed(setting, tmp_path):
    setting.enable({})
    assert [listener.path.name for listener in setting.listen()] == ["libvirt-sock", "virtqemud-sock"]
    assert setting.listen() == []
    assert held_by(tmp_path / "libvirt" / "libvirt-sock") == os.getpid()
    setting.disable()
    assert os.listdir(tmp_path / "libvirt") == []


@pytest.mark.parametrize("name", compat.SOCKETS)
def test_a_path_that_another_daemon_serves_is_left_to_it(setting, tmp_path, name):
    other = Listener(tmp_path / "libvirt" / name)
    setting.enable({})
    with pytest.raises(ResourceBusy, match=f"{name} is served by another daemon \\(pid {os.getpid()}\\)"):
        setting.listen()
    assert setting.status().serving == ()
    assert "is served by another daemon" in setting.status().reason
    assert os.listdir(tmp_path / "libvirt") == [name]
    other.close()
    assert len(setting.listen()) == 2


def test_a_libvirtd_that_does_not_listen_yet_is_seen_by_its_pid_file(setting, tmp_path):
    (tmp_path / "libvirt").mkdir()
    path = tmp_path / "libvirt" / "libvirtd.pid"
    code = (
        "import fcntl, sys\n"
        f"held = open({str(path)!r}, 'w')\n"
        "fcntl.lockf(held, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\n"
        "sys.stdin.read()\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout.readline() == b"held\n"
        assert pid_file_holder(path) == other.pid
        with pytest.raises(ResourceBusy, match=f"libvirtd \\(pid {other.pid}\\) runs"):
            setting.listen()
        other.communicate()
    assert pid_file_holder(path) is None
    assert pid_file_holder(tmp_path / "none") is None


def test_a_stale_socket_of_a_dead_libvirtd_is_replaced(setting, tmp_path):
    import socket

    (tmp_path / "libvirt").mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "libvirt" / "libvirt-sock"))
    assert len(setting.listen()) == 2


async def test_a_client_switches_it(client, server, tmp_path, kit):
    (answer,) = await client.ask(virlet.COMPAT, "enable", 0)
    told = json.loads(answer)
    assert told["enabled"] is True
    assert told["serving"] == [str(tmp_path / "libvirt" / name) for name in compat.SOCKETS]
    assert told["directory"] == str(tmp_path / "config" / "compat")
    stock = kit.RawClient(tmp_path / "libvirt" / "libvirt-sock")
    from virlet.wire import remote

    assert await stock.ask(remote.AUTH_LIST) == ((0,),)
    assert json.loads((await client.ask(virlet.COMPAT, "disable", 0))[0])["serving"] == []
    assert await stock.ask(remote.AUTH_LIST) == ((0,),), "who is in stays"
    stock.close()
    with pytest.raises(InvalidArg, match="compat has no action 'x'"):
        await client.ask(virlet.COMPAT, "x", 0)


async def test_a_read_only_client_may_look_but_not_switch(connect, kit):
    from virlet.wire import remote

    one = connect()
    await one.ask(remote.CONNECT_OPEN, kit.URI, 1)
    assert json.loads((await one.ask(virlet.COMPAT, "status", 0))[0])["enabled"] is False
    with pytest.raises(OperationDenied):
        await one.ask(virlet.COMPAT, "enable", 0)
