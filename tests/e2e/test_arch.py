"""A guest of another architecture than the host's: the emulator that the host has for it is found when it is wanted."""

from __future__ import annotations

import shutil
import time

import pytest
from domains import domain
from session import Session, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

NIC = "<interface type='user'><model type='virtio'/></interface>"
SAID = "This kernel requires an x86-64 CPU, but only detected an i686 CPU"
"""The test guest's kernel is for x86_64, and says so where it finds another CPU."""


def xml(one: Session, machine: str) -> str:
    text = domain("old", NIC, machine=machine, cmdline="earlyprintk=serial,ttyS0").replace("x86_64", "i686")
    serial = f"<serial type='file'><source path='{one.base}/out-{machine}'/></serial>"
    return text.replace("<serial type='pty'/>", serial).replace("<console type='pty'/>", "")


@pytest.mark.skipif(shutil.which("qemu-system-i386") is None, reason="qemu-system-i386 is not installed")
@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_a_guest_of_32_bits_runs_and_gets_devices_from_a_daemon_that_has_not_met_its_emulator(machine: str) -> None:
    with session() as one:
        one.start_daemon()
        one.define(xml(one, machine))
        assert "<emulator>/usr/bin/qemu-system-i386</emulator>" in one.virsh("dumpxml", "old")
        one.virsh("start", "old")
        out, deadline = one.base / f"out-{machine}", time.monotonic() + 30
        while SAID not in out.read_text():
            assert time.monotonic() < deadline, out.read_text()
            time.sleep(0.05)
        one.stop_daemon()
        one.start_daemon()
        path = one.base / "nic.xml"
        path.write_text(NIC)
        one.virsh("attach-device", "old", str(path), "--live")
        assert one.virsh("dumpxml", "old").count("<interface ") == 2
        assert "<arch name='i686'>" in one.virsh("capabilities")
        one.virsh("destroy", "old")
        one.virsh("start", "old")
        one.virsh("destroy", "old")


def test_an_architecture_that_the_host_has_no_emulator_for_is_refused_with_its_line() -> None:
    with session() as one:
        one.start_daemon()
        one.define(domain("strange").replace("x86_64", "s390x").replace("q35", "s390-ccw-virtio"))
        said = one.virsh("start", "strange", check=False)
        assert "there is no QEMU for architecture 's390x' on this host" in said
        assert "line " in said
