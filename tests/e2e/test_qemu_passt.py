"""QEMU's own passt: chosen only by name, outside QEMU's sandbox, kept alive although QEMU tells nobody of its loss."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from domains import domain, free_ports
from session import Session, alive, console_of, gone, session, until
from traffic import answer

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(0),
    pytest.mark.usefixtures("leaks_allowed"),  # The daemon is another one at the end.
]

ROUNDS = 5 * int(os.environ.get("VIRLET_SOAK", "1"))
WORKED = 1.1
"""Seconds that a passt has to live to have worked: nobody learns what ended it, and who fails by itself is given up."""
NAMESPACE = "https://virlet.dev/schemas/domain/1"


def can() -> bool:
    """Ask the installed QEMU."""
    done = subprocess.run(
        ["qemu-system-x86_64", "-netdev", "help"], capture_output=True, text=True, timeout=30, check=False
    )
    return "passt" in done.stdout.split()


def nic(port: int, mac: str = "52:54:00:a8:33:fd", more: str = "") -> str:
    return f"""<interface type='user' xmlns:virlet='{NAMESPACE}'>
      <mac address='{mac}'/>
      <model type='virtio'/>
      <portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>
      <virlet:backend name='qemu-passt'/>
      {more}
    </interface>"""


_strangers: set[Path] = set()
"""What others have left in /tmp: their passts' pids may be ours by now."""


@pytest.fixture(scope="module")
def one() -> Iterator[Session]:
    _strangers.update(Path("/tmp").glob("passt-*.pid"))
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def details(one: Session) -> Any:
    return one.virlet_json("info", "native")["details"]


def pid_of(one: Session, other_than: int | None = None) -> int:
    """The passt's pid; while QEMU starts another there is none."""
    found: list[int | None] = [None]

    def there() -> bool:
        found[0] = details(one)["helpers"][0]["pid"]
        return found[0] not in (None, other_than)

    until(there, lambda: str(details(one)))
    return int(found[0] or 0)


def back(one: Session, port: int) -> None:
    """Wait until the forwarded port answers again."""

    def answers() -> bool:
        assert one.virsh("domstate", "native") == "running"
        try:
            return bool(answer(port, 2))
        except OSError:
            return False

    until(answers, "no traffic within 60 s", 60)


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    assert gone([pid])


def test_a_qemu_without_it_refuses_by_name(one: Session) -> None:
    if can():
        pytest.skip("elsewhere: this QEMU has the netdev")
    one.define(domain("native", nic(free_ports().ssh)))
    assert "has no -netdev" in one.virsh("start", "native", check=False)
    one.virsh("undefine", "native")


def test_the_whole_life_of_a_guest(one: Session, capsys: pytest.CaptureFixture[str]) -> None:
    """Boot, forward; passt killed, also where QEMU cannot start another; hot-plug; the daemon gone; destroy."""
    if not can():
        pytest.skip("elsewhere: this QEMU has no -netdev passt")
    ports = free_ports()
    one.define(domain("native", nic(ports.ssh)))
    assert "without its sandbox" in one.virlet("explain", "native")
    one.virsh("start", "native")
    (qemu,) = one.helpers("qemu-system")
    words = Path(f"/proc/{qemu}/cmdline").read_bytes()
    assert b"-sandbox" not in words
    assert "no-sandbox" in details(one)["tainted"]
    console = console_of(one, "native")
    console.ready(90)
    assert console.lease.ip == "10.0.2.15"
    assert answer(ports.ssh, 10) == "SSH-2.0-virlet-guest"
    took = _killed(one, ports.ssh)
    with capsys.disabled():
        print(f"\nqemu-passt: {ROUNDS} kills, traffic back after {median(took):.3f} s, at most {max(took):.3f} s")
    _killed_for_good(one, ports.ssh)
    _plugged(one, ports.first)
    one.stop_daemon(signal.SIGKILL)
    (orphan,) = _passts(one)
    kill(orphan)
    one.start_daemon()
    back(one, ports.ssh)
    one.virsh("suspend", "native")
    kill(pid_of(one))
    one.virsh("resume", "native")
    back(one, ports.ssh)
    passts = _passts(one)
    assert passts
    one.virsh("destroy", "native")
    assert gone([qemu, *passts])
    assert one.runtime_files() == []
    until(lambda: not _pid_files(passts), lambda: f"{_pid_files(passts)} go")
    one.virsh("undefine", "native")


def test_nothing_is_left_when_virletd_and_qemu_are_killed_together(one: Session) -> None:
    if not can():
        pytest.skip("elsewhere: this QEMU has no -netdev passt")
    one.define(domain("native", nic(free_ports().ssh)))
    one.virsh("start", "native", "--paused")
    (qemu,) = one.helpers("qemu-system")
    passts = _passts(one)
    assert len(_pid_files(passts)) == 1
    one.stop_daemon(signal.SIGKILL)
    os.kill(qemu, signal.SIGKILL)
    assert gone([qemu, *passts])
    one.start_daemon()
    assert one.virsh("domstate", "native") == "shut off"
    assert one.runtime_files() == []
    assert not _pid_files(passts)
    one.virsh("undefine", "native")


def _killed(one: Session, port: int) -> list[float]:
    """QEMU starts another one, or we have it do so: the seconds until there was traffic."""
    took = []
    for restarts in range(1, ROUNDS + 1):
        pid = pid_of(one)
        kill(pid)
        since = time.monotonic()
        back(one, port)
        took.append(time.monotonic() - since)
        until(lambda: details(one)["helpers"][0]["restarts"] >= restarts, lambda: str(details(one)))  # noqa: B023
        assert pid_of(one, other_than=pid)
        time.sleep(WORKED)
    return took


def _killed_for_good(one: Session, port: int) -> None:
    """QEMU's own attempt fails: the program is not where QEMU was told."""
    (link,) = (one.base / "run" / "virlet").rglob("*.passt")
    link.unlink()
    link.symlink_to("/bin/false")
    kill(pid_of(one))
    back(one, port)


def _plugged(one: Session, port: int) -> None:
    """In and out while the guest runs."""
    path = one.base / "nic.xml"
    path.write_text(nic(port, "52:54:00:a8:33:fe"))
    one.virsh("attach-device", "native", str(path))
    conditions = lambda: [each["condition"] for each in details(one)["helpers"]]  # noqa: E731
    until(lambda: conditions() == ["running", "running"], lambda: f"two run, not {conditions()}")
    helpers = details(one)["helpers"]
    one.virsh("detach-device", "native", str(path))
    assert gone([helpers[1]["pid"]])
    until(lambda: len(details(one)["helpers"]) == 1, lambda: str(details(one)))


def _passts(one: Session) -> list[int]:
    """Those that QEMU has started: they are nobody's children, and known by the links in our directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            program = os.fsdecode(words[0])
            if program.endswith(".passt") and program.startswith(str(one.base)) and alive(int(entry.name)):
                found.append(int(entry.name))
    return found


def _pid_files(passts: list[int]) -> list[Path]:
    found = []
    for path in set(Path("/tmp").glob("passt-*.pid")) - _strangers:
        with contextlib.suppress(OSError):  # A stranger's, or one that has just gone.
            if path.read_text().strip() in map(str, passts):
                found.append(path)
    return found
