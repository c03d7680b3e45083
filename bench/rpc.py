#!/usr/bin/env python3
"""Rates of small calls, of defineXML and of XMLDesc: virletd and libvirtd, one client, one run, interleaved.

    VIRLET_BIN=…/bin bench/rpc.py [--samples 20] [--calls 2000] [--check]

A sample is the rate of one batch.  The client is libvirt-python on both sides and the domains are the same, so the
payloads are equal but for XMLDesc, whose sizes are printed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from common import (
    Verdict,
    arguments,
    home,
    interleave,
    judged,
    libvirt_module,
    libvirtd,
    median,
    name_of,
    table,
    virletd,
)

libvirt = libvirt_module()

XML = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <features><acpi/><apic/></features>
  <clock offset='utc'/>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2'/>
      <source file='/nowhere/{name}.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='user'><mac address='{mac}'/><model type='virtio'/></interface>
    <serial type='pty'/><console type='pty'/>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
  </devices>
</domain>"""


def xml_of(number: int) -> str:
    return XML.format(
        name=f"rate{number}",
        uuid=uuid.UUID(int=0x1234_0000_4000_8000_0000_0000_0000_0000 + number),
        mac=f"52:54:00:{number >> 16 & 255:02x}:{number >> 8 & 255:02x}:{number & 255:02x}",
    )


def rate(calls: int, action: Callable[[int], object]) -> float:
    """Calls a second of one batch."""
    start = time.perf_counter()
    for number in range(calls):
        action(number)
    return calls / (time.perf_counter() - start)


class Peer:
    """One daemon with a hundred definitions."""

    def __init__(self, uri: str) -> None:
        self.connection = libvirt.open(uri)
        self.domains = [self.connection.defineXML(xml_of(number)) for number in range(100)]

    def lookup(self, calls: int) -> float:
        return rate(calls, lambda number: self.connection.lookupByName(f"rate{number % 100}"))

    def state(self, calls: int) -> float:
        return rate(calls, lambda number: self.domains[number % 100].state())

    def xml(self, calls: int) -> float:
        return rate(calls, lambda number: self.domains[number % 100].XMLDesc())

    def define(self, calls: int) -> float:
        """Every definition is new; they are undefined outside the timed part."""
        made = []
        figure = rate(calls, lambda number: made.append(self.connection.defineXML(xml_of(1000 + number))))
        for domain in made:
            domain.undefine()
        return figure


def measure(samples: int, calls: int) -> list[Verdict]:
    verdicts = []
    with home() as ours, home() as theirs, virletd(ours) as (_, our_uri), libvirtd(theirs) as (_, their_uri):
        virlet, peer = Peer(our_uri), Peer(their_uri)
        name = name_of(peer.connection)
        sizes = [len(each.domains[0].XMLDesc()) for each in (virlet, peer)]
        for title, method, count, least in (
            ("lookupByName", "lookup", calls, 1.2),
            ("domain state", "state", calls, 1.2),
            (f"XMLDesc ({sizes[0]} bytes against {sizes[1]})", "xml", calls, 1.0),
            ("defineXML of a new domain", "define", calls // 10, 1.0),
        ):
            each = {
                "virlet": lambda m=method, n=count: getattr(virlet, m)(n),
                name: lambda m=method, n=count: getattr(peer, m)(n),
            }
            figures = interleave(each, samples)
            table(title, figures, "calls/s", base=name)
            ratio = median(figures["virlet"]) / median(figures[name])
            verdicts.append(Verdict(f"{method}, rate times {name}", ratio, least, at_least=True))
    return verdicts


def main() -> None:
    parser = arguments(__doc__, kernel=False)
    parser.add_argument("--calls", type=int, default=2000, help="small calls in a batch; definitions are a tenth")
    options = parser.parse_args()
    judged(options, lambda: measure(options.samples, options.calls))


if __name__ == "__main__":
    main()
