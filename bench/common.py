"""What the benchmarks share: two daemons of our own making, a figure's median and p95, a table, what has to hold.

Everything here drives both daemons through the same client, libvirt-python, so that only the server differs.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

Sample = Callable[[], float]

REAPER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
daemon = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
signal.signal(signal.SIGTERM, lambda *_: os.kill(daemon, signal.SIGTERM))
print(daemon, flush=True)
while os.waitpid(-1, 0)[0] != daemon:
    pass
"""
"""Both daemons run below this, as below an init that reaps at once: libvirtd waits for its QEMU to be reaped, and in a
container there may be nobody who does."""


MEASUREMENTS = 3
"""What is missed in each of so many is a failure."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """A figure and what it has to be."""

    what: str
    value: float
    limit: float
    at_least: bool = False

    @property
    def held(self) -> bool:
        return self.within(0.0)

    def within(self, tolerance: float) -> bool:
        """Held, or missed by no more than that part of the limit."""
        if self.at_least:
            return self.value >= self.limit * (1 - tolerance)
        return self.value <= self.limit * (1 + tolerance)

    def __str__(self) -> str:
        word = "at least" if self.at_least else "at most"
        return f"  {'held  ' if self.held else 'MISSED'} {self.what}: {self.value:.3f}, {word} {self.limit:g}"


def await_free(ports: Sequence[int], patience: float = 20) -> None:
    """Wait until nobody listens on *ports*: a passt that libvirt has told to end may still be there."""
    deadline = time.monotonic() + patience
    for port in ports:
        while listens(port):
            if time.monotonic() > deadline:
                raise SystemExit(f"somebody else listens on port {port}: end it")
            time.sleep(0.01)


def unused(port: int) -> int:
    """*port*, or the first after it on which nobody listens: a machine may hold what an earlier run has left."""
    return next(each for each in range(port, 65_536) if not listens(each))


def unused_row(port: int, count: int) -> range:
    """*count* ports in a row on which nobody listens, from *port* on or from a later one: as :func:`unused`."""
    begin = port
    for each in range(port, 65_536):
        if listens(each):
            begin = each + 1
        elif each - begin + 1 == count:
            return range(begin, begin + count)
    raise SystemExit(f"there are no {count} ports in a row from {port} on that nobody has")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def judged(options: argparse.Namespace, measure: Callable[[], list[Verdict]]) -> None:
    """Measure, say what held; with --check exit with 1 for what is missed three times, since a shared machine is noisy.

    Whatever is missed is said; --tolerance is how far off it may be before that is a failure.
    """
    missed: set[str] | None = None
    for turn in range(MEASUREMENTS if options.check else 1):
        if turn:
            print("\nMeasuring once more", flush=True)
        verdicts = measure()
        print("\nWhat has to hold", *verdicts, sep="\n", flush=True)
        now = {one.what for one in verdicts if not one.within(options.tolerance)}
        missed = now if missed is None else missed & now
        if not missed:
            return
    if options.check:
        raise SystemExit(1)


def arguments(doc: str, *, kernel: bool = True) -> argparse.ArgumentParser:
    """What every benchmark takes."""
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    if kernel:
        parser.add_argument("--kernel", required=True)
    parser.add_argument("--samples", type=int, default=20)
    parser.add_argument("--check", action="store_true", help="exit with 1 when what has to hold is missed three times")
    parser.add_argument(
        "--tolerance", type=float, default=0.0, help="part of a limit that --check forgives (0.2: 20 %%)"
    )
    return parser


def name_of(connection) -> str:  # type: ignore[no-untyped-def]
    version = connection.getLibVersion()
    return f"libvirt {version // 1000000}.{version // 1000 % 1000}"


def median(values: Sequence[float]) -> float:
    return statistics.median(values)


def p95(values: Sequence[float]) -> float:
    """Nearest rank."""
    ranked = sorted(values)
    return ranked[max(0, -(-len(ranked) * 95 // 100) - 1)]


def interleave(samples: dict[str, Sample], count: int) -> dict[str, list[float]]:
    """*count* samples of each, A B C A B C …, after one round that is not counted; figures in milliseconds."""
    out: dict[str, list[float]] = {name: [] for name in samples}
    for turn in range(count + 1):
        for name, sample in samples.items():
            value = sample()
            if turn:
                out[name].append(value)
    return out


def table(title: str, figures: dict[str, list[float]], unit: str, *, base: str | None = None) -> None:
    """Print one line a name; *base* is what the ratios are of."""
    print(f"\n{title} ({unit}, {len(next(iter(figures.values())))} samples, interleaved)")
    reference = median(figures[base]) if base else None
    for name, values in figures.items():
        ratio = f"  {median(values) / reference:6.3f} x {base}" if reference and name != base else ""
        print(f"  {name:<22} median {median(values):9.3f}  p95 {p95(values):9.3f}{ratio}", flush=True)


def timed(action: Callable[[], object]) -> float:
    """Milliseconds of one call."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1e3


@contextlib.contextmanager
def home() -> Iterator[dict[str, str]]:
    """An environment with directories of its own, short enough for sockets."""
    base = Path(tempfile.mkdtemp(prefix="vb"))
    env = dict(os.environ)
    for name, part in (
        ("HOME", "h"),
        ("XDG_RUNTIME_DIR", "r"),
        ("XDG_CONFIG_HOME", "c"),
        ("XDG_STATE_HOME", "s"),
        ("XDG_CACHE_HOME", "k"),
    ):
        (base / part).mkdir(mode=0o700)
        env[name] = str(base / part)
    try:
        yield env
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _wait_for_socket(path: Path, process: subprocess.Popen[bytes], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise SystemExit(f"{process.args!r} exited with {process.returncode}")
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
            return
        time.sleep(0.02)
    raise SystemExit(f"nobody listens on {path}")


@contextlib.contextmanager
def daemon(argv: Sequence[str], path: Path, env: dict[str, str]) -> Iterator[int]:
    """A daemon that listens on *path*: its pid.  Ended by SIGTERM."""
    with open(Path(env["XDG_STATE_HOME"]) / "daemon.log", "ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", REAPER, *argv],
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=log,
        )
    assert process.stdout is not None
    try:
        pid = int(process.stdout.readline())
        _wait_for_socket(path, process)
        yield pid
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(20)
        process.stdout.close()


@contextlib.contextmanager
def virletd(env: dict[str, str]) -> Iterator[tuple[int, str]]:
    path = Path(env["XDG_RUNTIME_DIR"]) / "virlet" / "virletd.sock"
    with daemon([str(virlet_bin("virletd"))], path, env) as pid:
        yield pid, f"qemu+unix:///session?socket={path}"


@contextlib.contextmanager
def libvirtd(env: dict[str, str]) -> Iterator[tuple[int, str]]:
    binary = shutil.which("libvirtd", path="/usr/sbin:/usr/bin:/sbin:/bin")
    if binary is None:
        raise SystemExit("libvirtd is missing: install libvirt-daemon and libvirt-daemon-driver-qemu")
    config = Path(env["XDG_CONFIG_HOME"]) / "libvirt"
    config.mkdir(exist_ok=True)
    # No virtlogd in a bench: the guest's log is a plain file, as virlet's is.
    (config / "qemu.conf").write_text('stdio_handler = "file"\n')
    path = Path(env["XDG_RUNTIME_DIR"]) / "libvirt" / "libvirt-sock"
    with daemon([binary], path, env) as pid:
        yield pid, f"qemu+unix:///session?socket={path}"


def virlet_bin(name: str) -> Path:
    """One of our programs, beside the interpreter that VIRLET_BIN names, or on PATH."""
    folder = os.environ.get("VIRLET_BIN")
    found = shutil.which(name, path=folder) if folder else shutil.which(name)
    if found is None:
        raise SystemExit(f"{name} is not installed: put its directory into VIRLET_BIN")
    return Path(found)


def libvirt_module():  # type: ignore[no-untyped-def]
    try:
        import libvirt  # type: ignore[import-not-found]
    except ImportError:
        raise SystemExit(f"{sys.executable} has no libvirt module: install python3-libvirt") from None
    libvirt.registerErrorHandler(lambda _context, _error: None, None)
    return libvirt


def pss_kib(pid: int, which: str = "Pss:") -> int:
    """Proportional set size of a process and all its Python descendants, in KiB (proc(5), smaps_rollup)."""
    total = 0
    for each in (pid, *descendants(pid)):
        with contextlib.suppress(OSError):
            executable = os.readlink(f"/proc/{each}/exe")
            if each != pid and "python" not in executable:
                continue
            for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
                if line.startswith(which):
                    total += int(line.split()[1])
    return total


def descendants(pid: int) -> list[int]:
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        for child in children.get(queue.pop(), []):
            found.append(child)
            queue.append(child)
    return found
