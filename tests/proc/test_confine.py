"""What a confined process can no longer do, tried in a child."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from virlet.proc.confine import landlock_version

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
        f"confine.restrict_files([Path({str(shared)!r})])\n"
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
        "confine.restrict_files()\nserver = socket.create_server(('127.0.0.1', 0))\n"
        "client = socket.socket()\nclient.connect(server.getsockname())\n"
        "print(client.getpeername() == server.getsockname())"
    )
    assert said == "True"


def test_a_path_that_is_not_there_is_named() -> None:
    if landlock_version() == 0:
        pytest.skip("this kernel has no landlock")
    said = child(
        "from virlet.errors import SystemFailure\n"
        "try: confine.restrict_files([Path('/nowhere')])\nexcept SystemFailure as error: print(error)"
    )
    assert "/nowhere" in said
