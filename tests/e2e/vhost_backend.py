"""A vhost-user back end that carries nothing: it answers what QEMU asks, so that the guest starts (QEMU's protocol)."""

from __future__ import annotations

import array
import contextlib
import os
import socket
import struct
import threading
from pathlib import Path

__all__ = ["Backend"]

_HEADER = struct.Struct("=III")
_REPLY = 0x1 | 0x4
_GET_FEATURES, _GET_VRING_BASE, _GET_PROTOCOL_FEATURES, _GET_QUEUE_NUM = 1, 11, 15, 17
_FEATURES = 1 << 15 | 1 << 17 | 1 << 22 | 1 << 30 | 1 << 32  # merged buffers, control queue, queues, protocol, virtio 1
_MQ = 1


class Backend:
    """Serves one connection after the other on a thread of its own, until closed."""

    def __init__(self, queues: int = 4) -> None:
        self.queues = queues
        self.served = 0
        self._sockets: list[socket.socket] = []
        self._thread: threading.Thread | None = None

    def listen(self, path: Path) -> Backend:
        """Be the server: QEMU dials."""
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(str(path))
        sock.listen(4)
        return self._begin(sock, self._accept)

    def dial(self, path: Path) -> Backend:
        """Be the client: QEMU listens."""
        sock = socket.socket(socket.AF_UNIX)
        sock.connect(str(path))
        return self._begin(sock, self._serve)

    def close(self) -> None:
        for sock in self._sockets:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self._thread is not None:
            self._thread.join(10)
        for sock in self._sockets:
            sock.close()

    def _begin(self, sock: socket.socket, work: object) -> Backend:
        assert callable(work)
        self._sockets.append(sock)
        self._thread = threading.Thread(target=work, args=(sock,), daemon=True)
        self._thread.start()
        return self

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            with peer:
                self._serve(peer)

    def _serve(self, peer: socket.socket) -> None:
        self.served += 1
        with contextlib.suppress(OSError):  # QEMU may hang up in the middle of a word
            self._talk(peer)

    def _talk(self, peer: socket.socket) -> None:
        while True:
            head, ancillary, *_ = peer.recvmsg(_HEADER.size, 1024)
            fds = array.array("i")
            for _, _, data in ancillary:
                fds.frombytes(data)
            for fd in fds:
                os.close(fd)
            if len(head) < _HEADER.size:
                return
            request, _, size = _HEADER.unpack(head)
            body = peer.recv(size, socket.MSG_WAITALL) if size else b""
            self._answer(peer, request, body)

    def _answer(self, peer: socket.socket, request: int, body: bytes) -> None:
        said = {
            _GET_FEATURES: struct.pack("=Q", _FEATURES),
            _GET_PROTOCOL_FEATURES: struct.pack("=Q", _MQ),
            _GET_QUEUE_NUM: struct.pack("=Q", self.queues),
            _GET_VRING_BASE: body[:4] + bytes(4),
        }.get(request)
        if said is not None:
            peer.sendall(_HEADER.pack(request, _REPLY, len(said)) + said)
