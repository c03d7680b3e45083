"""The table of what became of the guests."""

from __future__ import annotations

import pytest
from tally import KILLED, LEFT, Tally

pytestmark = [pytest.mark.faults]


def test_a_line_has_the_worst_of_each_backend_and_the_longest_time() -> None:
    tally = Tally()
    tally.add([(KILLED, ["start.qemu", "passt"]), (LEFT, "off")], passed=True, seconds=0.5)
    tally.add([(KILLED, ["start.qemu", "passt"]), (LEFT, "runs")], passed=True, seconds=1.25)
    tally.add([("other", 1), (KILLED, ["start.qemu", "slirp"])], passed=False, seconds=0.1)
    tally.add([(KILLED, ["attach.sent", "slirp"]), (LEFT, "runs")], passed=True, seconds=0.1)
    first, _, *rows = tally.lines()
    assert first.startswith("virletd killed 4 times at 2 points")
    assert [row.split() for row in rows] == [
        ["attach.sent", "1", "runs", "0.10", "s"],
        ["start.qemu", "3", "off", "FAILED", "1.25", "s"],
    ]


def test_one_that_does_not_say_what_it_found_has_failed_and_nothing_is_no_table() -> None:
    tally = Tally()
    assert list(tally.lines()) == []
    tally.add([(KILLED, ["start.qemu", "passt"])], passed=True, seconds=0.5)
    assert "FAILED" in list(tally.lines())[2]
