"""Domain XML for the end-to-end tests, with ports that are free now."""

from __future__ import annotations

import os
import socket
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from session import GUEST

CMDLINE = "console=ttyS0 quiet panic=1"


@dataclass(frozen=True)
class Ports:
    """Host ports of the issue's example, moved to where nobody listens."""

    ssh: int
    first: int
    udp: int

    @property
    def excluded(self) -> range:
        return range(self.first + 10, self.first + 30)

    @property
    def forwarded(self) -> dict[int, int]:
        """Host port to guest port, TCP."""
        many = {self.first + n: 1000 + n for n in range(100) if self.first + n not in self.excluded}
        return {self.ssh: 22} | many


BLOCKS = range(20000, 32000, 300)


def free_ports(start: int = BLOCKS.start) -> Ports:
    """Ports below the ephemeral range such that none of them is taken; two runs beside each other begin elsewhere."""
    first = (start - BLOCKS.start) // BLOCKS.step + os.getpid()
    for base in (BLOCKS[(first + number) % len(BLOCKS)] for number in range(len(BLOCKS))):
        with ExitStack() as stack:
            try:
                for port in (base, *range(base + 100, base + 200)):
                    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
                        stack.enter_context(_bound(family, socket.SOCK_STREAM, host, port))
                stack.enter_context(_bound(socket.AF_INET, socket.SOCK_DGRAM, "0.0.0.0", base + 201))
            except OSError:
                continue
            return Ports(base, base + 100, base + 201)
    raise AssertionError("no free ports between 20000 and 32000")


def _bound(family: int, kind: int, host: str, port: int) -> socket.socket:
    made = socket.socket(family, kind)
    try:
        made.bind((host, port))
    except OSError:
        made.close()
        raise
    return made


def default_interface() -> str:
    """The host interface that carries the default route."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return fields[0]
    raise AssertionError("this host has no default route; passt of 2023 needs one")


def passt_nic(ports: Ports, log: Path, *, mac: str = "52:54:00:a8:33:fc") -> str:
    """The interface of libvirt's passt series, ports and paths adapted."""
    return f"""<interface type='user'>
      <mac address='{mac}'/>
      <ip address='192.168.221.122' family='ipv4'/>
      <model type='virtio'/>
      <backend type='passt' logFile='{log}'/>
      <source dev='{default_interface()}'/>
      <portForward address='127.0.0.1' proto='tcp'>
        <range start='{ports.ssh}' to='22'/>
        <range start='{ports.first}' end='{ports.first + 99}' to='1000'/>
        <range start='{ports.excluded.start}' end='{ports.excluded.stop - 1}' exclude='yes'/>
      </portForward>
      <portForward proto='udp'><range start='{ports.udp}' to='10101'/></portForward>
    </interface>"""


def domain(
    name: str,
    devices: str = "",
    *,
    machine: str = "q35",
    cmdline: str = CMDLINE,
    extra: str = "",
    kernel: Path | None = None,
) -> str:
    """A small domain that boots the test guest; *devices* go beside its serial console."""
    return f"""<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='{machine}'>hvm</type>
    <kernel>{kernel or GUEST / "vmlinuz"}</kernel>
    <initrd>{GUEST / "initramfs.img"}</initrd>
    <cmdline>{cmdline}</cmdline>
  </os>
  <features><acpi/></features>
  {extra}
  <devices>
    {devices}
    <serial type='pty'/>
    <console type='pty'/>
  </devices>
</domain>"""
