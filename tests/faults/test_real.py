"""The same with the real QEMU and passt: a few points."""

from __future__ import annotations

import subprocess

import pytest
import test_points as points
from faultstand import Stand


@pytest.fixture
def stand(real: Stand) -> Stand:
    return real


@pytest.mark.faults
@pytest.mark.parametrize(
    "name",
    ["start.bound", "start.qemu", "start.identified", "start.ready", "start.owned"]
    + ["attach.netdev", "attach.helper", "attach.backed", "attach.plugged", "destroy.intended", "stop.helpers"],
)
def test_a_daemon_killed_there_leaves_every_real_guest_whole_or_gone(stand: Stand, name: str) -> None:
    points.whole(stand, points.killed(stand, name))


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("scene", "name"),
    [("own.start", "forked.added"), ("own.attach", "forked.added"), ("own.lost", "helper.running")],
)
def test_so_does_one_killed_with_a_passt_that_the_newest_qemu_starts(stand: Stand, scene: str, name: str) -> None:
    said = subprocess.run(["qemu-system-x86_64", "-netdev", "help"], capture_output=True, timeout=30, check=False)
    if b"passt" not in said.stdout.split():
        pytest.skip("elsewhere: this QEMU has no -netdev passt")
    points.whole(stand, points.killed(stand, name, at=scene))
