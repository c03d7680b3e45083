"""virlet.client.values: from the wire's numbers and bytes to names."""

from __future__ import annotations

from virlet.client.values import Event, State, bare_uuid, uuid_text
from virlet.enums import DomainState, PausedReason, ShutoffReason
from virlet.wire import remote, types

DOM = types.Domain("vm", bytes(range(16)), 3)


def test_a_reason_belongs_to_its_state() -> None:
    assert State.of(5, 2) == (DomainState.SHUTOFF, ShutoffReason.DESTROYED)
    assert State.of(3, 2) == (DomainState.PAUSED, PausedReason.MIGRATION)
    assert State.of(2, 0) == (DomainState.BLOCKED, 0)


def test_numbers_of_newer_servers_stay_numbers() -> None:
    assert State.of(99, 1) == (DomainState.NOSTATE, 1)
    assert State.of(5, 99) == (DomainState.SHUTOFF, 99)


def test_uuids_are_read_in_any_usual_spelling() -> None:
    text = "00010203-0405-0607-0809-0a0b0c0d0e0f"
    assert uuid_text(bytes(range(16))) == text
    assert bare_uuid(text) == bare_uuid(text.upper()) == bare_uuid(text.replace("-", "")) == bytes(range(16))
    for wrong in ("", "vm", text[:-1], text + "0", text + " ", "zz" * 16):
        assert bare_uuid(wrong) is None


def test_events_are_flat_whatever_the_message() -> None:
    nested = remote.DomainEventCallbackLifecycleMsg(4, types.DomainEventLifecycleMsg(DOM, 2, 0))
    assert Event.of("lifecycle", nested) == (
        "lifecycle",
        "vm",
        "00010203-0405-0607-0809-0a0b0c0d0e0f",
        3,
        {"event": 2, "detail": 0},
    )
    flat = remote.DomainEventCallbackDeviceAddedMsg(4, DOM._replace(id=-1), "net0")
    found = Event.of("device-added", flat)
    assert found is not None
    assert (found.id, found.values) == (None, {"devAlias": "net0"})
    assert Event.of("x", types.DomainDiskError("vda", 1)) is None
