"""A session of virlet's own for a test: directories, a real virletd, virsh and virlet, and a look at what is left."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guest import Console

GUEST = Path(os.environ.get("VIRLET_GUEST_DIR", Path.home() / ".cache/virlet/guest"))
"""Where script/make-guest put vmlinuz and initramfs.img."""

BIN = Path(sys.executable).parent
POKE = "<domain type='qemu'><name>poke{}</name><memory>1024</memory><os><type>hvm</type></os></domain>"


class Session:
    """One user's virlet, in directories that nobody else uses."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.env = {
            "PATH": f"{BIN}:/usr/bin:/bin:/usr/sbin:/sbin",
            "HOME": str(base / "home"),
            "USER": os.environ.get("USER", "user"),
            "LANG": "C.UTF-8",
            "NO_COLOR": "1",
            "XDG_RUNTIME_DIR": str(base / "run"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "XDG_STATE_HOME": str(base / "state"),
            # Facts of the host's programs do not change between tests; probing them each time would.
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        }
        for name in ("home", "run", "config", "state"):
            (base / name).mkdir(mode=0o700)
        self.process: subprocess.Popen[bytes] | None = None
        self.consoles: list[int] = []
        self._wrapped = False
        # QEMU and passt carry nothing of ours in environment or words (passt's cannot even be read), so ours are those
        # below us that came later.
        self._others = guests_and_helpers().keys()
        self.socket = base / "run" / "virlet" / "virletd.sock"
        self.uri = f"qemu+unix:///session?socket={self.socket}"

    # --- the daemon ---------------------------------------------------------------------------------------------

    def start_daemon(self, *wrapper: str) -> subprocess.Popen[bytes]:
        """Run virletd, under *wrapper* (strace …) if given, and return once it says that it is ready."""
        self._wrapped = bool(wrapper)
        reading, writing = os.pipe()
        with open(self.base / "virletd.out", "ab") as log:
            self.process = subprocess.Popen(
                [*wrapper, str(BIN / "virletd"), "--ready-fd", str(writing)],
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                start_new_session=True,
            )
        os.close(writing)
        with open(reading, "rb") as ready:
            ready.readline()  # Not to the end: a wrapper keeps its copy of the descriptor open.
        if self.process.poll() is not None:
            raise AssertionError(f"virletd ended: {(self.base / 'virletd.out').read_text()}")
        return self.process

    def stop_daemon(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the daemon by *how*; guests run on."""
        if self.process is None:
            return
        # strace holds signals back, so what it runs is told instead.
        below = [pid for pid, words in self.processes().items() if "virletd" in words and pid != self.process.pid]
        with contextlib.suppress(ProcessLookupError):
            os.kill(below[0] if below and self._wrapped else self.process.pid, how)
        self.process.wait(60)
        self.process = None

    # --- clients ------------------------------------------------------------------------------------------------

    def run(
        self, *argv: str, check: bool = True, timeout: float = 60, input: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            argv, env=self.env, capture_output=True, text=True, timeout=timeout, input=input, check=False
        )
        if check and done.returncode:
            raise AssertionError(f"{argv} exited with {done.returncode}:\n{done.stdout}\n{done.stderr}\n{self.log()}")
        return done

    def virsh(self, *argv: str, check: bool = True, timeout: float = 60) -> str:
        """Standard output of real virsh, stripped; with *check* off also standard error."""
        done = self.run("virsh", "-c", self.uri, "-q", *argv, check=check, timeout=timeout)
        return (done.stdout + ("" if check else done.stderr)).strip()

    def virlet(self, *argv: str, check: bool = True, timeout: float = 60) -> str:
        done = self.run("virlet", *argv, check=check, timeout=timeout)
        return (done.stdout + ("" if check else done.stderr)).strip()

    def virlet_json(self, *argv: str) -> Any:
        return json.loads(self.virlet("--json", *argv))

    def define(self, xml: str) -> None:
        path = self.base / "domain.xml"
        path.write_text(xml)
        self.virsh("define", str(path))

    def log(self) -> str:
        """What the daemon wrote, for a failure's message."""
        path = self.base / "virletd.out"
        return path.read_text(errors="replace")[-8000:] if path.exists() else ""

    # --- what is there ------------------------------------------------------------------------------------------

    def processes(self) -> dict[int, str]:
        """Every process of this session: known by its directories, QEMUs and helpers by when they were born."""
        mark = str(self.base).encode()
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == os.getpid():
                continue
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if mark in words or mark in (entry / "environ").read_bytes():
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
        return found | {pid: name for pid, name in guests_and_helpers().items() if pid not in self._others}

    def helpers(self, name: str) -> list[int]:
        """Pids of this session's processes whose program is called *name*."""
        return [pid for pid in self.processes() if comm(pid).startswith(name)]

    def helper(self, name: str) -> int:
        """Pid of the one helper of that name; while another is started in its place there may be none, or both."""
        found: list[int] = []

        def alone() -> bool:
            found[:] = self.helpers(name)
            return len(found) == 1

        until(alone, lambda: f"one {name}, not {found}")
        return found[0]

    def runtime_files(self) -> list[str]:
        """What stands in the runtime directory and does not belong to the daemon itself."""
        root = self.base / "run" / "virlet"
        kept = {"virletd.sock", "virletd.lock", "virletd.pid", "lock"}
        # Not by glob, which fails where a directory goes while it looks (Python 3.11).
        return sorted(
            os.path.relpath(os.path.join(folder, name), root)
            for folder, _, names in os.walk(root)
            for name in names
            if name not in kept
        )

    def events(self, *options: str) -> EventLog:
        return EventLog(self, *options)

    def close(self) -> None:
        """End what is left of this session, whatever the test did."""
        for console in self.consoles:
            os.close(console)
        self.stop_daemon()
        for pid in self.processes():
            if comm(pid).startswith(("qemu", "passt", "virlet", "python")):
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
        shutil.rmtree(self.base, ignore_errors=True)


class EventLog:
    """``virsh event --all --loop`` running beside a test."""

    def __init__(self, session: Session, *options: str) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            # Into a pipe virsh would keep its lines until it ends.
            ["stdbuf", "-oL", "virsh", "-c", session.uri, "event", *(options or ("--all", "--loop"))],
            env=session.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            bufsize=1,
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wait_for("Undefined", f"'{poked(session, self.lines)}'")
        self.lines.clear()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line.rstrip())
                self._news.notify_all()

    def wait_for(self, *words: str, timeout: float = 30) -> str:
        """The first line that holds every one of *words*."""

        def match() -> str | None:
            return next((line for line in self.lines if all(word in line for word in words)), None)

        with self._news:
            assert self._news.wait_for(match, timeout), f"no event with {words} in {self.lines}"
            found = match()
            assert found is not None
            return found

    def __enter__(self) -> EventLog:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._thread.join(30)
        if self.process.stdout:
            self.process.stdout.close()


def poked(session: Session, lines: list[str]) -> str:
    """Define and undefine domains until *lines*, which somebody is told, tell of one: nobody says when he listens.

    The name of the last one: its end is the last that is told of any of them.
    """
    path, deadline, number = session.base / "poke.xml", time.monotonic() + 30, 0
    while not any("poke" in line for line in lines):
        assert time.monotonic() < deadline, "no event is told"
        number += 1
        path.write_text(POKE.format(number))
        session.virsh("define", str(path))
        session.virsh("undefine", f"poke{number}")
    return f"poke{number}"


def console_of(one: Session, name: str) -> Console:
    """The control channel of a running guest, over the pty of its serial line."""
    one.consoles.append(os.open(one.virsh("ttyconsole", name), os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    return Console(one.consoles[-1])


def guests_and_helpers() -> dict[int, str]:
    """Every running QEMU and passt below this process, orphans of ours included (tests run under a subreaper)."""
    below, queue = set(), [os.getpid()]
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    while queue:
        for pid in children.get(queue.pop(), ()):
            below.add(pid)
            queue.append(pid)
    return {pid: comm(pid) for pid in below if comm(pid).startswith(("qemu-system", "passt")) and alive(pid)}


def comm(pid: int) -> str:
    """The process's short name, empty when it is gone."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def alive(pid: int) -> bool:
    """A zombie is dead."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def gone(pids: list[int]) -> bool:
    """Every one of *pids* ends (they are not our children: there is nothing to wait on but /proc)."""
    until(lambda: not any(map(alive, pids)), lambda: f"{pids} end")
    return True


def until(true: Callable[[], object], what: str | Callable[[], str], timeout: float = 30) -> None:
    """Wait for what no descriptor tells of.  How long it takes is the benchmarks' to judge: a machine may be busy."""
    deadline = time.monotonic() + timeout
    while not true():
        assert time.monotonic() < deadline, what if isinstance(what, str) else what()
        time.sleep(0.01)


@contextlib.contextmanager
def session() -> Iterator[Session]:
    """A fresh session without a daemon; whatever it leaves behind is removed."""
    one = Session(Path(tempfile.mkdtemp(prefix="vt")))
    try:
        yield one
    finally:
        one.close()
