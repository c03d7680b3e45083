"""The same again and again, and nothing grows: neither descriptors nor processes nor files.

A few rounds in every run; script/soak multiplies them by VIRLET_SOAK.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import domain, free_ports, passt_nic
from session import Session, gone, session

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(0), pytest.mark.usefixtures("leaks_allowed")]

ROUNDS = 5 * int(os.environ.get("VIRLET_SOAK", "1"))


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def descriptors(one: Session) -> int:
    assert one.process is not None
    return len(list(Path(f"/proc/{one.process.pid}/fd").iterdir()))


Count = tuple[int, int, list[str]]


def count(one: Session) -> Count:
    return descriptors(one), len(one.processes()), one.runtime_files()


def settled(one: Session, before: Count) -> Count:
    """As before or less, soon: the daemon sees a virsh hang up a little after its end, the first one, too."""
    deadline = time.monotonic() + 30
    while (now := count(one))[0] > before[0] or now[1:] != before[1:]:
        assert time.monotonic() < deadline, (now, before)
        time.sleep(0.01)
    return now


def resident(one: Session) -> int:
    """KiB of the daemon's resident memory."""
    assert one.process is not None
    text = Path(f"/proc/{one.process.pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0])


def test_starts_and_destroys_leave_nothing(one: Session, capsys: pytest.CaptureFixture[str]) -> None:
    ports = free_ports(29000)
    one.define(domain("cycle", passt_nic(ports, one.base / "passt.log"), cmdline="console=ttyS0 quiet virlet.nonet"))

    def cycle() -> None:
        one.virsh("start", "cycle")
        pids = one.helpers("qemu") + one.helpers("passt")
        assert len(pids) >= 2
        one.virsh("destroy", "cycle")
        assert gone(pids)

    cycle()  # What is loaded once is loaded now.
    before = count(one)
    memory = resident(one)
    for _ in range(ROUNDS):
        cycle()
        before = settled(one, before)
    grown = resident(one) - memory
    with capsys.disabled():
        print(f"\n{ROUNDS} starts and destroys: resident memory {memory} KiB before, {grown:+} KiB afterwards")
    assert grown < 4096  # 250 KiB after 20 rounds; a guest's plan and records alone are more than 100 KiB.
