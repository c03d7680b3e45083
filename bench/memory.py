#!/usr/bin/env python3
"""Memory of each daemon with running guests, and the price of an import.

    VIRLET_BIN=…/bin bench/memory.py --kernel VMLINUZ [--guests 20] [--check]

PSS of the daemon and of all Python processes below it, against libvirtd's PSS, with the same guests running in each
(one daemon after the other).  Run it as an ordinary user with the interpreter that has libvirt-python.
"""

from __future__ import annotations

import subprocess

from common import (
    Verdict,
    arguments,
    home,
    judged,
    libvirt_module,
    libvirtd,
    median,
    pss_kib,
    table,
    timed,
    virlet_bin,
    virletd,
)

libvirt = libvirt_module()

XML = """<domain type='qemu'>
  <name>mem{number}</name>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel></os>
  <devices><interface type='user'><model type='virtio'/></interface><serial type='pty'/><console type='pty'/></devices>
</domain>"""


def loaded(serve, kernel: str, guests: int) -> tuple[float, float]:  # type: ignore[no-untyped-def]
    """PSS in MiB, idle and with *guests* paused guests."""
    with home() as env, serve(env) as (pid, uri):
        connection = libvirt.open(uri)
        idle = pss_kib(pid) / 1024
        flags = libvirt.VIR_DOMAIN_START_PAUSED
        domains = [connection.createXML(XML.format(number=n, kernel=kernel), flags) for n in range(guests)]
        full = pss_kib(pid) / 1024
        for domain in domains:
            domain.destroy()
        return idle, full


def imports(samples: int) -> list[Verdict]:
    python = str(virlet_bin("virlet").parent / "python")
    commands = {
        "bare interpreter": [python, "-c", "pass"],
        "import virlet": [python, "-c", "import virlet"],
        "import virlet.client": [python, "-c", "import virlet.client"],
        "virlet --help": [str(virlet_bin("virlet")), "--help"],
    }
    figures: dict[str, list[float]] = {name: [] for name in commands}
    for turn in range(samples + 1):
        for name, argv in commands.items():
            took = timed(lambda argv=argv: subprocess.run(argv, check=True, stdout=subprocess.DEVNULL))
            if turn:
                figures[name].append(took)
    table("start of a process", figures, "ms", base="bare interpreter")
    bare, ours, words = (median(figures[name]) for name in ("bare interpreter", "import virlet", "virlet --help"))
    return [Verdict("import virlet, ms on top", ours - bare, 60), Verdict("virlet --help, ms", words, 150)]


def measure(kernel: str, samples: int, guests: int) -> list[Verdict]:
    verdicts = imports(samples)
    print(f"\nPSS of the daemon (MiB), idle and with {guests} guests")
    full = {}
    for name, serve in (("virletd", virletd), ("libvirtd", libvirtd)):
        idle, full[name] = loaded(serve, kernel, guests)
        print(f"  {name:<22} idle {idle:7.1f}  with guests {full[name]:7.1f}", flush=True)
    return [*verdicts, Verdict(f"memory with {guests} guests, times libvirtd", full["virletd"] / full["libvirtd"], 1.0)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--guests", type=int, default=20)
    options = parser.parse_args()
    judged(options, lambda: measure(options.kernel, options.samples, options.guests))


if __name__ == "__main__":
    main()
