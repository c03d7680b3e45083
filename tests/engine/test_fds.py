"""The sockets that a plan's sources become."""

from __future__ import annotations

import socket
from pathlib import Path

from virlet.engine.fds import FRAMES, FdTable, dial, listen
from virlet.plan.base import Dial


def allowed() -> int:
    """The most that the kernel gives a sender here, which is twice what it lets a program ask for (socket(7))."""
    return 2 * min(FRAMES, int(Path("/proc/sys/net/core/wmem_max").read_text()))


def test_what_is_dialled_has_as_much_room_for_frames_as_the_kernel_allows(tmp_path: Path) -> None:
    path = tmp_path / "net"
    with listen(path), FdTable() as fds:
        fds.open((Dial(path),))
        with socket.socket(fileno=fds[Dial(path)]) as helpers:
            room = helpers.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
            helpers.detach()
    assert room >= allowed()


def test_a_burst_of_frames_waits_for_a_qemu_that_is_busy(tmp_path: Path) -> None:
    """passt does not wait: what finds no room is lost.  The kernel's default holds three or four frames."""
    frame = bytes(1 << 16)
    frames = allowed() // len(frame) * 3 // 4  # the kernel counts its own structures as well
    with listen(tmp_path / "net") as qemu, dial(tmp_path / "net") as helper:
        sent = sum(helper.send(frame, socket.MSG_DONTWAIT) for _ in range(frames))
        with qemu.accept()[0] as stream:
            helper.close()
            got = sum(iter(lambda: len(stream.recv(1 << 20)), 0))
    assert sent == got == frames * len(frame)
