"""A guest that misbehaves at full speed gets a few lines in the log."""

from __future__ import annotations

import io

from virlet.slirp.complaints import BURST, WINDOW, Complaints


def test_a_flood_is_cut_and_counted() -> None:
    out, clock = io.StringIO(), [100.0]
    say = Complaints(out, lambda: clock[0])
    for _ in range(100_000):
        say(b"Warning: guest sent NDP RA, but shouldn't\n")
    assert out.getvalue().splitlines() == ["guest: Warning: guest sent NDP RA, but shouldn't"] * BURST
    clock[0] += WINDOW
    say(b"other")
    assert out.getvalue().splitlines()[BURST:] == [
        f"guest: {100_000 - BURST} more lines like those before were left out",
        "guest: other",
    ]


def test_a_line_is_of_bounded_length_and_readable() -> None:
    out = io.StringIO()
    Complaints(out)(b"\xff" + b"x" * 100_000)
    assert len(out.getvalue()) < 300
    assert out.getvalue().endswith("x\n")
