"""A guest that panics for real: state, reason, events, and what its ``<on_crash>`` says."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from domains import domain
from session import Session, console_of, session

from virlet.testing.guest import Console

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CMDLINE = "console=ttyS0 quiet virlet.nonet"
"""Without `panic=`: the guest stands still, so what it does afterwards is virlet's doing."""


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def booted(one: Session, wanted: str, model: str) -> Console:
    """The console of a running guest that tells of its panic by *model*; *wanted* is its on_crash."""
    xml = domain("frail", f"<panic model='{model}'/>", cmdline=CMDLINE, extra=f"<on_crash>{wanted}</on_crash>")
    one.define(xml)
    one.virsh("start", "frail")
    console = console_of(one, "frail")
    console.ready(90)
    return console


def panic(one: Session) -> None:
    """Have the guest's kernel crash, which nobody answers."""
    os.write(one.consoles[-1], b"echo c > /proc/sysrq-trigger\n")


def told(lines: list[str]) -> list[str]:
    return [line.split(": ", 1)[1] for line in lines if "'lifecycle'" in line]


def test_a_guest_that_panics_is_ended(one: Session) -> None:
    booted(one, "destroy", "isa")
    with one.events() as events:
        panic(one)
        events.wait_for("Stopped")
    assert told(events.lines) == ["Crashed Panicked", "Stopped Crashed"]
    assert one.virsh("domstate", "--reason", "frail") == "shut off (crashed)"
    assert not one.helpers("qemu")


def test_its_memory_is_kept_and_it_boots_again_in_the_same_qemu(one: Session) -> None:
    console = booted(one, "coredump-restart", "pvpanic")
    before = one.helpers("qemu")
    with one.events() as events:
        panic(one)
        events.wait_for("Resumed")
    console.again(90)
    assert told(events.lines) == ["Crashed Panicked", "Resumed Unpaused"]
    assert one.virsh("domstate", "--reason", "frail") == "running (crashed)"
    assert one.helpers("qemu") == before
    (core,) = (one.base / "state/virlet/dump").glob("*.elf")
    assert core.read_bytes()[:4] == b"\x7fELF"
    assert core.stat().st_size >= 192 << 20
    one.virsh("destroy", "frail")


def test_it_is_preserved_for_who_wants_to_look(one: Session) -> None:
    booted(one, "preserve", "pvpanic")
    with one.events() as events:
        panic(one)
        events.wait_for("Crashed")
    assert one.virsh("domstate", "--reason", "frail") == "crashed (panicked)"
    assert one.helpers("qemu")
    one.virsh("destroy", "frail")
    assert one.virsh("domstate", "--reason", "frail") == "shut off (destroyed)"


def test_a_panic_that_no_daemon_saw_is_treated_by_the_next(one: Session) -> None:
    console = booted(one, "restart", "isa")
    before = one.helpers("qemu")
    one.stop_daemon(signal.SIGKILL)
    panic(one)
    console.until("Kernel panic")
    one.start_daemon()
    console.again(90)
    assert one.virsh("domstate", "--reason", "frail") == "running (crashed)"
    assert one.helpers("qemu") == before
    one.virsh("destroy", "frail")
