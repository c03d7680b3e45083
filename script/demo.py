"""What script/demo shows once everything is set up: one guest's life on passt, driven by real virsh and by virlet.

Everything happens in a directory of its own, so nobody's definitions or daemon are touched, and at the end the
directory shows what was left.  Fails, with the program's own words, as soon as something is not as it should be.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests/e2e"))
from guest import Console

NAME = "demo"
GUEST = Path(os.environ["VIRLET_GUEST_DIR"])
BANNER = b"SSH-2.0-virlet-guest"


class DemoFailed(Exception):
    """Something was not as it should be."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Host ports: the example's own where they are free."""

    ssh: int = 2022
    first: int = 5000
    udp: int = 10101


# --- saying and doing ------------------------------------------------------------------------------------------------


def title(text: str) -> None:
    bold, plain = ("\033[1m", "\033[0m") if sys.stdout.isatty() else ("", "")
    print(f"\n{bold}--- {text}{plain}", flush=True)


def note(text: str) -> None:
    print(f"    {text}", flush=True)


def shell(*argv: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
    """Run a command as somebody would type it: the command, then what it says.  Its status is the caller's."""
    print(f"$ {shlex.join(argv)}", flush=True)
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout, check=False)
    for line in (done.stdout + done.stderr).strip().splitlines():
        print(f"  {line}", flush=True)
    return done


def must(*argv: str) -> str:
    """Like `shell`, for a command that has to succeed: what it printed."""
    done = shell(*argv)
    if done.returncode:
        raise DemoFailed(f"{argv[0]} exited with {done.returncode}")
    return done.stdout


# --- the guest's XML -------------------------------------------------------------------------------------------------


def default_interface() -> str | None:
    """The host's interface with the default route."""
    for line in Path("/proc/net/route").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[1] == "00000000":
            return fields[0]
    return None


def free(kind: int, port: int) -> bool:
    with socket.socket(socket.AF_INET, kind) as sock:
        try:
            sock.bind(("0.0.0.0", port))
        except OSError:
            return False
        return True


def choose_ports() -> Ports:
    """The example's ports, or the same pattern where nobody listens."""
    for shift in range(0, 20000, 200):
        ports = Ports(2022 + shift, 5000 + shift, 10101 + shift)
        wanted = [(socket.SOCK_STREAM, port) for port in (ports.ssh, *range(ports.first, ports.first + 100))]
        if all(free(kind, port) for kind, port in (*wanted, (socket.SOCK_DGRAM, ports.udp))):
            return ports
    raise DemoFailed("no run of 100 free TCP ports between 5000 and 25000")


def interface(ports: Ports, log: Path, backend: str) -> str:
    """The interface of libvirt's passt series, or the same for slirp."""
    device = default_interface()
    lines = [
        "<interface type='user'>",
        "  <mac address='52:54:00:a8:33:fc'/>",
        "  <ip address='192.168.221.122' family='ipv4'/>",
        "  <model type='virtio'/>",
    ]
    if backend == "passt":
        lines.append(f"  <backend type='passt' logFile='{log}'/>")
        lines += [f"  <source dev='{device}'/>"] if device else []
    lines += [
        "  <portForward address='127.0.0.1' proto='tcp'>",
        f"    <range start='{ports.ssh}' to='22'/>",
        f"    <range start='{ports.first}' end='{ports.first + 99}' to='1000'/>",
        f"    <range start='{ports.first + 10}' end='{ports.first + 29}' exclude='yes'/>",
        "  </portForward>",
        f"  <portForward proto='udp'><range start='{ports.udp}' to='10101'/></portForward>",
        "</interface>",
    ]
    if backend != "passt":  # libvirt's XML ties <portForward> to passt: slirp gets its own way of saying nothing
        lines = [line for line in lines if "<ip " not in line]
    return "\n    ".join(lines)


def domain(nic: str) -> str:
    return f"""<domain type='qemu'>
  <name>{NAME}</name>
  <memory unit='MiB'>192</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{GUEST}/vmlinuz</kernel>
    <initrd>{GUEST}/initramfs.img</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <devices>
    {nic}
    <serial type='pty'/>
    <console type='pty'/>
  </devices>
</domain>
"""


# --- looking at the guest and at what is left ------------------------------------------------------------------------


def comm(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def alive(pid: int) -> bool:
    """A zombie is dead."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    return False


def await_end(pid: int, timeout: float) -> bool:
    """Wait until *pid* has ended; whether it did."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return not alive(pid) or bool(select.select([pidfd], [], [], timeout)[0])
    finally:
        os.close(pidfd)


def daemon_pid(base: Path) -> int:
    """The virletd behind our socket, as the kernel knows it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.connect(str(base / "run/virlet/virletd.sock"))
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
        return int(struct.unpack("3i", credentials)[0])


def children(pid: int) -> dict[int, str]:
    """The living children of a process and their programs' names."""
    words = " ".join(path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children"))
    return {int(word): comm(int(word)) for word in words.split() if alive(int(word))}


def ours(base: Path) -> dict[int, str]:
    """Every process that has our directory in its environment or command line."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                if str(base).encode() in words + (entry / "environ").read_bytes():
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode(errors="replace").strip()
    return found


def answer(port: int, timeout: float = 5) -> bytes:
    """What the TCP service behind a forwarded port says.

    We speak first, as ssh does: the passt of Debian 12 completes the guest's handshake only once there is data for it.
    """
    with socket.create_connection(("127.0.0.1", port), timeout) as sock, sock.makefile("rb") as stream:
        sock.sendall(b"hello\r\n")
        return stream.readline().strip()


def answers_again(port: int, timeout: float = 30) -> float:
    """Seconds until the guest answers on *port*; short tries, because a new passt accepts before the guest knows it."""
    begun = time.monotonic()
    while time.monotonic() < begun + timeout:
        with contextlib.suppress(OSError):
            if answer(port, 0.2) == BANNER:
                return time.monotonic() - begun
    raise DemoFailed(f"port {port} did not answer again within {timeout} s")


def echoed(port: int, data: bytes) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        sock.sendto(data, ("127.0.0.1", port))
        return sock.recv(65536)


# --- the acts --------------------------------------------------------------------------------------------------------


def show_host() -> None:
    title("Who and what")
    must("id")
    capabilities = re.findall(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())[0]
    note(f"effective capabilities: {capabilities}")
    for program in ("qemu-system-x86_64", "passt", "virsh"):
        must(program, "--version")
    shell("virlet", "doctor")


def show_start(base: Path, ports: Ports) -> str:
    """Define and start the guest; the backend that carries it."""
    title("The domain, in libvirt's own XML")
    path = base / "demo.xml"
    path.write_text(domain(interface(ports, base / "passt.log", "passt")))
    print(path.read_text())
    os.environ["LIBVIRT_DEFAULT_URI"] = must("virlet", "uri").strip()
    must("virlet", "ls")
    note("(that started virletd; from now on virsh finds it by LIBVIRT_DEFAULT_URI, the same as -c URI)")
    must("virsh", "define", str(path))
    begun = time.monotonic()
    if shell("virsh", "start", NAME).returncode == 0:
        note(f"start took {time.monotonic() - begun:.2f} s")
        return "passt"
    title("passt may not run here, for the reason above; the same on slirp")
    must("virsh", "undefine", NAME)
    path.write_text(domain(interface(ports, base / "passt.log", "slirp")))
    must("virsh", "define", str(path))
    must("virsh", "start", NAME)
    return "slirp"


def show_views() -> None:
    title("Seen by virsh")
    for words in ("list --all", f"dominfo {NAME}", f"domiflist {NAME}", f"dumpxml {NAME} --xpath //interface"):
        if shell("virsh", *words.split()).returncode and "--xpath" in words:  # virsh has --xpath since libvirt 8.5
            must("virsh", "dumpxml", NAME)
    title("Seen by virlet")
    for words in ("ls", f"info {NAME}", f"port {NAME}", f"explain {NAME}", f"logs {NAME}"):
        must("virlet", *words.split())


def show_lease(console: Console, backend: str) -> None:
    title("Inside the guest, over its serial console")
    console.ready(120)
    lease = console.lease
    note(f"DHCP gave {lease.interface} {lease.ip}/{lease.prefix}, gateway {lease.gateway}, DNS {lease.dns}")
    if backend == "passt" and lease.ip != "192.168.221.122":
        raise DemoFailed("the guest was not offered 192.168.221.122")
    print(console.check("uname -a; ip -4 addr show eth0"))


def show_ports(ports: Ports) -> None:
    title("From the host into the guest")
    expected = {ports.ssh: BANNER, ports.first: b"1000", ports.first + 30: b"1030", ports.first + 99: b"1099"}
    for port, banner in expected.items():
        got = answer(port)
        note(f"TCP 127.0.0.1:{port} says {got.decode()}")
        if got != banner:
            raise DemoFailed(f"port {port} should say {banner.decode()}")
    excluded = ports.first + 10
    try:
        answer(excluded)
    except ConnectionRefusedError:
        note(f"TCP 127.0.0.1:{excluded} is excluded, and refused")
    else:
        raise DemoFailed(f"port {excluded} is excluded and answers all the same")
    datagram = b"unchanged \x00\xff"
    if echoed(ports.udp, datagram) != datagram:
        raise DemoFailed("the datagram came back changed")
    note(f"UDP 127.0.0.1:{ports.udp} reached 10101 in the guest and came back unchanged")


def helpers_of(daemon: int) -> dict[int, str]:
    """What virletd keeps beside QEMU: passt or the slirp helper."""
    return {pid: name for pid, name in children(daemon).items() if not name.startswith("qemu")}


def show_kill(daemon: int, ports: Ports) -> set[int]:
    """Kill the helper under the running guest; the pids of every helper that there was."""
    before = helpers_of(daemon)
    title(f"kill -9 of {', '.join(before.values()) or 'a helper'} under the running guest")
    if not before:
        note("the network is QEMU's own here, there is no helper to kill")
        return set()
    for pid in before:
        note(f"kill -9 {pid}")
        os.kill(pid, signal.SIGKILL)
    note(f"the forwarded port answered again after {answers_again(ports.ssh):.3f} s")
    after = helpers_of(daemon)
    note(f"its successor is {', '.join(f'{name} {pid}' for pid, name in after.items())}; the guest noticed nothing:")
    must("virsh", "domstate", NAME, "--reason")
    return {*before, *after}


def files_left(base: Path, uuid: str) -> tuple[list[str], list[str]]:
    """What stands in our directory besides caches and what this demo wrote: the guest's files, and others."""
    mine = {"demo.xml", "passt.log"}
    files = [str(path.relative_to(base)) for path in sorted(base.rglob("*")) if path.is_file()]
    seen = [name for name in files if name not in mine and not name.startswith("cache/")]
    of_guest = [name for name in seen if uuid in name or uuid.replace("-", "")[:10] in name or NAME in name]
    return of_guest, [name for name in seen if name not in of_guest]


def show_end(base: Path, daemon: int, helpers: set[int]) -> None:
    title("The end")
    guests = {pid for pid, name in children(daemon).items() if name.startswith("qemu")}
    if not guests:
        raise DemoFailed("virletd has no child called qemu")
    uuid = must("virsh", "domuuid", NAME).strip()
    begun = time.monotonic()
    must("virsh", "destroy", NAME)
    note(f"destroy took {time.monotonic() - begun:.2f} s")
    left = sorted(pid for pid in guests | helpers if not await_end(pid, 2))
    must("virsh", "undefine", NAME)
    must("virsh", "list", "--all")
    os.kill(daemon, signal.SIGTERM)
    if not await_end(daemon, 10):
        raise DemoFailed("virletd did not end within 10 s of SIGTERM")
    left += sorted(ours(base))
    note(f"processes left: {', '.join(f'{pid} {comm(pid)}' for pid in left) or 'none'}")
    sockets = [path for path in sorted(base.rglob("*")) if path.is_socket()]
    note(f"sockets left: {', '.join(map(str, sockets)) or 'none'}")
    of_guest, of_daemon = files_left(base, uuid)
    note(f"files of the guest left: {', '.join(of_guest) or 'none'} (logs stay on purpose)")
    note(f"files of the daemon, which it keeps: {', '.join(of_daemon)}")
    if left or sockets or any(not name.endswith(".log") for name in of_guest):
        raise DemoFailed("something was left behind")


@contextlib.contextmanager
def own_directories() -> Iterator[Path]:
    """A place where this demo alone keeps definitions, state and sockets; processes left there are ended."""
    base = Path(tempfile.mkdtemp(prefix="virlet-demo."))
    for name in ("RUNTIME_DIR=run", "CONFIG_HOME=config", "STATE_HOME=state", "CACHE_HOME=cache"):
        variable, _, directory = name.partition("=")
        (base / directory).mkdir(mode=0o700)
        os.environ[f"XDG_{variable}"] = str(base / directory)
    try:
        yield base
    finally:
        # After a failure the guest still runs, and it outlives its daemon: it has to be ended by name.
        if (base / "run/virlet/virletd.sock").exists():
            subprocess.run(["virlet", "destroy", NAME], capture_output=True, timeout=60, check=False)
        for pid in ours(base):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(base, ignore_errors=True)


def play(base: Path) -> None:
    show_host()
    ports = choose_ports()
    backend = show_start(base, ports)
    daemon = daemon_pid(base)
    pty = os.open(must("virsh", "ttyconsole", NAME).strip(), os.O_RDWR | os.O_NOCTTY)
    try:
        console = Console(pty)
        show_lease(console, backend)
        show_ports(ports)
        show_views()
        helpers = show_kill(daemon, ports)
        show_end(base, daemon, helpers)
    finally:
        os.close(pty)


def main() -> int:
    with own_directories() as base:
        try:
            play(base)
        except (DemoFailed, OSError, subprocess.TimeoutExpired) as error:
            print(f"\nThe demo failed: {error}", file=sys.stderr)
            for log in sorted((base / "state").rglob("*.log")):
                print(f"--- {log.relative_to(base)}\n{log.read_text(errors='replace')[-3000:]}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
