"""systemd's two protocols."""

from __future__ import annotations

import os
import socket

import pytest

from virlet.daemon import sd
from virlet.errors import SystemFailure


@pytest.mark.parametrize("abstract", [False, True])
def test_readiness_reaches_the_manager(tmp_path, abstract):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        name = f"@virlet-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
        manager.bind(name.replace("@", "\0", 1) if abstract else name)
        assert sd.notify("READY=1", {"NOTIFY_SOCKET": name})
        assert manager.recv(100) == b"READY=1"


def test_without_a_manager_nothing_is_said():
    assert not sd.notify("READY=1", {})


def test_a_manager_that_is_gone_is_an_error_with_its_address(tmp_path):
    with pytest.raises(SystemFailure, match=f"{tmp_path}/none"):
        sd.notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")})


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "x"},
    ],
)
def test_descriptors_for_another_process_are_not_ours(environ):
    assert sd.listen_fds(environ) == {}
    assert environ == {}, "a child must not take them for its own"


def test_passed_sockets_have_names(monkeypatch):
    first = max(int(name) for name in os.listdir("/proc/self/fd")) + 1
    for number in (first, first + 1):
        with socket.socket(socket.AF_UNIX) as sock:
            os.dup2(sock.fileno(), number)
    monkeypatch.setattr(sd, "FIRST_FD", first)
    found = sd.listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "2", "LISTEN_FDNAMES": "virletd"})
    assert sorted(found) == ["unknown", "virletd"]
    for (sock,) in found.values():
        assert not sock.get_inheritable()
        sock.close()


def test_a_passed_file_is_refused(monkeypatch, tmp_path):
    fd = os.open(tmp_path, os.O_RDONLY)
    monkeypatch.setattr(sd, "FIRST_FD", fd)
    with pytest.raises(SystemFailure, match=f"descriptor {fd}"):
        sd.listen_fds({"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"})
    os.close(fd)
