"""What a guest does, and what is done to its QEMU, while no virletd looks: the next one makes it right."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import pytest
from domains import domain
from session import Session, console_of, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

CMDLINE = "console=ttyS0 quiet virlet.nonet"


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def began_within(one: Session, seconds: float) -> bool:
    """Whether a daemon is ready that soon, in one of three trials: this machine may have stood still in the others."""
    for _ in range(3):
        one.stop_daemon(signal.SIGKILL)
        begin = time.monotonic()
        one.start_daemon()
        if time.monotonic() - begin < seconds:
            return True
    return False


def test_a_qemu_that_stands_still_holds_no_daemon_back_and_is_taken_over_when_it_goes_on(one: Session) -> None:
    one.define(domain("still", cmdline=CMDLINE))
    one.virsh("start", "still")
    (qemu,) = one.helpers("qemu")
    one.stop_daemon(signal.SIGKILL)
    os.kill(qemu, signal.SIGSTOP)
    try:
        assert began_within(one, 4)
        assert one.virsh("domstate", "still") == "running"
        assert "does not answer" in one.virlet("doctor", check=False)
        assert one.virsh("domcontrol", "still") == "error: monitor failure"
    finally:
        os.kill(qemu, signal.SIGCONT)
    one.virsh("suspend", "still")
    assert one.virsh("domstate", "--reason", "still") == "paused (user)"
    assert "does not answer" not in one.virlet("doctor", check=False)
    assert one.virsh("domcontrol", "still") == "ok"
    one.virsh("destroy", "still")
    assert not one.helpers("qemu")


def test_a_reboot_is_one_whatever_becomes_of_virletd_meanwhile(one: Session) -> None:
    one.define(domain("again", cmdline=CMDLINE))
    one.virsh("start", "again")
    console = console_of(one, "again")
    console.ready(90)
    qemu = one.helpers("qemu")
    one.stop_daemon()
    one.env["VIRLET_FAULT"] = "restart.reset"
    daemon = one.start_daemon()
    one.virsh("reboot", "again")
    assert daemon.wait(60) == -signal.SIGKILL  # Reset, and not let run.
    del one.env["VIRLET_FAULT"]
    one.start_daemon()
    console.again(90)
    one.virsh("reboot", "again")
    one.stop_daemon(signal.SIGKILL)
    console.until("Power down")
    one.start_daemon()
    console.again(90)
    assert one.virsh("domstate", "again") == "running"
    assert one.helpers("qemu") == qemu
    one.virsh("destroy", "again")
