"""What a confined process can no longer do, tried in a child."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from virlet.plan.rights import Grant, Right
from virlet.proc import confine
from virlet.proc.confine import landlock_version
from virlet.proc.spawn import Command, spawn

HEAD = "import mmap, os, socket\nfrom pathlib import Path\nfrom virlet.proc import confine\n"


def child(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", HEAD + code], capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_no_new_privileges_shows_in_its_status() -> None:
    assert (
        child("confine.deny_new_privileges()\nprint('NoNewPrivs:\\t1' in open('/proc/self/status').read())") == "True"
    )


def test_memory_is_not_writable_and_executable() -> None:
    said = child(
        "if not confine.deny_writable_code(): print('old kernel'); raise SystemExit\n"
        "try: mmap.mmap(-1, 4096, prot=7); print('granted')\n"
        "except PermissionError: print('refused')"
    )
    assert said in ("refused", "old kernel")


def test_callbacks_of_ctypes_work_without_such_memory() -> None:
    said = child(
        "import ctypes\nconfine.deny_writable_code()\n"
        "print(ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)(41))"
    )
    assert said == "42"


def test_memory_that_is_writable_and_executable_already_is_sealed_and_callbacks_go_on() -> None:
    said = child(
        "import ctypes, re\nback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)(lambda n: n + 1)\nconfine.seal_code()\n"
        "maps = open('/proc/self/maps').read()\n"
        "print(back(41), re.findall('^[^ ]+ .wx', maps, re.M), flush=True)\nos._exit(0)"
    )
    assert said == "42 []"


def test_tracing_is_allowed_where_a_kernel_forbids_it_and_elsewhere_nothing_is_said() -> None:
    yama = Path("/proc/sys/kernel/yama/ptrace_scope").exists()
    assert child("print(confine.allow_tracing())") == str(yama)


def test_a_crash_leaves_no_core() -> None:
    assert (
        child("import resource\nconfine.deny_core_dumps()\nprint(resource.getrlimit(resource.RLIMIT_CORE))") == "(0, 0)"
    )


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
def test_files_are_read_below_what_was_named_and_nothing_is_written(tmp_path: Path) -> None:
    shared, other = tmp_path / "shared", tmp_path / "other"
    shared.mkdir()
    (shared / "file").write_text("seen")
    other.write_text("hidden")
    said = child(
        f"from virlet.plan.rights import *\nconfine.restrict([Grant(Path({str(shared)!r}), Right.READ)])\n"
        f"print(open({str(shared / 'file')!r}).read())\n"
        f"for path, mode in (({str(other)!r}, 'r'), ({str(shared / 'new')!r}, 'w'), ({str(shared / 'file')!r}, 'a')):\n"
        "    try: open(path, mode); print('opened')\n"
        "    except PermissionError: print('refused')\n"
        "try: os.execv('/bin/true', ['true'])\n"
        "except PermissionError: print('not run')"
    )
    assert said.split("\n") == ["seen", "refused", "refused", "refused", "not run"]


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
def test_the_network_is_left_alone() -> None:
    said = child(
        "confine.restrict([])\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.socket()\nclient.connect(server.getsockname())\n"
        "print(client.getpeername() == server.getsockname())"
    )
    assert said == "True"


def test_a_path_that_is_not_there_is_named() -> None:
    if landlock_version() == 0:
        pytest.skip("this kernel has no landlock")
    said = child(
        "from virlet.errors import SystemFailure\nfrom virlet.plan.rights import *\n"
        "try: confine.restrict([Grant(Path('/nowhere'), Right.READ, must=True)])\n"
        "except SystemFailure as error: print(error)"
    )
    assert "/nowhere" in said


TRY = """
from virlet.plan.rights import Grant, Right
def tried(what, *args):
    try: what(*args); return 'yes'
    except PermissionError: return 'no'
"""


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
def test_each_right_is_what_it_says(tmp_path: Path) -> None:
    for name in ("read", "write", "sockets", "open"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("there")
    said = child(
        f"{TRY}\nroot = Path({str(tmp_path)!r})\n"
        "confine.restrict([Grant(root / 'read', Right.READ), Grant(root / 'write', Right.WRITE),"
        " Grant(root / 'sockets', Right.BIND), Grant(root / 'open', Right.OPEN),"
        " Grant(root / 'missing', Right.READ)])\n"
        "sock = socket.socket(socket.AF_UNIX)\n"
        "print(*[tried(open, root / where / 'file', how) for where in ('read', 'write', 'sockets') for how in 'ra'])\n"
        "print(tried(open, root / 'open' / 'file'), tried(os.listdir, root / 'open'),"
        " tried(os.listdir, root / 'read'))\n"
        "print(tried(open, root / 'write' / 'new', 'w'), tried(os.remove, root / 'write' / 'file'))\n"
        "print(tried(sock.bind, str(root / 'write' / 's')), tried(sock.bind, str(root / 'sockets' / 's')))"
    )
    assert said.split("\n") == ["yes no no yes no no", "yes no yes", "no no", "no yes"]


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
def test_a_confined_process_traces_and_signals_nobody_outside() -> None:
    said = child(
        "import ctypes, signal, subprocess\n"
        "other = subprocess.Popen(['/bin/cat'], stdin=-1, stdout=-3)\n"  # ends with us
        "version = confine.restrict([])\n"
        "libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.ptrace(16, other.pid, 0, 0), ctypes.get_errno())\n"  # PTRACE_ATTACH
        "try: os.kill(other.pid, signal.SIGTERM); print('reached' if version >= 6 else 'refused')\n"
        "except PermissionError: print('refused')\n"
    )
    assert said.split("\n") == ["-1 1", "refused"]


@pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")
async def test_a_child_is_confined_and_its_parent_is_not(tmp_path: Path) -> None:
    secret, out = tmp_path / "secret", tmp_path / "out"
    secret.write_text("key")
    with out.open("w") as said:
        words = ("/bin/sh", "-c", f"cat {secret} 2>&1; echo kept")
        system = tuple(Grant(Path(each), Right.READ | Right.EXECUTE) for each in ("/usr", "/lib", "/lib64", "/bin"))
        grants = (*system, Grant(Path(os.devnull), Right.READ | Right.WRITE))
        process = await spawn(Command(words, stdout=said.fileno(), stderr=said.fileno(), grants=grants), "child")
        await process.exited()
    assert "Permission denied" in out.read_text()
    assert secret.read_text() == "key"
    free = await spawn(Command(("/bin/cat", str(secret))), "child")
    await free.exited()
    assert free.status is not None
    assert free.status.code == 0


def test_newer_kernels_are_asked_for_no_more_than_we_know() -> None:
    assert confine._ACCESS_OF_VERSION[9] == (1 << 17) - 1
    assert confine._access(Right.CONNECT) == 1 << 16
