"""A process that has imported virletd once and forks one for whoever asks: 10 ms instead of 250 for a real daemon.

It reads a datagram for each on standard input: JSON with ``argv``, ``env`` and a file for its output, and the
descriptor for ``--ready-fd``; it answers with the pid.  A daemon's parent ends at once, so that the tests'
subreaper is the one that learns how it ended.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import sys
import traceback

import virlet
from virlet.daemon import main as daemon


def be_daemon(wanted: dict[str, object], ready: int) -> None:
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.environ.clear()
    os.environ.update(wanted["env"])  # type: ignore[call-overload]
    out = os.open(str(wanted["out"]), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDWR)
    for fd, source in ((0, nothing), (1, out), (2, out), (3, ready)):
        os.dup2(source, fd)
    os.closerange(4, 64)
    sys.argv = ["virletd"]
    exec(str(wanted["before"]), {})  # What the test wants changed in this daemon alone: limits, clocks.
    os._exit(daemon.main(["--ready-fd", "3", *wanted["argv"]]))  # type: ignore[misc]


def fork_daemon(wanted: dict[str, object], ready: int) -> int:
    reading, writing = os.pipe()
    middle = os.fork()
    if middle == 0:
        pid = os.fork()
        if pid == 0:
            try:
                be_daemon(wanted, ready)
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(70)
        os.write(writing, b"%d" % pid)
        os._exit(0)
    os.waitpid(middle, 0)
    pid = int(os.read(reading, 20))
    for fd in (reading, writing, ready):
        os.close(fd)
    return pid


def serve(sock: socket.socket) -> None:
    for module in pkgutil.walk_packages(virlet.__path__, "virlet."):
        if module.name.startswith(("virlet.engine", "virlet.daemon", "virlet.net", "virlet.plan", "virlet.proc")):
            importlib.import_module(module.name)
    gc.collect()
    gc.freeze()
    while True:
        data, fds, _, _ = socket.recv_fds(sock, 1 << 20, 1)
        if not data:
            return
        sock.send(b"%d" % fork_daemon(json.loads(data), fds[0]))


if __name__ == "__main__":
    serve(socket.socket(fileno=0))
