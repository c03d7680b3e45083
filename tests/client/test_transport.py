"""virlet.client.transport: sockets that keep passed descriptors."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from virlet.client.transport import close_all, dial, receive, send_fd
from virlet.client.uri import Target
from virlet.errors import NoConnect, SystemFailure
from virlet.wire.packet import PING, Framer, packet


def target(*paths: Path) -> Target:
    return Target("x:///y", "x:///y", paths, autostart=False)


def test_reading_ahead_loses_no_descriptor() -> None:
    """Everything is on its way before the first read, as a fast peer sends it."""
    ours, theirs = socket.socketpair()
    with ours, theirs, open(os.devnull) as null:
        body = (2).to_bytes(4, "big")
        for _ in range(2):
            theirs.sendall(PING + packet(1, 1, 1, 4, 0, 0, body))
            send_fd(theirs, null.fileno())
            send_fd(theirs, null.fileno())
            theirs.sendall(PING)
        theirs.close()
        framer = Framer()
        packets = []
        while (got := receive(ours))[0]:
            packets += framer.feed(*got)
        assert framer.broken is None
        assert [len(one.fds) for one in packets] == [0, 2, 0, 0, 2, 0]
        fds = [fd for one in packets for fd in one.fds]
        assert all(not os.get_inheritable(fd) for fd in fds)
        close_all(fds)


def test_the_first_path_with_a_listener_is_dialled(tmp_path: Path) -> None:
    stale, live = tmp_path / "stale", tmp_path / "live"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(live))
        listener.listen()
        with dial(target(tmp_path / "none", stale, live)) as sock:
            assert sock.getpeername() == str(live)


def test_nobody_and_no_permission_are_different_errors(tmp_path: Path) -> None:
    with pytest.raises(NoConnect, match=r"none or .*other"):
        dial(target(tmp_path / "none", tmp_path / "other"))
    with pytest.raises(SystemFailure, match=r"hint: .* at most 107 bytes"):
        dial(target(tmp_path / "none" / ("x" * 90)))
    (tmp_path / "file").write_text("")
    with pytest.raises((NoConnect, SystemFailure)):
        dial(target(tmp_path / "file"))
