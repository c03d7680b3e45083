#!/usr/bin/env python3
"""Traffic back after ``kill -9`` of a guest's helper, in milliseconds: virlet, and libvirt where it knows passt.

    VIRLET_BIN=…/bin bench/recovery.py --guest DIRECTORY [--samples 20] [--check]

The guest (``script/make-guest``) sends nothing by itself.  A datagram is sent through a forward every 4 ms, and
the time is that from the kill (from the guest's resume, from the daemon's return) to the guest's first answer.  Run
it as an ordinary user with the interpreter that has libvirt-python.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from common import Verdict, arguments, home, judged, libvirt_module, libvirtd, median, name_of, p95, unused, virlet_bin

libvirt = libvirt_module()

XML = """<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>128</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><kernel>{guest}/vmlinuz</kernel><initrd>{guest}/initramfs.img</initrd>
    <cmdline>console=ttyS0 quiet panic=1</cmdline></os>
  <features><acpi/></features>{memory}
  <devices>{nic}<serial type='pty'/><console type='pty'/></devices>
</domain>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
NIC = """<interface type='{kind}'><mac address='52:54:00:a8:33:{n:02x}'/><model type='virtio'/>{backend}
  <portForward proto='udp' address='127.0.0.1'><range start='{port}' to='7'/></portForward>
  <portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>{ours}</interface>"""
SLIRP = "<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/>"
PASST = "<backend type='passt'/>"
Traffic = Callable[[int, float], float]
EVERY = 0.004
"""Seconds between two tries."""
MOST = 200
"""Tries that are waited for at a time."""


def nic(port: int, *, kind: str = "user", backend: str = PASST, ours: str = "") -> str:
    return NIC.format(n=port % 256, port=port, kind=kind, backend=backend, ours=ours)


def traffic(port: int, since: float, timeout: float = 60.0) -> float:
    """Milliseconds from *since* until the guest behind *port* has echoed a datagram that is sent from now on.

    TCP would measure its own retransmissions, and a connection every 4 ms is too much for a guest under TCG.
    """
    with contextlib.ExitStack() as stack:
        poller, socks = select.poll(), {}
        while time.perf_counter() - since < timeout:
            due = time.perf_counter() + EVERY
            # A socket each: passt keeps what it learnt of a source while the guest was away.
            sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            socks[sock.fileno()] = sock
            poller.register(sock, select.POLLIN)
            with contextlib.suppress(OSError):  # Nobody listens for a moment.
                sock.connect(("127.0.0.1", port))
                sock.send(b"anybody?")
            while (left := due - time.perf_counter()) > 0:
                for fd, _ in poller.poll(left * 1e3):
                    poller.unregister(fd)
                    with contextlib.suppress(OSError):
                        socks[fd].recv(100)
                        return (time.perf_counter() - since) * 1e3
            if len(socks) > MOST:
                with socks.pop(next(iter(socks))) as oldest, contextlib.suppress(KeyError):
                    poller.unregister(oldest)
    raise SystemExit(f"no traffic through port {port} within {timeout:g} s")


def connection(port: int, since: float, timeout: float = 60.0) -> float:
    """The same by TCP, a try after the other, for libvirt's guest, whose passt answers no UDP from the host here."""
    while time.perf_counter() - since < timeout:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 2) as sock:
            sock.sendall(b"\n")
            if sock.recv(100):
                return (time.perf_counter() - since) * 1e3
    raise SystemExit(f"no connection through port {port} within {timeout:g} s")


def booted(xml: str, timeout: float = 120.0) -> None:
    """Wait until the guest says on its console that it serves: what came earlier would be answered late, or never."""
    found = re.search(r"tty='([^']+)'", xml)
    assert found is not None, "the guest has no console"
    console = os.open(found[1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        said, deadline = b"", time.monotonic() + timeout
        while b"VIRLET-READY" not in said:
            if not select.select([console], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise SystemExit(f"the guest has not booted within {timeout:g} s")
            said = said[-20:] + os.read(console, 4096)
    finally:
        os.close(console)


class Daemon:
    """A virletd that is killed and comes back."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self.env = dict(env)
        self.uri = f"qemu+unix:///session?socket={env['XDG_RUNTIME_DIR']}/virlet/virletd.sock"
        self.begin()

    def begin(self) -> None:
        """Return when it says that it is ready."""
        reading, writing = os.pipe()
        with open(Path(self.env["XDG_STATE_HOME"]) / "daemon.log", "ab") as log:
            argv = [str(virlet_bin("virletd")), "--ready-fd", str(writing)]
            self.process = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, pass_fds=[writing])
        os.close(writing)
        with open(reading, "rb") as ready:
            assert ready.read(), "virletd did not start"

    def end(self, how: signal.Signals) -> None:
        self.process.send_signal(how)
        self.process.wait(30)


class Guest:
    """A running guest, the port of its network, and the helper behind it."""

    def __init__(
        self, uri: str, directory: str, port: int, nic: str, traffic: Traffic = traffic, memory: str = ""
    ) -> None:
        self.uri, self.name, self.port, self.traffic = uri, f"guest{port}", port, traffic
        connection = libvirt.open(uri)
        domain = connection.defineXML(XML.format(name=self.name, guest=directory, nic=nic, memory=memory))
        domain.create()
        booted(domain.XMLDesc())
        self.traffic(port, time.perf_counter())

    @property
    def domain(self):  # type: ignore[no-untyped-def]
        return libvirt.open(self.uri).lookupByName(self.name)

    def undisturbed(self) -> float:
        return self.traffic(self.port, time.perf_counter())

    def killed(self, *others: Guest) -> float:
        """Kill the helper of this guest and of *others*; from the kill to traffic through all of them."""
        since = self.kill(*others)
        return max(guest.traffic(guest.port, since) for guest in (self, *others))

    def kill(self, *others: Guest) -> float:
        pids = [helper_of(guest.port) for guest in (self, *others)]
        since = time.perf_counter()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            ended(pid)
        return since

    def killed_while_paused(self) -> float:
        domain = self.domain
        domain.suspend()
        self.kill()
        since = time.perf_counter()
        domain.resume()
        return self.traffic(self.port, since)

    def killed_without(self, daemon: Daemon) -> float:
        daemon.end(signal.SIGKILL)
        self.kill()
        daemon.begin()
        return self.traffic(self.port, time.perf_counter())


def ended(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        pidfd = os.pidfd_open(pid)
        select.select([pidfd], [], [])
        os.close(pidfd)


def helper_of(port: int) -> int:
    """The process that was told to forward *port*; a daemon may just be starting it."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        for pid, words in processes():
            if f"127.0.0.1/{port}:7" in words or any(f"127.0.0.1:{port}" in word for word in words):
                return pid
    raise SystemExit(f"no helper forwards port {port}")


def processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and entry.stat().st_uid == os.getuid():
                words = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
                name = (entry / "comm").read_text()
                if name.startswith(("passt", "virlet-slirp")) and words != [""]:
                    yield int(entry.name), words


def repeated(what: Callable[[], float], count: int) -> list[float]:
    return [what() for _ in range(count)]


def ours(guest: str, samples: int, few: int) -> dict[str, list[float]]:
    one, two, three = (unused(port) for port in (23600, 23620, 23640))
    with home() as env:
        daemon = Daemon(env)
        try:
            passt = Guest(daemon.uri, guest, one, nic(one))
            other = Guest(daemon.uri, guest, two, nic(two))
            rows = {
                "passt, undisturbed": repeated(passt.undisturbed, samples),
                "passt": repeated(passt.killed, samples),
                "passt, two at once": repeated(lambda: passt.killed(other), few),
                "passt, while paused": repeated(passt.killed_while_paused, few),
                "passt, without virletd": repeated(lambda: passt.killed_without(daemon), few),
            }
            passt.domain.destroy()
            other.domain.destroy()
            slirp = Guest(daemon.uri, guest, three, nic(three, backend="", ours=SLIRP))
            rows["slirp helper"] = repeated(slirp.killed, samples)
            slirp.domain.destroy()
            if knows_vhost_user():
                rows |= over_vhost_user(daemon, guest, samples, few)
        finally:
            for domain in libvirt.open(daemon.uri).listAllDomains(libvirt.VIR_CONNECT_LIST_DOMAINS_ACTIVE):
                domain.destroy()
            daemon.end(signal.SIGTERM)
            keep = os.environ.get("VIRLET_BENCH_LOG")
            if keep:
                shutil.copy(Path(env["XDG_STATE_HOME"]) / "daemon.log", keep)
    return rows


def knows_vhost_user() -> bool:
    """Whether this host's passt does (2025)."""
    done = subprocess.run(["passt", "--help"], capture_output=True, text=True, check=False)
    return "--vhost-user" in done.stdout + done.stderr


def over_vhost_user(daemon: Daemon, directory: str, samples: int, few: int) -> dict[str, list[float]]:
    port = unused(23660)
    guest = Guest(daemon.uri, directory, port, nic(port, kind="vhostuser"), memory=SHARED)

    def rested(what: Callable[[], float]) -> Callable[[], float]:
        """A guest speaks when its cable comes back, and Linux acts on one such change a second (its link watch)."""
        return lambda: (time.sleep(1.2), what())[1]

    rows = {
        "vhost-user": repeated(rested(guest.killed), samples),
        "vhost-user, no pause": repeated(guest.killed, few),
        "vhost-user, while paused": repeated(rested(guest.killed_while_paused), few),
        "vhost-user, no virletd": repeated(rested(lambda: guest.killed_without(daemon)), few),
    }
    guest.domain.destroy()
    return rows


def theirs(guest: str, few: int) -> tuple[str, list[float]]:
    """libvirt's name and figures; none where it is older than passt (9.2)."""
    port = unused(23700)
    with home() as env, libvirtd(env) as (_, uri):
        name = name_of(libvirt.open(uri))
        try:
            peer = Guest(uri, guest, port, nic(port), connection)
        except (libvirt.libvirtError, SystemExit) as error:
            print(f"no figure of {name}: {error}", flush=True)
            return name, []
        try:
            return name, repeated(peer.killed, few)
        except SystemExit as error:
            print(f"{name} has not brought the network back: {error}", flush=True)
            return name, []
        finally:
            peer.domain.destroy()


def measure(guest: str, samples: int, few: int) -> list[Verdict]:
    rows = ours(guest, samples, few)
    name, took = theirs(guest, min(few, 3))
    if took:
        rows[f"{name}, passt"] = took
    print("\ntraffic back after kill -9 of the helper (ms)")
    for what, values in rows.items():
        print(f"  {what:<24} {len(values):4} times  median {median(values):9.1f}  p95 {p95(values):9.1f}", flush=True)
    verdicts = [
        Verdict("passt, median ms", median(rows["passt"]), 60),
        Verdict("slirp helper, median ms", median(rows["slirp helper"]), 300),
        Verdict("slirp helper, p95 ms", p95(rows["slirp helper"]), 300),
    ]
    if "vhost-user" in rows:
        verdicts.append(Verdict("vhost-user, median ms", median(rows["vhost-user"]), 100))
    if took:
        verdicts.append(Verdict(f"passt, times {name}", median(rows["passt"]) / median(took), 1 / 50))
    return verdicts


def main() -> None:
    parser = arguments(__doc__, kernel=False)
    parser.add_argument("--guest", required=True, help="directory of script/make-guest's vmlinuz and initramfs.img")
    parser.add_argument("--few", type=int, default=5, help="samples of what is rarer than a killed helper")
    options = parser.parse_args()
    judged(options, lambda: measure(options.guest, options.samples, options.few))


if __name__ == "__main__":
    main()
