#!/usr/bin/env python3
"""Start and destroy of a passt guest: virletd, libvirtd and a raw run by hand, in one run, interleaved.

    VIRLET_BIN=…/bin bench/lifecycle.py --kernel VMLINUZ [--samples 20] [--check]

*Raw* is the command line that virletd ran, taken from /proc, with the sockets bound by hand: sockets, passt and QEMU
side by side, every forwarded TCP port accepting, QMP negotiated, ``cont``.  A start by a daemon is timed from call to
return, and then every forwarded TCP port has to accept.  Run it as an ordinary user with the
interpreter that has libvirt-python.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from common import (
    Verdict,
    arguments,
    await_free,
    home,
    interleave,
    judged,
    libvirt_module,
    libvirtd,
    median,
    name_of,
    table,
    timed,
    unused_row,
    virletd,
)

libvirt = libvirt_module()

XML = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{kernel}</kernel><cmdline>console=ttyS0</cmdline></os>
  <features><acpi/></features>
  <devices>
    {nic}
    <serial type='pty'/><console type='pty'/>
  </devices>
</domain>"""

NIC = """<interface type='user'><mac address='52:54:00:a8:33:fc'/><model type='virtio'/>{backend}
      <portForward address='127.0.0.1' proto='tcp'>
        <range start='{base}' to='22'/><range start='{first}' end='{last}' to='1000'/>
      </portForward>
      <portForward proto='udp'><range start='{udp}'/></portForward>
    </interface>"""


def nic(base: int, count: int) -> str:
    return NIC.format(backend="<backend type='passt'/>", base=base, first=base + 1, last=base + count, udp=base)


class Guest:
    """One defined domain of one daemon."""

    def __init__(self, uri: str, xml: str, ports: Sequence[int] = ()) -> None:
        self.connection = libvirt.open(uri)
        self.domain = self.connection.defineXML(xml)
        self.ports = ports
        self.destroys: list[float] = []

    def start(self) -> float:
        await_free(self.ports)
        took = timed(self.domain.create)
        for port in self.ports:
            socket.create_connection(("127.0.0.1", port)).close()
        self.destroys.append(timed(self.domain.destroy))
        return took


def processes_of(user: int, word: str) -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                if entry.stat().st_uid == user:
                    argv = (entry / "cmdline").read_bytes().decode().split("\0")[:-1]
                    if argv and word in Path(argv[0]).name:
                        yield int(entry.name), argv


class Raw:
    """The same two processes, started by hand."""

    def __init__(self, qemu: list[str], passt: list[str], ports: Sequence[int]) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="raw"))
        self.qemu, self.passt, self.ports = qemu, passt, ports
        self.destroys: list[float] = []

    def start(self) -> float:
        monitor, net = self.folder / "m", self.folder / "n"
        begin = time.perf_counter()
        with contextlib.ExitStack() as stack:
            listeners = [stack.enter_context(self._listen(path)) for path in (monitor, net)]
            dial = stack.enter_context(socket.socket(socket.AF_UNIX))
            dial.connect(str(net))
            qemu = self._spawn(self._numbered(self.qemu, listeners[0].fileno(), listeners[1].fileno()), listeners)
            passt = self._spawn(self._dialled(dial.fileno()), [dial])
        monitor_stream = self._negotiate(monitor)
        self._wait_for_ports(passt)
        self._execute(monitor_stream, "cont")
        took = (time.perf_counter() - begin) * 1e3
        begin = time.perf_counter()
        qemu.send_signal(signal.SIGTERM)
        qemu.wait(20)
        passt.wait(20)
        self.destroys.append((time.perf_counter() - begin) * 1e3)
        self._lines.close()
        monitor_stream.close()
        return took

    @staticmethod
    def _listen(path: Path) -> socket.socket:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(str(path))
        listener.listen(1)
        return listener

    def _spawn(self, argv: list[str], handed: list[socket.socket]) -> subprocess.Popen[bytes]:
        with open(self.folder / "log", "ab") as log:
            return subprocess.Popen(
                argv,
                pass_fds=[each.fileno() for each in handed],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _numbered(self, argv: list[str], monitor: int, net: int) -> list[str]:
        out = []
        for word in argv:
            if word.startswith("{") and '"stream"' in word:
                value = json.loads(word)
                value["addr"]["str"] = str(net)
                word = json.dumps(value)
            elif word.startswith("socket,") and re.search(r"\bfd=\d+", word):
                word = re.sub(r"\bfd=\d+", f"fd={monitor}", word)
            out.append(word)
        return out

    def _dialled(self, number: int) -> list[str]:
        argv = list(self.passt)
        argv[argv.index("--fd") + 1] = str(number)
        return argv

    def _negotiate(self, path: Path) -> socket.socket:
        stream = socket.socket(socket.AF_UNIX)
        stream.connect(str(path))
        self._lines = stream.makefile("rb")
        self._lines.readline()
        self._execute(stream, "qmp_capabilities")
        return stream

    def _execute(self, stream: socket.socket, command: str) -> None:
        stream.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            line = self._lines.readline()
            if not line:
                raise SystemExit("QEMU went away in the raw run")
            if "return" in json.loads(line):
                return

    def _wait_for_ports(self, passt: subprocess.Popen[bytes]) -> None:
        for port in self.ports:
            while passt.poll() is None:
                with contextlib.suppress(ConnectionRefusedError):
                    socket.create_connection(("127.0.0.1", port)).close()
                    break
            else:
                raise SystemExit("passt went away in the raw run")


def raw_of(guest: Guest, ports: Sequence[int]) -> Raw:
    """Start *guest* once and read off what was run."""
    before = {pid for word in ("qemu-system", "passt") for pid, _ in processes_of(os.getuid(), word)}
    guest.domain.create()
    try:
        new = {
            word: next(argv for pid, argv in processes_of(os.getuid(), word) if pid not in before)
            for word in ("qemu-system", "passt")
        }
    finally:
        guest.domain.destroy()
    return Raw(new["qemu-system"], new["passt"], ports)


def peer_of(uri: str, kernel: str, count: int) -> Guest:
    """libvirt's guest: the same, or on built-in slirp where this libvirt knows no passt (before 9.2)."""
    try:
        ports = unused_row(24100, count + 1)
        return Guest(uri, XML.format(name="bench", kernel=kernel, nic=nic(ports.start, count)), ports)
    except libvirt.libvirtError as error:
        print(f"this libvirt cannot do passt ({error}); its own start is measured with built-in slirp")
        slirp = "<interface type='user'><model type='virtio'/></interface>"
        return Guest(uri, XML.format(name="bench", kernel=kernel, nic=slirp))


def measure(kernel: str, samples: int, count: int) -> list[Verdict]:
    with home() as ours, home() as theirs, virletd(ours) as (_, our_uri), libvirtd(theirs) as (_, their_uri):
        ports = unused_row(23100, count + 1)
        guest = Guest(our_uri, XML.format(name="bench", kernel=kernel, nic=nic(ports.start, count)), ports)
        raw, peer = raw_of(guest, ports), peer_of(their_uri, kernel, count)
        name = name_of(peer.connection)
        starts = interleave({"raw": raw.start, "virlet": guest.start, name: peer.start}, samples)
    shutil.rmtree(raw.folder)
    ends = {"raw (SIGTERM to exit)": raw.destroys, "virlet": guest.destroys, name: peer.destroys}
    ends = {key: values[-samples:] for key, values in ends.items()}
    table(f"start of a passt guest with {count + 1} forwarded TCP ports, call to return", starts, "ms", base="raw")
    table("destroy", ends, "ms", base=name)
    return [
        Verdict("start, times raw", median(starts["virlet"]) / median(starts["raw"]), 1.4),
        Verdict(f"destroy, times {name}", median(ends["virlet"]) / median(ends[name]), 0.1),
    ]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--ports", type=int, default=80, help="forwarded TCP ports beside one")
    options = parser.parse_args()
    judged(options, lambda: measure(options.kernel, options.samples, options.ports))


if __name__ == "__main__":
    main()
