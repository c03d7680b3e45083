#!/usr/bin/env python3
"""Memory of each daemon with running guests, and the price of an import.

    VIRLET_BIN=…/bin bench/memory.py --kernel VMLINUZ [--guests 20] [--check]

PSS of the daemon and of all Python processes below it, against libvirtd's PSS, with the same guests running in each:
one daemon after the other, in turns, medians.  A page of a library counts for the part that is the daemon's among those
who have it, so a figure depends on what else runs; what nobody else has ("own") does not, and it is said how many
processes share each daemon's program or library.  Run it as an ordinary user with the interpreter that has
libvirt-python.
"""

from __future__ import annotations

import contextlib
import subprocess
import time
from pathlib import Path

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


TURNS, READINGS = 2, 5
"""Turns of each daemon, and readings of its memory in a turn."""


def read(pid: int) -> dict[str, float]:
    """MiB, medians of some readings: what else runs comes and goes."""
    taken = []
    for _ in range(READINGS):
        taken.append((pss_kib(pid) / 1024, pss_kib(pid, "Pss_Anon:") / 1024))
        time.sleep(0.1)  # The measurement itself: readings apart from each other.
    return {"PSS": median([pss for pss, _ in taken]), "own": median([own for _, own in taken])}


def sharers(pid: int, word: str) -> int:
    """Processes of this user that have mapped a file of that name, besides *pid*."""
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != pid:
            with contextlib.suppress(OSError):
                found += word in (entry / "maps").read_text()
    return found


def loaded(serve, word: str, kernel: str, guests: int) -> dict[str, float]:  # type: ignore[no-untyped-def]
    """MiB, idle and with *guests* paused guests; and how many processes share the file called *word*."""
    with home() as env, serve(env) as (pid, uri):
        connection = libvirt.open(uri)
        idle = read(pid)
        flags = libvirt.VIR_DOMAIN_START_PAUSED
        domains = [connection.createXML(XML.format(number=n, kernel=kernel), flags) for n in range(guests)]
        full = read(pid)
        shared = sharers(pid, word)
        for domain in domains:
            domain.destroy()
        return {"idle": idle["PSS"], "full": full["PSS"], "own": full["own"], "sharers": shared}


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
    daemons = {"virletd": (virletd, "/python3"), "libvirtd": (libvirtd, "/libvirt.so")}
    turns: dict[str, list[dict[str, float]]] = {name: [] for name in daemons}
    for _ in range(TURNS):
        for name, (serve, word) in daemons.items():
            turns[name].append(loaded(serve, word, kernel, guests))
    full = {}
    for name, taken in turns.items():
        idle, full[name], own, shared = (median([each[key] for each in taken]) for key in taken[0])
        print(f"  {name:<12} idle {idle:6.1f}  with guests {full[name]:6.1f}, of it own {own:6.1f}; ", end="")
        print(f"{shared:.0f} others share {daemons[name][1][1:]}", flush=True)
    return [*verdicts, Verdict(f"memory with {guests} guests, times libvirtd", full["virletd"] / full["libvirtd"], 1.0)]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--guests", type=int, default=20)
    options = parser.parse_args()
    judged(options, lambda: measure(options.kernel, options.samples, options.guests))


if __name__ == "__main__":
    main()
