"""Rootless to the bone: who runs, with which capabilities, and that no executed program is setuid."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
from domains import domain, free_ports, passt_nic
from session import console_of, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


def status(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status (proc(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {key: value.strip() for key, _, value in (line.partition(":") for line in lines)}


def test_the_tests_themselves_have_no_privilege() -> None:
    assert os.getuid() != 0
    assert int(status(os.getpid())["CapEff"], 16) == 0


def executed(folder: Path) -> set[Path]:
    """Every program that was executed with success, from strace's lines: a file for each process, so none is torn."""
    lines = [line for path in folder.iterdir() for line in path.read_text(errors="replace").splitlines()]
    found = [re.match(r'execve(?:at)?\((?:\w+, )?"([^"]+)".* = 0$', line) for line in lines]
    return {Path(match[1]).resolve() for match in found if match}


def has_file_capabilities(path: Path) -> bool:
    try:
        return bool(os.getxattr(path, "security.capability"))
    except OSError:
        return False


def test_a_guests_whole_life_runs_no_setuid_program_and_holds_no_capability() -> None:
    strace = shutil.which("strace")
    assert strace, "strace is missing: install it"
    with session() as one:
        trace = one.base / "trace"
        trace.mkdir()
        one.start_daemon(strace, "-ff", "-qq", "-e", "trace=execve,execveat", "-o", str(trace / "of"))
        one.define(domain("plain", passt_nic(free_ports(28000), one.base / "passt.log")))
        one.virsh("start", "plain", timeout=120)
        console_of(one, "plain").ready(120)
        seen: dict[str, dict[str, str]] = {}
        for pid, words in one.processes().items():
            with contextlib.suppress(OSError):  # It has ended.
                name = Path(f"/proc/{pid}/comm").read_text().strip()
                if name != "strace":
                    seen[f"{name} ({words[:40]})"] = status(pid)
        one.virsh("destroy", "plain")
        one.virsh("undefine", "plain")
        one.stop_daemon()
        programs = executed(trace)
    names = {path.name for path in programs}
    assert any(name.startswith("qemu-system") for name in names), names
    assert any(name.startswith("passt") for name in names), names
    for path in programs:
        mode = path.stat().st_mode
        assert not mode & (stat.S_ISUID | stat.S_ISGID), path
        assert not has_file_capabilities(path), path
    assert any("qemu" in name for name in seen)
    assert any("passt" in name for name in seen)
    for name, fields in seen.items():
        assert set(fields["Uid"].split()) == {str(os.getuid())} or name.startswith("passt"), (name, fields["Uid"])
        assert "0" not in fields["Uid"].split(), name
        assert int(fields["CapEff"], 16) == 0, (name, fields["CapEff"])
        if "qemu" in name or "passt" in name:
            assert fields["NoNewPrivs"] == "1", name
            assert fields["Seccomp"] == "2", name
