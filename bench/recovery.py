#!/usr/bin/env python3
"""Traffic back after ``kill -9`` of a guest's helper, in milliseconds: virlet, and libvirt with its passt.

    VIRLET_BIN=…/bin bench/recovery.py --guest DIRECTORY [--samples 20] [--check] [--brief]

The guest (``script/make-guest``) sends nothing by itself.  A datagram is sent through a forward every 4 ms, and
the time is that from the kill (from the guest's resume, from the daemon's return) to the guest's first answer.
libvirt's guest is spared until QEMU has connected to the new passt: the passt of Debian 13 crashes over a connection
before that, newer ones did not answer afterwards, and neither is libvirt's doing.  Run it as an ordinary user with the
interpreter that has libvirt-python.
"""

from __future__ import annotations

import argparse
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
EVERY = 0.004
"""Seconds between two tries."""
MOST = 200
"""Tries that are waited for at a time."""
PATIENCE = 15
"""Seconds that libvirt has: three of the five-second pauses after which its QEMU tries again."""
MOST_TAKEN = {"passt": 60, "vhost-user": 100, "slirp helper": 300}
"""Milliseconds that the kill of each may take the traffic away, in the median and in the p95."""
CONNECTED = 3
"""State of a UNIX socket in /proc/net/unix (SS_CONNECTED of linux/net.h)."""


class Lost(SystemExit):
    """The network has not come back in time."""


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
    raise Lost(f"no traffic through port {port} within {timeout:g} s")


def connected(port: int, since: float) -> None:
    """Wait until libvirt's QEMU is connected to the passt behind *port* again, as the kernel says of its socket."""
    path = f"guest{port}-net0.socket"
    while time.perf_counter() - since < PATIENCE:
        sockets = [line.split() for line in Path("/proc/net/unix").read_text().splitlines() if line.endswith(path)]
        if any(int(fields[5], 16) == CONNECTED for fields in sockets):
            return
        time.sleep(0.002)
    raise Lost(f"QEMU is not connected to a passt within {PATIENCE} s")


def booted(xml: str, timeout: float = 120.0) -> None:
    """Wait until the guest says on its console that it serves: what came earlier would be answered late, or never."""
    found = re.search(r"tty='([^']+)'", xml)
    assert found is not None, "the guest has no console"
    console = os.open(found[1], os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    try:
        os.write(console, b"VIRLET-PING\n")  # One that has booted already says so when it is asked.
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

    def __init__(self, uri: str, directory: str, port: int, nic: str, memory: str = "") -> None:
        self.uri, self.name, self.port = uri, f"guest{port}", port
        connection = libvirt.open(uri)
        domain = connection.defineXML(XML.format(name=self.name, guest=directory, nic=nic, memory=memory))
        domain.create()
        booted(domain.XMLDesc())
        traffic(port, time.perf_counter())

    @property
    def domain(self):  # type: ignore[no-untyped-def]
        return libvirt.open(self.uri).lookupByName(self.name)

    def undisturbed(self) -> float:
        return traffic(self.port, time.perf_counter())

    def killed(self, *others: Guest) -> float:
        """Kill the helper of this guest and of *others*; from the kill to traffic through all of them."""
        since = self.kill(*others)
        return max(traffic(guest.port, since) for guest in (self, *others))

    def kill(self, *others: Guest) -> float:
        pids = [helper_of(guest.port) for guest in (self, *others)]
        since = time.perf_counter()
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        for pid in pids:
            ended(pid)
        return since

    def killed_and_spared(self) -> float:
        """As *killed*, but the guest is tried only once QEMU is connected again."""
        since = self.kill()
        connected(self.port, since)
        return traffic(self.port, since)

    def killed_while_paused(self) -> float:
        domain = self.domain
        domain.suspend()
        self.kill()
        since = time.perf_counter()
        domain.resume()
        return traffic(self.port, since)

    def killed_without(self, daemon: Daemon) -> float:
        daemon.end(signal.SIGKILL)
        self.kill()
        daemon.begin()
        return traffic(self.port, time.perf_counter())


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


def ours(guest: str, samples: int, few: int, brief: bool) -> dict[str, list[float]]:
    with home() as env:
        daemon = Daemon(env)
        try:
            rows = over_stream(daemon, guest, samples, 0 if brief else few)
            if not brief:
                rows["slirp helper"] = by_slirp(daemon, guest, samples)
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


def over_stream(daemon: Daemon, directory: str, samples: int, few: int) -> dict[str, list[float]]:
    one, two = unused(23600), unused(23620)
    passt = Guest(daemon.uri, directory, one, nic(one))
    rows = {
        "passt, undisturbed": repeated(passt.undisturbed, samples),
        "passt": repeated(passt.killed, samples),
    }
    if few:
        other = Guest(daemon.uri, directory, two, nic(two))
        rows |= {
            "passt, two at once": repeated(lambda: passt.killed(other), few),
            "passt, while paused": repeated(passt.killed_while_paused, few),
            "passt, without virletd": repeated(lambda: passt.killed_without(daemon), few),
        }
        other.domain.destroy()
    passt.domain.destroy()
    return rows


def by_slirp(daemon: Daemon, directory: str, samples: int) -> list[float]:
    port = unused(23640)
    guest = Guest(daemon.uri, directory, port, nic(port, backend="", ours=SLIRP))
    took = repeated(guest.killed, samples)
    guest.domain.destroy()
    return took


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


def theirs(guest: str, count: int) -> tuple[str, list[float] | None]:
    """libvirt's name and figures; no list where it knows no passt, an empty one where the network does not come back.

    libvirt 9.0 knows no passt.  11.3 tells a QEMU of 11 or later nothing about reconnecting: it asks whether QEMU knows
    ``reconnect``, which that has dropped for ``reconnect-ms``.
    """
    port = unused(23700)
    with home() as env, libvirtd(env) as (_, uri):
        name = name_of(libvirt.open(uri))
        try:
            peer = Guest(uri, guest, port, nic(port))
        except libvirt.libvirtError as error:
            print(f"no figure of {name}: {error}", flush=True)
            return name, None
        try:
            return name, repeated(peer.killed_and_spared, count)
        except Lost as error:
            print(f"{name} has not brought the network back: {error}", flush=True)
            return name, []
        finally:
            peer.domain.destroy()


def measure(options: argparse.Namespace) -> list[Verdict]:
    rows = ours(options.guest, options.samples, options.few, options.brief)
    name, took = theirs(options.guest, options.theirs)
    if took:
        rows[f"{name}, passt"] = took
    print("\ntraffic back after kill -9 of the helper (ms)")
    for what, values in rows.items():
        print(f"  {what:<24} {len(values):4} times  median {median(values):9.1f}  p95 {p95(values):9.1f}", flush=True)
    verdicts = [
        Verdict(f"{what}, {statistic.__name__} ms", statistic(rows[what]), most)
        for what, most in MOST_TAKEN.items()
        for statistic in (median, p95)
        if what in rows or what == "passt"
    ]
    if took is not None:
        verdicts.append(beside(median(rows["passt"]), name, took))
    return verdicts


def beside(passt: float, name: str, took: list[float]) -> Verdict:
    """The ratio; where libvirt's guest is lost for good, to the time that was waited, which is less than it needs."""
    if took:
        return Verdict(f"passt, times {name}", passt / median(took), 1 / 50)
    return Verdict(f"passt, times the {PATIENCE} s in which {name} did not", passt / (PATIENCE * 1e3), 1 / 50)


def main() -> None:
    parser = arguments(__doc__, kernel=False)
    parser.add_argument("--guest", required=True, help="directory of script/make-guest's vmlinuz and initramfs.img")
    parser.add_argument("--few", type=int, default=5, help="samples of what is rarer than a killed helper")
    parser.add_argument("--theirs", type=int, default=3, help="samples of libvirt")
    parser.add_argument("--brief", action="store_true", help="a killed passt beside libvirt's, nothing else")
    options = parser.parse_args()
    judged(options, lambda: measure(options))


if __name__ == "__main__":
    main()
