"""Give up, for good, what a process will not need: privileges by exec, files, memory that is writable and executable.

Landlock is three system calls (landlock(7)) that no kept library wraps, and everything here is tolerant of a kernel
that lacks a part: each function says what it achieved.  Nothing of it can be taken back, and children inherit it all.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import stat
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from virlet.errors import SystemFailure
from virlet.plan.rights import Grant, Right

__all__ = [
    "allow_tracing",
    "deny_core_dumps",
    "deny_new_privileges",
    "deny_writable_code",
    "landlock_version",
    "restrict",
    "seal_code",
]

_PR_SET_NO_NEW_PRIVS = 38
_PR_SET_MDWE = 65
"""Linux 6.3: memory-deny-write-execute."""
_PR_SET_PTRACER = 0x59616D61
"""Yama's own option; a kernel without Yama answers EINVAL."""
_PR_SET_PTRACER_ANY = ctypes.c_ulong(-1)
_MDWE_REFUSE_EXEC_GAIN = 1
_MDWE_NO_INHERIT = 2

# The same numbers on every architecture that Linux has had since 5.13.
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_CREATE_RULESET_VERSION = 1
_RULE_PATH_BENEATH = 1

_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_REMOVE_FILE, _MAKE_SOCK = 1 << 5, 1 << 9
_TRUNCATE, _IOCTL_DEV, _RESOLVE_UNIX = 1 << 14, 1 << 15, 1 << 16
_OF_DIRECTORIES = _READ_DIR | _REMOVE_FILE | _MAKE_SOCK
"""Rights that a rule for a file must not name."""
_ACCESS_OF_VERSION = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1, 9: (1 << 17) - 1}
"""Landlock's version → every right to files that it knows."""
_SCOPES_SINCE = 6
_SCOPE_ALL = 0b11
"""Connecting to abstract UNIX sockets, and sending signals, outside the confined processes."""


class _RulesetAttr(ctypes.Structure):
    _fields_ = [
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    ]


class _PathBeneathAttr(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = [("allowed_access", ctypes.c_uint64), ("parent_fd", ctypes.c_int32)]


@cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def _failure(what: str) -> SystemFailure:
    return SystemFailure.of(OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno())), what)


def deny_new_privileges() -> None:
    """No set-user-ID program gives this process or a child anything; raises :class:`SystemFailure`."""
    if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        raise _failure("cannot set no_new_privs")


def allow_tracing() -> bool:
    """Where only ancestors may trace (``kernel.yama.ptrace_scope`` 1), any process of the same user may trace this one.

    So a daemon that is not its parent can copy its descriptors (pidfd_getfd(2) asks for PTRACE_MODE_ATTACH).  Who is
    confined by landlock still may not, and higher scopes heed no exceptions; children do not inherit it.  False where
    the kernel has no such restriction.  (Yama, in the kernel's admin-guide; prctl(2), PR_SET_PTRACER.)
    """
    return bool(_libc().prctl(_PR_SET_PTRACER, _PR_SET_PTRACER_ANY, 0, 0, 0) == 0)


def deny_core_dumps() -> None:
    """A crash leaves no file with the guest's traffic in it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def deny_writable_code(*, children: bool = True) -> bool:
    """From now on no memory becomes executable that ever was writable; False where the kernel cannot (before 6.3).

    With *children* off, programs that this process runs are free again (6.6; before, they are not).
    """
    flags = _MDWE_REFUSE_EXEC_GAIN
    if not children and _libc().prctl(_PR_SET_MDWE, flags | _MDWE_NO_INHERIT, 0, 0, 0) == 0:
        return True
    return bool(_libc().prctl(_PR_SET_MDWE, flags, 0, 0, 0) == 0)


def seal_code() -> None:
    """What is writable and executable now is executable alone from here on; raises :class:`SystemFailure`.

    libffi makes such a page as soon as ``ctypes`` is imported, and puts the callbacks there.  Make all of them before:
    a callback that is made or freed afterwards ends the process, its interpreter's tidy end included (``os._exit``).
    """
    libc = _libc()
    libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    for line in Path("/proc/self/maps").read_text().splitlines():
        span, rights = line.split()[:2]
        if "w" in rights and "x" in rights:
            start, end = (int(number, 16) for number in span.split("-"))
            if libc.mprotect(start, end - start, mmap.PROT_READ | mmap.PROT_EXEC) != 0:
                raise _failure("cannot seal memory that is writable and executable")


_ACCESS_OF_RIGHT = {
    Right.OPEN: _READ_FILE,
    Right.LIST: _READ_DIR,
    Right.WRITE: _WRITE_FILE | _TRUNCATE | _IOCTL_DEV,
    Right.EXECUTE: _EXECUTE,
    Right.BIND: _MAKE_SOCK,
    Right.REMOVE: _REMOVE_FILE,
    Right.CONNECT: _RESOLVE_UNIX,
}


@cache
def _access(rights: Right) -> int:
    return sum(bits for right, bits in _ACCESS_OF_RIGHT.items() if right in rights)


def landlock_version() -> int:
    """The version of landlock's interface that this kernel offers; 0: none, or switched off at boot."""
    found = _libc().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_CREATE_RULESET_VERSION))
    return max(0, int(found))


def restrict(grants: Iterable[Grant], *, connect: bool = False) -> int:
    """From now on this thread, and whatever it starts, has those rights to files and no others.

    Descriptors that are open stay usable.  Where the kernel knows it, abstract UNIX sockets and signals reach no
    process outside (6.12), nor do UNIX sockets at paths without :attr:`Right.CONNECT` (7.1), unless *connect* leaves
    all of those open.  Programs outside can no longer be traced.  A path that is not there is left out unless its grant
    says that it must be.

    Returns landlock's version, 0 where there is none; raises :class:`SystemFailure` when it is there and refuses, or a
    path cannot be opened.
    """
    version = landlock_version()
    if version == 0:
        return 0
    handled = _ACCESS_OF_VERSION[max(known for known in _ACCESS_OF_VERSION if known <= version)]
    if connect:
        handled &= ~_RESOLVE_UNIX
    scoped = version >= _SCOPES_SINCE
    attr = _RulesetAttr(handled, 0, _SCOPE_ALL if scoped else 0)
    size = ctypes.sizeof(attr) if scoped else 8
    ruleset = _libc().syscall(_CREATE_RULESET, ctypes.byref(attr), ctypes.c_size_t(size), ctypes.c_uint32(0))
    if ruleset < 0:
        raise _failure("cannot make a landlock ruleset")
    try:
        for grant in grants:
            _allow(ruleset, grant, handled)
        deny_new_privileges()  # Landlock asks for it.
        if _libc().syscall(_RESTRICT_SELF, ctypes.c_int(ruleset), ctypes.c_uint32(0)) != 0:
            raise _failure("cannot enter the landlock ruleset")
    finally:
        os.close(ruleset)
    return version


def _allow(ruleset: int, grant: Grant, handled: int) -> None:
    access = handled & _access(grant.rights)
    try:
        parent = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except OSError as error:
        if not grant.must:
            return
        raise SystemFailure.of(error, f"cannot open '{grant.path}'") from error
    try:
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            access &= ~_OF_DIRECTORIES
        if access == 0:  # Landlock refuses a rule that allows nothing, as a socket's before 7.1.
            return
        rule = _PathBeneathAttr(access, parent)
        done = _libc().syscall(
            _ADD_RULE, ctypes.c_int(ruleset), ctypes.c_int(_RULE_PATH_BENEATH), ctypes.byref(rule), ctypes.c_uint32(0)
        )
        if done != 0:
            raise _failure(f"cannot allow '{grant.path}' in the landlock ruleset")
    finally:
        os.close(parent)
