"""A virletd of a test's own that imports from where this Python does, and the test guest under it."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest import SkipTest

from virlet.client.sync import Connection, Domain, connect
from virlet.errors import NoDomain
from virlet.testing.guest import Console

__all__ = ["LiveDaemon", "LiveGuest", "booted", "guest_files", "outlived", "virletd"]

_BOOT = 120.0
"""Seconds that a guest may take without KVM on a busy machine."""


@dataclass(frozen=True, slots=True)
class LiveDaemon:
    """A running virletd."""

    connection: Connection
    pid: int
    runtime: Path
    """Where its sockets and those of its guests are."""

    def children(self) -> frozenset[int]:
        """The guests and helpers that it has started, by pid."""
        found: set[int] = set()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            # A child is its thread's (proc(5)), and virletd starts them from threads of their own.
            with suppress(FileNotFoundError, ProcessLookupError):  # It has ended, and its children are another's.
                found.update(map(int, (task / "children").read_text().split()))
        return frozenset(found)

    def files(self) -> frozenset[str]:
        """What stands in the runtime directory."""
        return frozenset(str(path.relative_to(self.runtime)) for path in self.runtime.rglob("*") if not path.is_dir())


@dataclass(frozen=True, slots=True)
class LiveGuest:
    """A running test guest."""

    domain: Domain
    console: Console
    """Commands inside the guest; its leases are read."""


def guest_files() -> tuple[Path, Path]:
    """Kernel and initramfs of the test guest; raises :class:`unittest.SkipTest` where there are none."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = Path(os.environ.get("VIRLET_GUEST_DIR") or cache / "virlet/guest")
    kernel, initrd = folder / "vmlinuz", folder / "initramfs.img"
    if not initrd.exists():
        raise SkipTest(f"no test guest in {folder}: run script/make-guest of virlet's sources")
    return kernel, initrd


@contextmanager
def virletd() -> Iterator[LiveDaemon]:
    """A virletd in directories of its own that imports from where this Python does; ended with all of its guests."""
    with ExitStack() as stack:
        base = Path(tempfile.mkdtemp(prefix="vk"))
        stack.callback(shutil.rmtree, base, ignore_errors=True)
        environ = _environment(base)
        reading, writing = os.pipe()
        with (base / "virletd.out").open("ab") as log:
            daemon = subprocess.Popen(
                [sys.executable, "-m", "virlet.daemon.main", "--ready-fd", str(writing)],
                env=environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[writing],
                start_new_session=True,
            )
        stack.callback(_end, daemon)
        os.close(writing)
        with open(reading, "rb") as ready:
            if not ready.readline():
                raise AssertionError(f"virletd ended: {(base / 'virletd.out').read_text(errors='replace')}")
        runtime = base / "run" / "virlet"
        conn = stack.enter_context(connect(f"qemu+unix:///session?socket={runtime / 'virletd.sock'}", start=False))
        stack.callback(_destroy_all, conn)
        yield LiveDaemon(conn, daemon.pid, runtime)


def _environment(base: Path) -> dict[str, str]:
    folders = {"HOME": "home", "XDG_RUNTIME_DIR": "run", "XDG_CONFIG_HOME": "config", "XDG_STATE_HOME": "state"}
    for folder in folders.values():
        (base / folder).mkdir(mode=0o700)
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "USER") if name in os.environ}
    # What is known of this host's programs does not change; probing them for each test would take its time.
    cache = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    own = {name: str(base / folder) for name, folder in folders.items()}
    return {**kept, **own, "XDG_CACHE_HOME": cache, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}


@contextmanager
def booted(conn: Connection, devices: str, kernel: Path, initrd: Path) -> Iterator[LiveGuest]:
    """A guest with *devices* that has tried its network; destroyed at the end."""
    domain = conn.create(_XML.format(kernel=kernel, initrd=initrd, devices=devices))
    try:
        tty = re.search(r"tty='([^']+)'", domain.xml())
        if tty is None:
            raise AssertionError("the live XML names no terminal")
        line = os.open(tty[1], os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            console = Console(line)
            console.ready(_BOOT)
            yield LiveGuest(domain, console)
        finally:
            os.close(line)
    finally:
        with suppress(NoDomain):  # It ended by itself, and a transient guest is forgotten then.
            domain.destroy()


_XML = """<domain type='qemu'>
  <name>conformance</name>
  <memory unit='MiB'>192</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet panic=1</cmdline>
  </os>
  <features><acpi/></features>
  <devices>{devices}<serial type='pty'/><console type='pty'/></devices>
</domain>"""


def _destroy_all(conn: Connection) -> None:
    for domain in conn.domains():
        domain.destroy()


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.send_signal(signal.SIGTERM)
    try:
        daemon.wait(20)
    except subprocess.TimeoutExpired:
        daemon.kill()
        daemon.wait()


def outlived(pids: frozenset[int], timeout: float = 20.0) -> frozenset[int]:
    """Those of *pids* that still run after *timeout* seconds."""
    left = set(pids)
    for pid in pids:
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            left.discard(pid)
            continue
        try:
            if select.select([pidfd], [], [], timeout)[0]:
                left.discard(pid)
        finally:
            os.close(pidfd)
    return frozenset(left)
