"""A tap that a killed daemon had opened: the next one leaves it as it was found and runs the user's script."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from domains import domain
from session import Session, gone, session, until
from test_taps import described, nic

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(60)]

COLD = ["start.bound", "start.identified", "start.ready", "start.owned", "start.written"]
HOT = ["attach.intended", "attach.opened", "attach.sent", "attach.netdev", "attach.backed", "attach.plugged"]
"""Points (see :mod:`virlet.fault`) of a start and of an attachment at which the daemon is killed."""


class Stand:
    """One tap of root's, and scripts that say when they are run."""

    def __init__(self, one: Session) -> None:
        self.one = one
        self.said = one.base / "said"
        script, down = one.base / "script", one.base / "down"
        script.write_text(f'#!/bin/sh\necho "${{0##*/}} $*" >> {self.said}\n')
        script.chmod(0o755)
        down.symlink_to(script)
        self.xml = nic("vtap0", more=f"<script path='{script}'/><downscript path='{down}'/>")
        self.card = one.base / "card.xml"
        self.card.write_text(self.xml)
        self.found = described("vtap0")

    def begin(self, fault: str = "") -> None:
        """A daemon that is killed at *fault*."""
        with_fault = dict(self.one.env, VIRLET_FAULT=fault) if fault else self.one.env
        self.one.env, plain = with_fault, self.one.env
        self.one.start_daemon()
        self.one.env = plain

    def killed(self, *command: str) -> None:
        """What virsh does kills the daemon."""
        daemon, self.one.process = self.one.process, None
        assert daemon is not None
        self.one.virsh(*command, check=False)
        assert daemon.wait(10) == -signal.SIGKILL

    def left(self, ran: bool) -> None:
        """The guest has ended: the device is as it was found; the scripts were run, each once, or neither."""
        assert self.one.helpers("qemu") == []
        said = self.said.read_text().splitlines() if self.said.exists() else []
        self.said.unlink(missing_ok=True)
        assert said == (["script vtap0", "down vtap0"] if ran else [])
        assert described("vtap0") == self.found


@pytest.fixture(scope="module")
def shared() -> Iterator[Stand]:
    with session() as one:
        yield Stand(one)


@pytest.fixture
def stand(shared: Stand) -> Iterator[Stand]:
    yield shared
    one = shared.one
    if one.process is None:
        one.start_daemon()
    for command in ("destroy", "undefine"):
        one.virsh(command, "tapped", check=False)
    one.stop_daemon()
    shared.said.unlink(missing_ok=True)


@pytest.mark.parametrize("fault", COLD)
def test_after_a_death_in_a_start(stand: Stand, fault: str) -> None:
    stand.begin(fault)
    stand.one.define(domain("tapped", stand.xml))
    stand.killed("start", "tapped", "--paused")
    stand.begin()
    if fault == "start.written":
        assert stand.one.virsh("domstate", "tapped") == "paused"
        stand.one.virsh("destroy", "tapped")
    assert stand.one.virsh("domstate", "tapped") == "shut off"
    stand.left(ran=fault != "start.bound")


@pytest.mark.parametrize("fault", HOT)
def test_after_a_death_in_an_attachment(stand: Stand, fault: str) -> None:
    one = stand.one
    stand.begin(fault)
    one.define(domain("tapped", machine="pc"))
    one.virsh("start", "tapped", "--paused")
    stand.killed("attach-device", "tapped", str(stand.card), "--live")
    stand.begin()
    assert one.virsh("domstate", "tapped") == "paused"
    there = fault == "attach.plugged"
    until(lambda: ("vtap0" in one.virsh("dumpxml", "tapped")) == there, "it is taken over")
    if not there:
        # While the guest runs on: nobody has the device open.
        until(lambda: described("vtap0") == stand.found, lambda: str(described("vtap0")))
        assert not stand.said.exists() or stand.said.read_text().splitlines()[1:] == ["down vtap0"]
        stand.said.unlink(missing_ok=True)
        one.virsh("attach-device", "tapped", str(stand.card), "--live")
    one.virsh("destroy", "tapped")
    stand.left(ran=True)


@pytest.mark.parametrize("fault", ["destroy.ended", "stop.helpers"])
def test_after_a_death_while_the_guest_is_being_ended(stand: Stand, fault: str) -> None:
    stand.begin(fault)
    stand.one.define(domain("tapped", stand.xml))
    stand.one.virsh("start", "tapped", "--paused")
    stand.killed("destroy", "tapped")
    stand.begin()
    assert stand.one.virsh("domstate", "tapped") == "shut off"
    stand.left(ran=True)


def test_after_a_death_of_daemon_and_qemu(stand: Stand) -> None:
    one = stand.one
    stand.begin()
    one.define(domain("tapped", stand.xml))
    one.virsh("start", "tapped", "--paused")
    (qemu,) = one.helpers("qemu")
    one.stop_daemon(signal.SIGKILL)
    os.kill(qemu, signal.SIGKILL)
    assert gone([qemu])
    stand.begin()
    stand.left(ran=True)


def test_after_a_start_that_failed_at_the_second_of_two_devices(stand: Stand) -> None:
    one = stand.one
    stand.begin()
    one.define(domain("tapped", nic("vtap0") + nic("vnew", "52:54:00:77:00:02", managed="")))
    assert "Operation not permitted" in one.virsh("start", "tapped", check=False)
    stand.left(ran=False)
