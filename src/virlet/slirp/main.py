"""The program ``virlet-slirp-helper``."""

from __future__ import annotations

import ctypes
import json
import os
import resource
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from virlet.errors import SystemFailure
from virlet.plan.rights import Grant, Right
from virlet.proc import confine
from virlet.slirp.forwards import ForwardFailed, add_guest_forward, add_host_forward
from virlet.slirp.library import Library, LibraryMissing
from virlet.slirp.options import FEATURES, BadOption, Options, parse_options
from virlet.slirp.stack import Stack

__all__ = ["main"]

_PR_SET_PDEATHSIG = 1
_RESOLVER = Path("/etc/resolv.conf")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the helper; the exit status: 1 when something failed, 2 for a wrong option, 0 when QEMU has ended.

    Once frames were carried it does not return, but ends the process.
    """
    try:
        options = parse_options(sys.argv[1:] if argv is None else argv)
    except BadOption as error:
        return _fail(error, 2)
    try:
        library = Library()
        if options is None:
            print(json.dumps(capabilities(library)))
            return 0
        if options.exit_with_parent and not _die_with(os.getppid()):
            return 0
        confine.allow_tracing()  # A later virletd, which is not our parent, fetches our socket from us.
        stack = _set_up(library, options)
        _confine(options)
    except (LibraryMissing, ForwardFailed, SystemFailure, OSError) as error:
        os._exit(_fail(error, 1))  # as below
    if options.ready_fd is not None:
        os.write(options.ready_fd, b"READY=1\n")
        os.close(options.ready_fd)
    stack.run(options.exit_with_fd)
    os._exit(0)  # libslirp's connections end with us, and the sealed callbacks cannot be freed.


def _fail(error: Exception, status: int) -> int:
    print(f"virlet-slirp-helper: {error}", file=sys.stderr, flush=True)
    return status


def capabilities(library: Library) -> dict[str, object]:
    """What ``--print-capabilities`` says."""
    features = [word for word in FEATURES if word != "hostfwd-ipv6" or library.add_hostxfwd is not None]
    return {
        "type": "slirp-helper",
        "features": features,
        "libslirp": library.version_text,
        "landlock": confine.landlock_version(),
    }


def _set_up(library: Library, options: Options) -> Stack:
    _check_socket(options.fd)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, hard), hard))
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    stack = Stack(library, options)
    for forward in options.host_forwards:
        add_host_forward(library, stack, options, forward)
    for guest in options.guest_forwards:
        add_guest_forward(library, stack, guest)
    return stack


def _check_socket(fd: int) -> None:
    try:
        with socket.socket(fileno=os.dup(fd)) as sock:
            if sock.family is not socket.AF_UNIX or sock.type is not socket.SOCK_DGRAM:
                raise OSError(f"--fd {fd} is no UNIX datagram socket")
            # Room for several of the largest frames; the kernel cuts it to net.core.wmem_max.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    except OSError as error:
        raise OSError(f"--fd {fd} cannot be used: {error.strerror or error}") from None


def _confine(options: Options) -> None:
    """Give up everything that carrying frames does not need.

    libslirp reads the resolver's file again when it changes, and it changes by being replaced, so every file of known
    name in its directory stays readable.  Commands of ``--guestfwd`` run in the same confinement: they read and run
    anything and write nothing.
    """
    kinds = {forward.kind for forward in options.guest_forwards}
    commands = bool(kinds & {"cmd", "tcp"})
    grants = [Grant(_RESOLVER.resolve().parent, Right.OPEN)]
    if options.tftp is not None:
        grants.append(Grant(options.tftp, Right.READ))
    if commands:
        grants.append(Grant(Path("/"), Right.READ | Right.EXECUTE, must=True))
        grants.append(Grant(Path(os.devnull), Right.READ | Right.WRITE, must=True))
    confine.deny_new_privileges()
    confine.deny_core_dumps()
    confine.seal_code()
    confine.deny_writable_code(children=not commands)
    confine.restrict(grants, connect=commands or "unix" in kinds)


def _die_with(parent: int) -> bool:
    """SIGTERM when the process that started us ends; False when it has ended already.

    The kernel means the *thread* that started us (prctl(2), PR_SET_PDEATHSIG), so a parent with threads that come and
    go gives ``--exit-with-fd`` instead.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    return os.getppid() == parent
