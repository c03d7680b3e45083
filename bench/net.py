"""Throughput of user networks, guest to host and host to guest, checksums on, one MTU a row.

One guest for each row, the same everywhere: QEMU by hand under TCG, one virtio card, a service of the guest's that
sends zeros and one that swallows, reached through forwarded ports; the row virlet-65520 is the guest of passt-65520 as
virletd starts it, which gives passt the room of passt-room-65520 for what it sends to QEMU.  The rows are measured in
turn, round after round, because a machine's speed drifts.  A network in several processes needs several processors:
shown is how many threads waited for one on average, and above one the figures say little.  What a gigabyte costs, in
seconds of a processor for QEMU and what stands beside it, says more there.  Run it as an ordinary user:

    python bench/net.py [--seconds 3] [--samples 20] [--check] [ROW ...]
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/e2e"))

from common import Verdict, arguments, judged, median, p95
from guest import Console

from virlet.engine.fds import FRAMES
from virlet.testing.session import virletd

GUEST = Path(os.environ.get("VIRLET_GUEST_DIR", Path.home() / ".cache/virlet/guest"))
MAC = "52:54:00:12:34:56"
SINK, SOURCE = 9, 19
MEMORY = 192
"""MiB of the guest."""


@dataclass
class Row:
    """One network: what carries it, its MTU, and how it did."""

    name: str
    mtu: int
    attach: Callable[[contextlib.ExitStack, Row], list[str]] | None
    """Starts what stands beside QEMU and returns QEMU's words; None: virletd does it all."""
    sink: int = 0
    source: int = 0
    fds: list[int] = field(default_factory=list)
    later: Callable[[], None] | None = None
    """Done when QEMU has been started."""
    out: list[float] = field(default_factory=list)
    into: list[float] = field(default_factory=list)
    out_cost: list[float] = field(default_factory=list)
    into_cost: list[float] = field(default_factory=list)
    """Seconds of a processor for a gigabyte."""
    others: list[float] = field(default_factory=list)
    """How many threads waited for a processor meanwhile."""


def start(stack: contextlib.ExitStack, words: list[str], fds: list[int]) -> None:
    """Run it until *stack* ends, in a session of its own, as virletd does.

    Where no cgroup divides the processors, Linux divides them by session (sched(7), autogroup).
    """
    process = stack.enter_context(
        subprocess.Popen(words, pass_fds=fds, stderr=subprocess.DEVNULL, start_new_session=True)
    )
    stack.callback(process.kill)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def built_in(_stack: contextlib.ExitStack, row: Row) -> list[str]:
    forwards = [f"hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in ((row.sink, SINK), (row.source, SOURCE))]
    return ["-netdev", ",".join(["user,id=n", *forwards])]


def helper(stack: contextlib.ExitStack, row: Row) -> list[str]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    program = shutil.which("virlet-slirp-helper", path=os.environ.get("VIRLET_BIN"))
    command = [program] if program else [sys.executable, "-m", "virlet.slirp"]
    forwards = [f"--hostfwd=tcp:127.0.0.1:{host}-:{guest}" for host, guest in ((row.sink, SINK), (row.source, SOURCE))]
    words = [*command, "--fd", str(theirs.fileno()), "--mtu", str(row.mtu), *forwards]
    start(stack, words, [theirs.fileno()])
    theirs.close()
    row.fds.append(ours.fileno())
    stack.callback(ours.close)
    return ["-netdev", f"dgram,id=n,local.type=fd,local.str={ours.fileno()}"]


def run_passt(stack: contextlib.ExitStack, row: Row, *how: str, fd: int) -> None:
    words = ["passt", "-f", "-q", *how, "--mtu", str(row.mtu)]
    words += ["-a", "10.0.2.15", "-n", "24", "-g", "10.0.2.2", "-4"]
    words += ["-t", f"127.0.0.1/{row.sink}:{SINK},{row.source}:{SOURCE}"]
    start(stack, words, [fd])


def passt(stack: contextlib.ExitStack, row: Row) -> list[str]:
    ours, theirs = socket.socketpair()
    if "room" in row.name:
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, FRAMES)
    run_passt(stack, row, "--fd", str(theirs.fileno()), fd=theirs.fileno())
    theirs.close()
    row.fds.append(ours.fileno())
    stack.callback(ours.close)
    return ["-netdev", f"stream,id=n,server=off,addr.type=fd,addr.str={ours.fileno()}"]


def vhost_user(stack: contextlib.ExitStack, row: Row) -> list[str]:
    """QEMU dials, and passt is given the connection, as virletd does it."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "vhost"
    door = stack.enter_context(socket.socket(socket.AF_UNIX))
    door.bind(str(path))
    door.listen(1)

    def dialled() -> None:
        peer, _ = door.accept()
        with peer:
            run_passt(stack, row, "--vhost-user", "--fd", str(peer.fileno()), fd=peer.fileno())

    row.later = dialled
    memory = f"memory-backend-memfd,id=ram,size={MEMORY}M,share=on"
    chardev = f"socket,id=v,path={path},reconnect-ms=10"
    words = ["-object", memory, "-machine", "memory-backend=ram", "-chardev", chardev]
    return [*words, "-netdev", "vhost-user,id=n,chardev=v"]


ROWS = (
    Row("slirp", 1500, built_in),
    Row("helper", 1500, helper),
    Row("helper-9000", 9000, helper),
    Row("helper-65520", 65520, helper),
    Row("passt-65520", 65520, passt),
    Row("passt-room-65520", 65520, passt),
    Row("vhost-65520", 65520, vhost_user),
    Row("virlet-65520", 65520, None),
)


def other_mtu(name: str) -> Row:
    """``helper-16000``: the helper at an MTU of no row."""
    kind, _, mtu = name.partition("-")
    if kind != "helper" or not mtu.isdigit():
        raise SystemExit(f"no row '{name}'; known are helper-MTU, {', '.join(row.name for row in ROWS)}")
    return Row(name, int(mtu), helper)


XML = """<domain type='qemu'><name>net</name><memory unit='MiB'>{memory}</memory>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>{guest}/vmlinuz</kernel><initrd>{guest}/initramfs.img</initrd>
<cmdline>console=ttyS0 quiet panic=1</cmdline></os><devices><controller type='usb' model='none'/>
<interface type='user'><mac address='{mac}'/><ip family='ipv4' address='10.0.2.15' prefix='24'/>
<route gateway='10.0.2.2'/><model type='virtio'/><backend type='passt'/>
<mtu size='{mtu}'/><portForward proto='tcp' address='127.0.0.1'><range start='{sink}' to='{to_sink}'/>
<range start='{source}' to='{to_source}'/></portForward></interface>
<serial type='pty'/><console type='pty'/><memballoon model='none'/></devices></domain>"""


@contextlib.contextmanager
def virlets(row: Row) -> Iterator[Console]:
    """The guest of *row*, under a virletd of its own."""
    words = {"guest": GUEST, "memory": MEMORY, "mac": MAC, "to_sink": SINK, "to_source": SOURCE}
    with virletd() as daemon:
        xml = XML.format(mtu=row.mtu, sink=row.sink, source=row.source, **words)
        found = re.search(r"tty='([^']+)'", daemon.connection.create(xml).xml())
        assert found is not None
        line = os.open(found[1], os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
        try:
            yield Console(line)
        finally:
            os.close(line)


@contextlib.contextmanager
def guest(row: Row) -> Iterator[None]:
    """The guest of *row*, its network up."""
    row.sink, row.source = free_port(), free_port()
    with (by_hand if row.attach is not None else virlets)(row) as console:
        console.ready(120)
        found = int(console.check("cat /sys/class/net/eth0/mtu"))
        assert found == row.mtu, f"{row.name}: MTU {found}"
        yield


@contextlib.contextmanager
def by_hand(row: Row) -> Iterator[Console]:
    """QEMU, and what stands beside it."""
    with contextlib.ExitStack() as stack:
        assert row.attach is not None
        net = row.attach(stack, row)
        ours, theirs = socket.socketpair()
        stack.callback(ours.close)
        words = [
            "qemu-system-x86_64",
            "-accel",
            "tcg",
            "-m",
            f"{MEMORY}",
            "-nodefaults",
            "-display",
            "none",
            "-no-reboot",
        ]
        words += ["-kernel", str(GUEST / "vmlinuz"), "-initrd", str(GUEST / "initramfs.img")]
        words += ["-append", "console=ttyS0 quiet panic=1"]
        words += ["-chardev", f"socket,id=c,fd={theirs.fileno()}", "-serial", "chardev:c"]
        words += [*net, "-device", f"virtio-net-pci,netdev=n,mac={MAC},host_mtu={row.mtu}"]
        start(stack, words, [theirs.fileno(), *row.fds])
        theirs.close()
        if row.later is not None:
            row.later()
        yield Console(ours)


def receive(port: int, seconds: float) -> float:
    """Gbit/s of what the guest sends."""
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.settimeout(30)
        sock.sendall(b"\n")
        buffer = bytearray(1 << 20)
        end, start, total = time.monotonic() + 0.5 + seconds, 0.0, 0
        while (now := time.monotonic()) < end:
            got = sock.recv_into(buffer)
            if not got:
                raise SystemExit("the guest hung up")
            if start:
                total += got
            elif now > end - seconds:
                start = now  # the first half second is not counted
        return total * 8 / (now - start) / 1e9


def send(port: int, seconds: float) -> float:
    """Gbit/s of what the guest has received: it says how much that was."""
    data = bytes(1 << 18)
    with socket.create_connection(("127.0.0.1", port), 30) as sock:
        sock.settimeout(60)
        start = time.monotonic()
        while time.monotonic() - start < seconds:
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        said = sock.makefile().readline()
        return int(said) * 8 / (time.monotonic() - start) / 1e9


def below(pid: int) -> list[Path]:
    """The directories in /proc of what *pid* has started, and what that has."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (task / "children").read_text().split()):
            found += [Path(f"/proc/{child}"), *below(child)]
    return found


def schedule(*processes: Path) -> tuple[float, float]:
    """Seconds that the threads of *processes* ran, and that they were ready to run and had to wait for a processor."""
    ran = waited = 0
    for process in processes:
        for task in (process / "task").iterdir():
            words = (task / "schedstat").read_text().split()
            ran, waited = ran + int(words[0]), waited + int(words[1])
    return ran / 1e9, waited / 1e9


def measure(row: Row, seconds: float) -> None:
    """Both directions, what they cost, and how much the machine's other work was in the way."""
    ours = below(os.getpid())
    begin, before = time.monotonic(), schedule(Path("/proc/self"), *ours)[1]
    for way, rates, costs in ((receive, row.out, row.out_cost), (send, row.into, row.into_cost)):
        start, ran = time.monotonic(), schedule(*ours)[0]
        rates.append(way(row.source if way is receive else row.sink, seconds))
        costs.append((schedule(*ours)[0] - ran) / (rates[-1] / 8 * (time.monotonic() - start)))
    row.others.append((schedule(Path("/proc/self"), *ours)[1] - before) / (time.monotonic() - begin))


def throughput(rows: list[Row], rounds: int, seconds: float) -> list[Verdict]:
    """All rows in turn, round after round; prints the table."""
    for row in rows:
        for figures in (row.out, row.into, row.out_cost, row.into_cost, row.others):
            figures.clear()
    for _ in range(rounds):
        for row in rows:
            with guest(row):
                measure(row, seconds)
            row.fds.clear()
    table(rows, rounds)
    return list(verdicts({row.name: row for row in rows}))


def table(rows: list[Row], rounds: int) -> None:
    base = next((row for row in rows if row.name == "slirp"), rows[0])
    print(f"Gbit/s, median of {rounds} and in brackets the slowest in 20; the ratios to {base.name};")
    print("  processor seconds a GB; threads that waited for a processor")
    for row in rows:
        rates = "  ".join(
            f"{median(each):6.3f} ({-p95([-rate for rate in each]):6.3f})" for each in (row.out, row.into)
        )
        ratios = f"{median(row.out) / median(base.out):6.2f} {median(row.into) / median(base.into):6.2f}"
        costs = f"{median(row.out_cost):6.2f} {median(row.into_cost):6.2f}"
        print(f"  {row.name:<16} out, in {rates}   {ratios}   {costs}  {median(row.others):5.2f}")


def verdicts(rows: dict[str, Row]) -> Iterator[Verdict]:
    """What has to hold between rows, of which both were measured; the helper's own MTU is that of helper-65520."""
    for name, base, out, into in (
        ("helper-65520", "slirp", 1.5, 1.0),
        ("vhost-65520", "slirp", 0.0, 4.0),
        ("virlet-65520", "passt-65520", 0.95, 0.95),
    ):
        if name not in rows or base not in rows:
            continue
        for way, least, ratio in (
            ("out of the guest", out, median(rows[name].out) / median(rows[base].out)),
            ("into the guest", into, median(rows[name].into) / median(rows[base].into)),
        ):
            if least:
                yield Verdict(f"{name} over {base}, {way}", ratio, least, at_least=True)


def every_row() -> list[Row]:
    """Those that this host's programs can carry."""
    told = subprocess.run(["passt", "--help"], capture_output=True, text=True, check=False)
    return [row for row in ROWS if row.attach is not vhost_user or "--vhost-user" in told.stdout + told.stderr]


def main() -> None:
    parser = arguments(__doc__ or "", kernel=False)
    parser.add_argument("rows", nargs="*", metavar="ROW", help=", ".join(row.name for row in ROWS) + ", helper-MTU")
    parser.add_argument("--seconds", type=float, default=3)
    options = parser.parse_args()
    known = {row.name: row for row in ROWS}
    rows = [known.get(name) or other_mtu(name) for name in options.rows] or every_row()
    judged(options, lambda: throughput(rows, options.samples, options.seconds))


if __name__ == "__main__":
    main()
