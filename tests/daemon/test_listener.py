"""Where we listen, and who may come in."""

from __future__ import annotations

import os
import socket
import stat

import pytest

from virlet.daemon.listener import Listener, Peer, make_private, may_enter, peer_of
from virlet.errors import AuthFailed


def test_the_socket_is_for_its_owner_alone_and_goes_with_the_listener(tmp_path):
    path = tmp_path / "run" / "s"
    listener = Listener(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert os.listdir(path.parent) == ["s"]
    listener.close()
    assert not path.exists()


def test_a_stale_socket_is_replaced(tmp_path):
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as old:
        old.bind(str(path))
    listener = Listener(path)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        assert peer_of(client).pid == os.getpid()
    listener.close()


def test_a_path_that_somebody_else_took_over_is_left_alone(tmp_path):
    path = tmp_path / "s"
    first = Listener(path)
    second = Listener(path)
    assert second.is_ours()
    assert not first.is_ours()
    first.close()
    assert path.exists()
    second.close()


def test_a_path_longer_than_an_address(tmp_path):
    path = tmp_path / ("d" * 120) / "s"
    listener = Listener(path)
    assert stat.S_ISSOCK(path.stat().st_mode)
    listener.close()


def test_a_passed_socket_keeps_its_path(tmp_path):
    path = tmp_path / "s"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen()
    listener = Listener(path, sock)
    assert listener.is_ours()
    listener.close()
    assert path.exists()


def test_a_directory_that_others_may_write_to_is_refused(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    with pytest.raises(AuthFailed, match="mode 0777"):
        make_private(tmp_path / "open")


def test_a_directory_of_anothers_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(AuthFailed, match=f"owned by uid {os.getuid()}"):
        make_private(tmp_path)


@pytest.mark.parametrize("uid", [0, 1, 65_534])
def test_only_this_user_may_enter_not_even_root(uid):
    with pytest.raises(AuthFailed, match=f"uid {uid}"):
        may_enter(Peer(1, uid, uid), 1000)


def test_this_user_may_enter():
    may_enter(Peer(1, 1000, 5), 1000)
