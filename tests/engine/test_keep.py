"""Descriptors kept for a helper's successor, and fetched from another process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from virlet.engine.fds import FdTable
from virlet.engine.supervision.keep import inodes_of, keep, regain
from virlet.plan.base import HelperPlan, OnLoss, PairEnd, Ready

QEMUS, OURS, LIFE = PairEnd("net0", 0, True), PairEnd("net0", 1, True), PairEnd("net0-life", 1)


def plan(on_loss: OnLoss = OnLoss.REUSE) -> HelperPlan:
    return HelperPlan("helper", ("helper", OURS), (OURS, LIFE), Ready.SPAWNED, on_loss)


@pytest.fixture
def table() -> Iterator[FdTable]:
    with FdTable() as fds:
        fds.open((QEMUS, OURS, LIFE))
        yield fds


def holder(fds: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """A process that has *fds* and does nothing."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; print('up', flush=True); sys.stdin.read()"],
        pass_fds=fds,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def end(process: subprocess.Popen[bytes]) -> None:
    process.communicate()


def test_only_a_plan_that_uses_them_again_keeps_copies(table: FdTable) -> None:
    assert keep(plan(OnLoss.RESTART), table) is None
    assert inodes_of(plan(), None) == ()


def test_a_copy_outlives_the_table_it_was_made_from() -> None:
    with FdTable() as fds:
        fds.open((QEMUS, OURS, LIFE))
        kept = keep(plan(), fds)
        qemu = socket.socket(fileno=os.dup(fds[QEMUS]))
    assert kept is not None
    with kept, qemu:
        qemu.send(b"frame")
        assert os.read(kept[OURS], 100) == b"frame"


def test_a_later_daemon_fetches_them_from_whoever_has_them(table: FdTable) -> None:
    kept = keep(plan(), table)
    inodes = inodes_of(plan(), kept)
    one, other = holder((table[OURS],)), holder((table[LIFE],))
    try:
        again = regain(plan().fds, inodes, (one.pid, other.pid))
        if again is None and _scope() > 0:
            pytest.skip("kernel.yama.ptrace_scope forbids it here")
        assert again is not None
        with again:
            os.write(table[QEMUS], b"frame")
            assert os.read(again[OURS], 100) == b"frame"
            assert os.fstat(again[LIFE]).st_ino == inodes[1]
            assert not os.get_inheritable(again[OURS])
    finally:
        end(one)
        end(other)
        assert kept is not None
        kept.close()


def test_a_part_of_them_is_none(table: FdTable) -> None:
    kept = keep(plan(), table)
    assert kept is not None
    one = holder((table[OURS],))
    with kept:
        try:
            assert regain(plan().fds, inodes_of(plan(), kept), (one.pid,)) is None
            assert regain(plan().fds, (), (one.pid,)) is None
        finally:
            end(one)


def test_a_process_that_is_gone_has_none(table: FdTable) -> None:
    kept = keep(plan(), table)
    assert kept is not None
    one = holder(())
    end(one)
    with kept:
        assert regain(plan().fds, inodes_of(plan(), kept), (one.pid,)) is None


def _scope() -> int:
    try:
        with open("/proc/sys/kernel/yama/ptrace_scope", encoding="ascii") as file:
            return int(file.read())
    except FileNotFoundError:
        return 0
