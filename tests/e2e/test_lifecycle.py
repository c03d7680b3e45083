"""States, reasons and events in libvirt's order, from boot to power-off, and what is synced before a destroy."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from domains import domain
from session import Session, console_of, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def lifecycle(lines: list[str]) -> list[str]:
    """What happened to the domain, in order, without times and names."""
    return [line.split(": ", 1)[1] for line in lines if "'lifecycle'" in line]


def test_the_events_of_a_life_come_in_libvirts_order(one: Session) -> None:
    with one.events() as events:
        one.define(domain("life", cmdline="console=ttyS0 quiet virlet.nonet"))
        events.wait_for("Defined")
        one.virsh("start", "life")
        console_of(one, "life").ready(90)
        one.virsh("suspend", "life")
        one.virsh("resume", "life")
        one.virsh("destroy", "life")
        one.virsh("start", "life", "--paused")
        assert one.virsh("domstate", "--reason", "life") == "paused (user)"
        one.virsh("destroy", "life")
        one.virsh("undefine", "life")
        events.wait_for("Undefined")
    assert lifecycle(events.lines) == [
        "Defined Added",
        "Resumed Unpaused",
        "Started Booted",
        "Suspended Paused",
        "Resumed Unpaused",
        "Shutdown Finished after host request",
        "Stopped Destroyed",
        "Started Booted",
        "Suspended Paused",
        "Shutdown Finished after host request",
        "Stopped Destroyed",
        "Undefined Removed",
    ]


def test_a_guest_that_powers_off_is_shut_off_by_shutdown(one: Session) -> None:
    with one.events() as events:
        one.define(domain("off", cmdline="console=ttyS0 quiet virlet.nonet"))
        one.virsh("start", "off")
        console_of(one, "off").ready(90)
        one.virsh("shutdown", "off")
        events.wait_for("Stopped", timeout=60)
    assert lifecycle(events.lines)[-2:] == ["Shutdown Finished after guest request", "Stopped Shutdown"]
    assert one.virsh("domstate", "--reason", "off") == "shut off (shutdown)"


def test_a_transient_domain_vanishes_when_it_stops(one: Session) -> None:
    path = one.base / "t.xml"
    path.write_text(domain("short", cmdline="console=ttyS0 quiet virlet.nonet"))
    one.virsh("create", str(path))
    assert "Persistent:     no" in one.virsh("dominfo", "short")
    one.virsh("destroy", "short")
    assert "short" not in one.virsh("list", "--all")


def test_a_destroy_keeps_what_the_guest_wrote_to_a_qcow2_disk(one: Session) -> None:
    disk = one.base / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", str(disk), "64M"], check=True, timeout=30)
    device = (
        f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>"
        "<target dev='vda' bus='virtio'/></disk>"
    )
    one.define(domain("disk", device, cmdline="console=ttyS0 quiet virlet.nonet"))
    one.virsh("start", "disk")
    console = console_of(one, "disk")
    console.ready(90)
    # 200 direct writes that the guest considers done, and no flush: qcow2's tables are still in QEMU's own memory.
    block = "printf %08d $i | dd of=/tmp/block bs=65536 conv=sync 2>/dev/null"
    write = "dd if=/tmp/block of=/dev/vda bs=65536 seek=$i oflag=direct conv=notrunc 2>/dev/null"
    loop = f"i=0; while [ $i -lt 200 ]; do {block}; {write} || exit 9; i=$((i+1)); done; echo written"
    status, text = console.run(loop, 120)
    assert (status, text.strip().splitlines()[-1]) == (0, "written")
    one.virsh("destroy", "disk")
    raw = one.base / "disk.raw"
    subprocess.run(["qemu-img", "convert", "-O", "raw", str(disk), str(raw)], check=True, timeout=60)
    data = raw.read_bytes()
    kept = [number for number in range(200) if data[number * 65536 :][:8] == b"%08d" % number]
    assert kept == list(range(200))


def test_autostart_starts_the_guest_with_the_daemon(one: Session) -> None:
    one.define(domain("early", cmdline="console=ttyS0 quiet virlet.nonet"))
    one.virsh("autostart", "early")
    assert "Autostart:      enable" in one.virsh("dominfo", "early")
    one.stop_daemon()
    one.start_daemon()
    with one.events("--all", "--loop", "--timeout", "20") as events:
        if one.virsh("domstate", "early") != "running":
            events.wait_for("Started")
    one.virsh("destroy", "early")


def test_native_shows_what_a_start_would_run_network_included(one: Session) -> None:
    path = one.base / "n.xml"
    path.write_text(
        domain("native", "<interface type='user'><model type='virtio'/><backend type='passt'/></interface>")
    )
    text = one.virsh("domxml-to-native", "qemu-argv", str(path))
    assert "qemu-system-x86_64" in text
    assert "passt" in text
    assert '"type":"stream"' in text.replace(" ", "")
