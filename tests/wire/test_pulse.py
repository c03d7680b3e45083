"""virlet.wire.pulse: when PINGs go out and when the peer is given up."""

from __future__ import annotations

from virlet.wire.pulse import Beat, Pulse


def beats(pulse: Pulse, until: int) -> list[tuple[int, Beat]]:
    seen = [(now, pulse.due(now)) for now in range(until + 1)]
    return [(now, beat) for now, beat in seen if beat is not Beat.NOTHING]


def test_five_and_five_ping_at_5_to_25_seconds_and_give_up_at_30() -> None:
    seen = beats(Pulse(5, 5, 0), 30)
    assert seen == [*((at, Beat.PING) for at in (5, 10, 15, 20, 25)), (30, Beat.DEAD)]


def test_anything_received_starts_all_over() -> None:
    pulse = Pulse(5, 1, 0)
    assert pulse.due(5) is Beat.PING
    pulse.received(9)
    assert pulse.next_at == 14
    assert pulse.due(13) is Beat.NOTHING
    assert pulse.due(14) is Beat.PING
    assert pulse.due(19) is Beat.DEAD


def test_count_zero_gives_up_without_asking() -> None:
    assert beats(Pulse(5, 0, 0), 5) == [(5, Beat.DEAD)]


def test_a_negative_interval_never_asks() -> None:
    pulse = Pulse(-1, 5, 0)
    assert pulse.next_at is None
    assert beats(pulse, 1000) == []
