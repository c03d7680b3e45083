"""What must be there before a start: files of the user's and free ports.  Looked at before anything is done."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from pathlib import Path

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import BadConfig, Problem
from virlet.plan.base import Access, FileNeed, LaunchPlan, NetPlan, TcpPeer
from virlet.proc.ports import conflicts, ranges
from virlet.proc.sockets import Listeners, Owner, PortRange, listeners

__all__ = ["file_problem", "hint_for", "look", "port_problems", "refuse", "refuse_net"]

_MODES = {
    Access.READ: os.R_OK,
    Access.READ_WRITE: os.R_OK | os.W_OK,
    Access.EXECUTE: os.R_OK | os.X_OK,
    Access.SOCKET: os.W_OK,
    Access.CREATE: os.W_OK,
    Access.PIPE: os.R_OK | os.W_OK,
}
_LONGEST_SOCKET = 107


_OUT_OF_FILES = (os.strerror(errno.EMFILE), "Can't open enough sockets", "Couldn't listen on requested ports")
"""What passt, which has a socket for each port, says of too many of them; the second in 2023, the third in 2026."""


def hint_for(said: str, otherwise: str) -> str:
    """What to do about a helper's last words, where they have a known cause."""
    if any(words in said for words in _OUT_OF_FILES):
        return "forward fewer ports, or raise the hard limit of open files (RLIMIT_NOFILE; LimitNOFILE= of a unit)"
    return otherwise


def look(nets: Iterable[NetPlan], owner: Owner | None = None) -> Listeners:
    """Who listens now on the host ports that *nets* listen on or connect to."""
    return listeners(_ports(nets), owner)


def _ports(nets: Iterable[NetPlan]) -> Iterator[PortRange]:
    for net in nets:
        yield from ranges((*net.listens_on, *net.binds))
        if net.dials is not None:
            yield PortRange("tcp", net.dials.port, net.dials.port)


def refuse(plan: LaunchPlan, before: Listeners, locate: Callable[[Problem], Problem]) -> None:
    """Raise :class:`BadConfig` with all that is missing: files first, then ports; nothing has been touched."""
    emulator = FileNeed(plan.emulator, Access.EXECUTE, "devices/emulator", "emulator")
    found = [(file_problem(need), need) for need in (emulator, *plan.files_needed)]
    errnos = [number for number, _ in found if number]
    problems = [_file(number, need) for number, need in found if number]
    problems += [problem for net in plan.nets for problem in net.refusals]
    problems += [problem for net in plan.nets if net.dials for problem in _nobody(net.dials, before)]
    problems += port_problems(plan.nets, before)
    if problems:
        error = BadConfig(locate(problem) for problem in problems)
        error.errno = errnos[0] if errnos else None
        raise error


def refuse_net(net: NetPlan, before: Listeners) -> None:
    """The same for one interface that comes into a running guest."""
    problems = [_file(number, need) for need in net.files if (number := file_problem(need))]
    problems += net.refusals
    problems += _nobody(net.dials, before) if net.dials is not None else ()
    problems += port_problems((net,), before)
    if problems:
        raise BadConfig(problems)


def _nobody(peer: TcpPeer, before: Listeners) -> Iterator[Problem]:
    """Nobody listens there, as far as we can see without connecting: the peer may take one connection only."""
    try:
        address = ip_address(peer.address)
    except ValueError:
        return
    if address.is_loopback and not any(each.takes(address) for each in before.on("tcp", peer.port)):
        yield Problem(
            peer.xml_path,
            f"nobody listens on {peer.address} port {peer.port}: {os.strerror(errno.ECONNREFUSED)}",
            "start the guest with the interface of type 'server' first",
            code=ErrorCode.INTERNAL_ERROR,
            domain=ErrorDomain.QEMU,
        )


def port_problems(nets: Iterable[NetPlan], before: Listeners) -> list[Problem]:
    """Ports of the host that *nets* want and cannot have."""
    problems: list[Problem] = []
    for net in nets:
        problems += conflicts(net.listens_on, before, freebind=net.freebind)
        problems += conflicts(net.binds, before, freebind=net.freebind)
    return problems


def file_problem(need: FileNeed) -> int:
    """The errno that opening *need* would give, 0 for none.

    It is only looked at: opening a FIFO or a device could hang or do something.
    """
    try:
        return _bindable(need.path) if need.access is Access.BIND else _openable(need)
    except OSError as error:
        return error.errno or errno.EIO
    except ValueError:
        return errno.EINVAL


def _openable(need: FileNeed) -> int:
    try:
        found = os.stat(need.path)
    except FileNotFoundError:
        if need.access is Access.CREATE:
            return _makable(Path(os.path.realpath(need.path)).parent)
        ends = [Path(f"{need.path}.{end}") for end in ("in", "out")]
        if need.access is not Access.PIPE or not all(map(os.path.exists, ends)):
            raise
        return next((errno.EACCES for each in ends if not os.access(each, os.R_OK | os.W_OK)), 0)
    if need.access in (Access.EXECUTE, Access.CREATE) and stat.S_ISDIR(found.st_mode):
        return errno.EISDIR
    return 0 if os.access(need.path, _MODES[need.access], effective_ids=True) else _why_not(need)


def _makable(directory: Path) -> int:
    """The errno of making something there; raises OSError for a directory that is none."""
    if not stat.S_ISDIR(directory.stat().st_mode):
        return errno.ENOTDIR
    if os.access(directory, os.W_OK | os.X_OK, effective_ids=True):
        return 0
    return errno.EROFS if _read_only(directory) else errno.EACCES


def _bindable(path: Path) -> int:
    if len(os.fsencode(path)) > _LONGEST_SOCKET:
        return errno.ENAMETOOLONG
    with suppress(FileNotFoundError):
        if not stat.S_ISSOCK(path.lstat().st_mode):
            return errno.EEXIST
    return _makable(path.parent)


def _why_not(need: FileNeed) -> int:
    writes = need.access in (Access.READ_WRITE, Access.CREATE)
    return errno.EROFS if writes and _read_only(need.path) else errno.EACCES


def _read_only(path: Path) -> bool:
    return bool(os.statvfs(path).f_flag & os.ST_RDONLY)


def _file(number: int, need: FileNeed) -> Problem:
    hints = {
        errno.ENOENT: "correct the path, or make the file",
        errno.EACCES: f"as uid {os.geteuid()} you may not {need.access} it; see: ls -ld",
        errno.EROFS: "its filesystem is read-only; add <readonly/>, or move it",
    }
    if need.access in (Access.CREATE, Access.BIND):
        hints |= {
            errno.ENOENT: f"make the directory: mkdir -p '{need.path.parent}'",
            errno.EROFS: "its filesystem is read-only; name another path",
            errno.EEXIST: "it is no socket, and is not replaced by one: remove it, or name another path",
            errno.ENAMETOOLONG: f"the path of a UNIX socket has at most {_LONGEST_SOCKET} bytes",
        }
    return Problem(
        need.xml_path,
        f"cannot open the {need.what} '{need.path}': {os.strerror(number)}",
        hints.get(number),
        code=ErrorCode.SYSTEM_ERROR,
        domain=ErrorDomain.QEMU,
    )
