"""The devices of an everyday domain, as virt-install writes it: booted on both boards of x86, seen by the guest."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from domains import domain
from session import Session, console_of, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

EVERYDAY = """<disk type='file' device='disk'>
      <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='vda' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/><target dev='{cdrom}'/><readonly/>
    </disk>
    <controller type='usb' model='qemu-xhci' ports='15'/>
    <controller type='virtio-serial' index='0'/>
    <interface type='user'><model type='virtio'/></interface>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <input type='tablet' bus='usb'/>
    <graphics type='vnc' port='-1' autoport='yes' listen='127.0.0.1'/>
    <video><model type='virtio'/></video>
    <memballoon model='virtio'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"""

MODERN = {"net": "1041", "block": "1042", "console": "1043", "rng": "1044", "balloon": "1045", "gpu": "1050"}
OLD = {"net": "1000", "block": "1001", "console": "1003", "rng": "1005", "balloon": "1002", "gpu": "1050"}
"""PCI device ids of virtio (Virtual I/O Device specification 1.1, 4.1.2.1): behind a PCIe port, and on plain PCI."""

POWER_OFF = b"\xba\x04\x06\xb8\x00\x20\xef\xf4\xeb\xfd"
"""mov dx,0x604; mov ax,0x2000; out dx,ax; hlt; jmp back: S5 through the PM1a control port of both boards."""
SAY = b"\x31\xc0\x8e\xd8\xbe\x20\x7c\xba\xf8\x03\xac\x84\xc0\x74\x03\xee\xeb\xf8"
"""Print the string at 0x7c20 on the first serial line."""


@pytest.fixture(scope="module")
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def qcow2(path: Path, content: bytes = b"") -> Path:
    """A disk image of 1 MiB that begins with *content*."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(content.ljust(1 << 20, b"\0"))
    subprocess.run(["qemu-img", "convert", "-O", "qcow2", "-f", "raw", str(raw), str(path)], check=True)
    return path


@pytest.mark.parametrize(("machine", "ids"), [("q35", MODERN), ("pc", OLD)])
def test_every_device_of_an_everyday_domain_is_there(one: Session, machine: str, ids: dict[str, str]) -> None:
    disk = qcow2(one.base / f"{machine}.qcow2")
    devices = EVERYDAY.format(disk=disk, cdrom="sda" if machine == "q35" else "hda")
    one.define(domain(machine, devices, machine=machine, extra="<on_reboot>restart</on_reboot>"))
    one.virsh("start", machine)
    guest = console_of(one, machine)
    guest.ready()
    seen = guest.check("cat /sys/bus/pci/devices/*/device").split()
    assert {name: f"0x{number}" in seen for name, number in ids.items()} == dict.fromkeys(ids, True)
    assert one.virsh("domblklist", machine).split()[:2] == ["vda", str(disk)]
    assert rfb_banner(one.virsh("domdisplay", machine)).startswith(b"RFB 003.")
    assert channel_accepts(one.virsh("dumpxml", machine))
    one.virsh("destroy", "--graceful", machine)
    os.close(one.consoles.pop())
    assert one.virsh("domstate", machine) == "shut off"
    one.virsh("undefine", machine)


def rfb_banner(uri: str) -> bytes:
    """What the VNC server of ``vnc://HOST:DISPLAY`` says first (RFC 6143, 7.1.1)."""
    found = re.fullmatch(r"vnc://([^:]+):(\d+)", uri)
    assert found, uri
    with socket.create_connection(("127.0.0.1", 5900 + int(found[2])), 10) as sock:
        return sock.recv(12)


def channel_accepts(xml: str) -> bool:
    found = re.search(r"<source mode='bind' path='([^']+channel[^']*)'", xml)
    assert found, xml
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(found[1])
    return True


@pytest.mark.parametrize(("machine", "bus"), [("q35", "sata"), ("pc", "ide"), ("q35", "virtio"), ("pc", "virtio")])
def test_a_disk_is_booted_from_and_the_guest_powers_itself_off(one: Session, machine: str, bus: str) -> None:
    sector = (SAY + POWER_OFF).ljust(0x20, b"\x90") + b"virlet booted a disk\r\n\0"
    disk = qcow2(one.base / f"boot-{machine}-{bus}.qcow2", sector.ljust(510, b"\0") + b"\x55\xaa")
    said = one.base / f"said-{machine}-{bus}"
    target = "vda" if bus == "virtio" else "sda" if bus == "sata" else "hda"
    path = one.base / "boot.xml"
    path.write_text(f"""<domain type='qemu'><name>boot</name><memory unit='MiB'>64</memory>
      <os><type arch='x86_64' machine='{machine}'>hvm</type><boot dev='hd'/></os><features><acpi/></features>
      <devices>
        <disk type='file' device='disk'>
          <driver name='qemu' type='qcow2'/><source file='{disk}'/><target dev='{target}' bus='{bus}'/>
        </disk>
        <serial type='file'><source path='{said}'/></serial>
      </devices></domain>""")
    one.virsh("define", str(path))
    with one.events() as events:
        one.virsh("start", "boot")
        events.wait_for("Stopped Shutdown", "'boot'")
    assert one.virsh("domstate", "--reason", "boot") == "shut off (shutdown)"
    assert b"virlet booted a disk" in said.read_bytes()
    one.virsh("undefine", "boot")
