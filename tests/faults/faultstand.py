"""A user's virlet for the fault tests: real daemons over the fake QEMU and passt, and a look at what is left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tally import KILLED, LEFT

from virlet.client.sync import Connection, Domain, connect
from virlet.enums import DomainState
from virlet.errors import NoDomain, VirletError

PASST = """<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><model type='virtio'/><backend type='passt'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"""
SLIRP = """<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><model type='virtio'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>
<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp-helper'/></interface>"""
OWN = """<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><model type='virtio'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>
<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='qemu-passt'/></interface>"""
BACKEND = "{https://virlet.dev/schemas/domain/1}backend"
SCRATCH = """<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<qemu:env name='TMPDIR' value='{base}/tmp'/>
<qemu:env name='VIRLET_FAKE_QEMU' value='{{"passt": "{lost}"}}'/></qemu:commandline>"""
"""Where QEMU has its passt write the pid, and whether it starts a lost one "again" or "never"."""
DOMAIN = """<domain type='qemu'><name>{name}</name>{uuid}<memory unit='MiB'>32</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><features><acpi/></features>{extra}
<devices>{devices}<serial type='pty'/><memballoon model='none'/></devices></domain>"""

PATIENCE = 20
"""Seconds for a fake guest to answer who is connected to it: the kernel refuses at once where nobody listens."""


def outlives_its_guest(path: Path) -> bool:
    """Whether that path below a stand's directory must not do so: a socket, a status file, a half-written file."""
    match path.parts:
        case "r", "virlet", _, *_:
            return True
        case "s", "virlet", "log", *_:
            return False
        case "s", "virlet", _, _, _:
            return True
        case "tmp", name if name.endswith(".pid"):
            return True
    return path.name.startswith(".") and path.suffix == ".new"


class Nursery:
    """Where daemons come from."""

    def __init__(self) -> None:
        ours, its = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        program = str(Path(__file__).with_name("nursery.py"))
        self._process = subprocess.Popen([sys.executable, "-W", "ignore", program], stdin=its)
        its.close()
        self._sock = ours

    def born(self, wanted: dict[str, object], ready: int) -> int:
        socket.send_fds(self._sock, [json.dumps(wanted).encode()], [ready])
        return int(self._sock.recv(20))

    def close(self) -> None:
        self._sock.close()
        self._process.wait(30)


def free_ports(count: int) -> list[int]:
    """That many ports of 127.0.0.1 that nobody has, all different."""
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in socks:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in socks]


class Stand:
    """Directories of its own, the fake programs first in PATH, and one daemon at a time."""

    kind = ""
    """What the programs are, where they are not the fake ones."""

    def __init__(
        self, nursery: Nursery, programs: Path, cache: Path, noted: list[tuple[str, object]] | None = None
    ) -> None:
        self._nursery, self.programs = nursery, programs
        self._noted = [] if noted is None else noted
        self.base = Path(tempfile.mkdtemp(prefix="vf"))
        self.run = self.base / "r" / "virlet"
        self.env = {
            "PATH": f"{programs}:{Path(sys.executable).parent}:/usr/bin:/bin",
            "HOME": str(self.base),
            "LANG": "C.UTF-8",
            "XDG_RUNTIME_DIR": str(self.base / "r"),
            "XDG_CONFIG_HOME": str(self.base / "c"),
            "XDG_STATE_HOME": str(self.base / "s"),
            "XDG_CACHE_HOME": str(cache),
        }
        for name in ("r", "tmp"):
            (self.base / name).mkdir(mode=0o700)
        self.uri = f"qemu+unix:///session?socket={self.run / 'virletd.sock'}"
        self.pid = 0
        self.inside = Path("/")
        """Where the daemon's root is seen, if it has mounts of its own."""
        self.quiet = 0
        """Descriptors of a daemon that has no guest and no client."""
        self.ended: int | None = None
        """How the last daemon that ended did so, as :func:`os.waitstatus_to_exitcode` says it."""

    # --- daemons ------------------------------------------------------------------------------------------------

    def begin(self, fault: str = "", *, before: str = "pass", argv: tuple[str, ...] = (), **env: str) -> bool:
        """Start a daemon that dies at *fault*; False when it ended before it was ready, *ended* says how."""
        assert not self.pid
        reading, writing = os.pipe()
        told = {**self.env, **env, **({"VIRLET_FAULT": fault} if fault else {})}
        out = str(self.base / "virletd.out")
        self.pid = self._nursery.born({"argv": argv, "env": told, "out": out, "before": before}, writing)
        os.close(writing)
        with open(reading, "rb") as ready:
            if ready.read():
                return True
        self.died()
        assert not fault or self.ended == -signal.SIGKILL, f"ended with {self.ended}, not at {fault}\n{self.log()}"
        return False

    def begin_plainly(self) -> float:
        """Start a daemon as its user does, with a Python of its own; its CPU seconds until it was ready."""
        reading, writing = os.pipe()
        with open(self.base / "virletd.out", "ab") as log:
            argv = [str(Path(sys.executable).parent / "virletd"), "--ready-fd", str(writing)]
            daemon = subprocess.Popen(argv, env=self.env, stdout=log, stderr=log, pass_fds=[writing])
        self.pid, daemon.returncode = daemon.pid, 0  # Awaited by us, not by subprocess.
        os.close(writing)
        with open(reading, "rb") as ready:
            assert ready.readline(), self.log()
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def died(self, timeout: float = 60) -> int:
        """Wait for the daemon's end; how it ended, as :func:`os.waitstatus_to_exitcode` says it."""
        pidfd = os.pidfd_open(self.pid)
        ended, _, _ = select.select([pidfd], [], [], timeout)
        os.close(pidfd)
        if not ended:
            self.end(signal.SIGKILL)
        assert ended, f"virletd did not end within {timeout} s\n{self.log()}"
        _, status = os.waitpid(self.pid, 0)
        self.pid = 0
        self.ended = os.waitstatus_to_exitcode(status)
        return self.ended

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        os.kill(self.pid, how)
        return self.died()

    def log(self) -> str:
        path = self.base / "virletd.out"
        return path.read_text(errors="replace")[-6000:] if path.exists() else ""

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    @contextlib.contextmanager
    def client(self) -> Iterator[Connection]:
        with connect(self.uri, start=False) as connection:
            yield connection

    # --- what the suite tells in the end ------------------------------------------------------------------------

    def note_point(self, name: str, backend: str) -> None:
        """The daemon is about to be killed at *name*."""
        self._noted.append((KILLED, [name, f"{self.kind}{backend}"]))

    def note_left(self, domains: list[Domain]) -> None:
        """The next daemon has this."""
        found = "undefined" if not domains else "runs" if domains[0].is_active() else "off"
        self._noted.append((LEFT, found))

    # --- what is there ------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Running programs of this stand (the daemon left out), by the directories that they name."""
        fakes, base = os.fsencode(self.programs), os.fsencode(self.base)
        mark = b"XDG_RUNTIME_DIR=" + os.fsencode(self.base / "r")
        found = {}
        for entry in os.scandir("/proc"):
            if not entry.name.isdigit() or int(entry.name) == self.pid:
                continue
            with contextlib.suppress(OSError):
                words = Path(entry.path, "cmdline").read_bytes().split(b"\0")
                # QEMU gets an environment of its own, its passt is known by a link of ours; a zombie has neither words
                # nor environment.
                ours = fakes in b" ".join(words[:3]) or words[0].startswith(base)
                if ours or mark in Path(entry.path, "environ").read_bytes():
                    found[int(entry.name)] = os.fsdecode(b" ".join(words[:4]))
        return found

    def running(self, program: str) -> list[int]:
        return [pid for pid, words in self.processes().items() if program in words]

    def kill(self, program: str) -> None:
        """All that run of it; one that has ended since it was seen is dead as well."""
        for pid in self.running(program):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def files(self) -> list[str]:
        """Everything that must not outlive its guest: sockets, status files, half-written files."""
        kept = {"virletd.sock", "virletd.lock", "virletd.log"}
        base = self.inside / self.base.relative_to("/")
        found = []
        # Not by glob, which fails where a directory goes while it looks (Python 3.11): guests end at any time.
        for folder, folders, files in os.walk(base):
            if "filler" in folders:
                folders.remove("filler")
            for name in {*folders, *files} - kept:
                path = (Path(folder) / name).relative_to(base)
                if outlives_its_guest(path):
                    found.append(str(path))
        return sorted(found)

    def until(self, what: Callable[[], object], why: str, timeout: float = 30) -> None:
        """Wait for something that no descriptor tells of: another process has seen what we did."""
        deadline = time.monotonic() + timeout
        while not what():
            assert time.monotonic() < deadline, f"{why}\n{self.processes()}\n{self.files()}\n{self.log()}"
            time.sleep(0.002)

    def reap(self) -> None:
        """Take in the dead that init would take in."""
        for task in Path("/proc/self/task").iterdir():
            try:
                children = (task / "children").read_text().split()
            except (FileNotFoundError, ProcessLookupError):
                continue  # A thread that was joined a moment ago.
            for pid in map(int, children):
                stat = Path(f"/proc/{pid}/stat").read_text()
                if stat.rpartition(")")[2].split()[0] == "Z":
                    os.waitpid(pid, 0)

    # --- invariants ---------------------------------------------------------------------------------------------

    def answers(self, port: int) -> bool:
        """Whether the fake guest behind that forwarded port answers."""
        try:
            with socket.create_connection(("127.0.0.1", port), PATIENCE) as stream:
                return stream.makefile().readline().startswith("fake guest")
        except OSError:
            return False

    def consistent(self, connection: Connection) -> list[Domain]:
        """Every guest is off with nothing left or runs with its network; what there is beyond that is a leak."""
        found = ["not looked yet"]

        def settled() -> bool:
            # What the last daemon was about to end may end while we look, and a transient guest is forgotten then.
            try:
                found[:] = self._oddities(connection)
            except NoDomain as error:
                found[:] = [str(error)]
            return not found

        try:
            self.until(settled, "consistent")
        except AssertionError as error:
            raise AssertionError(f"{found}\n{error}") from None
        return connection.domains()

    def _oddities(self, connection: Connection) -> list[str]:
        domains = connection.domains()
        active = [domain for domain in domains if domain.is_active()]
        nics = [nic for domain in active for nic in ElementTree.fromstring(domain.xml()).iter("interface")]
        passts = [nic for nic in nics if nic.find("backend") is not None]
        listened = [nic for nic in passts if nic.get("type") == "user"]  # By QEMU; over vhost-user nobody listens.
        own = [nic for nic in nics if any(each.get("name") == "qemu-passt" for each in nic.iterfind(BACKEND))]
        # A directory, a monitor and a status file each; a stream each; a link to passt and its pid file each.
        counts = {
            "QEMUs": (len(active), len(self.running("/qemu-system"))),
            "passts": (len(passts), len(self.running("/passt"))),
            "passts of QEMU": (len(own), len(self.running(".passt"))),
            "slirp helpers": (len(nics) - len(passts) - len(own), len(self.running("virlet-slirp-helper"))),
            "files": (3 * len(active) + len(listened) + 2 * len(own), len(self.files())),
        }
        odd = [f"{there} {what}, not {wanted}" for what, (wanted, there) in counts.items() if there != wanted]
        for domain in domains:
            state = domain.state().state
            if state not in ((DomainState.RUNNING, DomainState.PAUSED) if domain in active else (DomainState.SHUTOFF,)):
                odd.append(f"{domain.name} is {state.name}")
        ports = [each.get("start", "") for nic in (*passts, *own) for each in nic.iterfind("portForward/range")]
        odd += [f"port {port} does not answer" for port in ports if not self.answers(int(port))]
        return odd + [each for domain in active for each in self._odd_links(domain)]

    def _odd_links(self, domain: Domain) -> Iterator[str]:
        """Cables that are not as the XML has them, in QEMU's words, and helpers that nobody starts any more."""
        log = self.inside / (self.base / "s/virlet/log" / str(domain.uuid) / "qemu.log").relative_to("/")
        said = log.read_text(errors="replace").rpartition(" starts '")[2]
        states = dict(re.findall(r"^fake-qemu: link of (\w+): (\w+)$", said, re.MULTILINE))
        for nic in ElementTree.fromstring(domain.xml()).iter("interface"):
            found, link = nic.find("alias"), nic.find("link")
            if found is None:
                return  # It has ended meanwhile.
            alias, wanted = found.get("name", ""), "up" if link is None else link.get("state")
            if states.get(alias, wanted) != wanted:  # A real QEMU does not say.
                yield f"the link of {alias} is {states[alias]}, not {wanted}"
        helpers: Any = domain.details().get("helpers", ())
        for helper in helpers:
            if helper["condition"] != "running" or helper["why"]:
                yield f"{helper['alias']} {helper['condition']}: {helper['why']}"

    def nothing(self, connection: Connection) -> None:
        """End every guest and forget it: nothing is left."""
        for domain in connection.domains():
            # It is off, or ends at this moment by itself; a transient one is gone then.  What stays is seen below.
            with contextlib.suppress(VirletError):
                domain.destroy()
            with contextlib.suppress(VirletError):
                domain.undefine()
        assert connection.domains() == [], self.log()
        self.until(lambda: not self.processes(), "no process")
        self.until(lambda: not self.files(), "no file")
        self.reap()

    def flat(self) -> None:
        """The daemon has no descriptor more than one that never had a guest."""
        if not self.quiet:
            self.quiet = self.descriptors()
        self.until(lambda: self.descriptors() <= self.quiet, f"{self.quiet} descriptors, not {self.descriptors()}")

    def close(self) -> None:
        if self.pid:
            self.end(signal.SIGKILL)
        while left := self.processes():
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        self.reap()
        shutil.rmtree(self.base, ignore_errors=True)


class RealStand(Stand):
    """The real programs under names of this test's: passt shows neither its environment nor a path of ours."""

    kind = "real "

    def answers(self, port: int) -> bool:
        """No guest runs behind it: passt accepts."""
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except OSError:
            return False
        return True
