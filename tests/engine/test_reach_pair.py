"""The pair's own part of a helper's supervision; the rest is tests/engine/test_helpers.py's, and the real one's."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest

from virlet.engine.fds import FdTable
from virlet.engine.status import HelperRecord
from virlet.engine.supervision.host import HelperHost
from virlet.engine.supervision.reach import NoWay
from virlet.engine.supervision.reach_pair import PairReach
from virlet.engine.tasks import Tasks
from virlet.plan.base import HelperPlan, OnLoss, PairEnd, Ready
from virlet.proc.process import ExitStatus


class Host:
    name, stopping, paused, unheard = "a guest", False, False, False

    async def execute(self, command: str, arguments: Mapping[str, object]) -> object:
        raise AssertionError(command)


END = PairEnd("net0", 1, datagram=True)
PLAN = HelperPlan("slirp-helper", ("slirp", "--fd", END), (END,), Ready.SPAWNED, OnLoss.REUSE)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def helper() -> Any:
    return SimpleNamespace(record=HelperRecord("net0", "hostnet0", PLAN), process=None, over=False)


@pytest.fixture
def reach(helper: Any) -> Iterator[PairReach]:
    one = PairReach(helper, cast("HelperHost", Host()), Tasks())
    yield one
    one.close()


async def test_a_successor_has_the_same_end(
    reach: PairReach, helper: Any, pair: tuple[socket.socket, socket.socket]
) -> None:
    kept = FdTable()
    kept.put(END, os.dup(pair[1].fileno()))
    reach.keep(kept)
    assert helper.record.inodes == (os.fstat(pair[1].fileno()).st_ino,)
    for _ in range(2):
        with FdTable() as fds:
            assert await reach.connect(fds)
            pair[0].send(b"a frame")
            assert os.read(fds[END], 100) == b"a frame"


async def test_where_the_end_is_lost_nobody_tries_again_and_the_reason_is_told(reach: PairReach) -> None:
    reach.regain(os.getpid())  # Which has nothing of the kind.
    with FdTable() as fds, pytest.raises(NoWay, match="went with the daemon that had it") as caught:
        await reach.connect(fds)
    assert "ptrace_scope" in (caught.value.hint or "")


def test_one_that_ends_by_itself_and_well_has_seen_qemu_end(reach: PairReach) -> None:
    assert reach.foreseen(ExitStatus(code=0))
    assert not any(map(reach.foreseen, (ExitStatus(code=1), ExitStatus(signal=9), None)))
