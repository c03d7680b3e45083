"""The same with the real QEMU and passt: a few points."""

from __future__ import annotations

import pytest
import test_points as points
from faultstand import Stand

pytestmark = [pytest.mark.faults]


@pytest.fixture
def stand(real: Stand) -> Stand:
    return real


@pytest.mark.parametrize(
    "name",
    ["start.bound", "start.qemu", "start.identified", "start.ready", "start.owned"]
    + ["attach.netdev", "attach.helper", "attach.backed", "attach.plugged", "destroy.intended", "stop.helpers"],
)
def test_a_daemon_killed_there_leaves_every_real_guest_whole_or_gone(stand: Stand, name: str) -> None:
    points.whole(stand, points.killed(stand, name))
