"""virletd, QEMU and helpers stand still and die at random moments: whatever was missed, the network comes back.

As soon as all of them go on: nothing waits for a timeout, nor for a guest that says nothing by itself.  A few storms in
every run; script/soak has 160.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import signal
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median

import pytest
from faultstand import DOMAIN, OWN, PASST, SCRATCH, SLIRP, Nursery, Stand, free_ports

from virlet.fake.programs import install

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

FACTOR = int(os.environ.get("VIRLET_SOAK", "1"))
STORMS = 4 * FACTOR
BACK_AGAIN = 10.0
"""Seconds on a busy machine; it takes 0.05, and what waits for a timeout of ours takes 30."""
VHOST = """<interface type='vhostuser'><mac address='52:54:00:00:00:{n:02x}'/><backend type='passt'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"""
SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
KINDS = {"ours": (PASST, SLIRP), "theirs": (VHOST, OWN)}
"""Cards whose helpers come to QEMU, and whose helpers QEMU comes to or starts."""
PROGRAMS = {"qemu": ("/qemu-system",), "helper": ("/passt", ".passt", "virlet-slirp-helper")}
POINTS = ("helper.dialled", "helper.running", "helper.written", "helper.proceeding", "adopt.connected", "adopt.settled")


@pytest.fixture
def deaf(nursery: Nursery, tmp_path: Path, cache: Path, request: pytest.FixtureRequest) -> Iterable[Stand]:
    """A stand with a passt as that of 2023, which reaches no guest that it has not heard."""
    install(tmp_path / "qemu-system-x86_64", "qemu", {"links": "say"})
    install(tmp_path / "passt", "passt", {"learns": "heard"} if request.node.callspec.params["kind"] == "ours" else {})
    one = Stand(nursery, tmp_path, cache)
    yield one
    one.close()


def tell(pids: Iterable[int], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


class Storm:
    """What happens to a stand within a tenth of a second, and goes on for as long again."""

    def __init__(self, stand: Stand, chance: random.Random) -> None:
        self._stand, self._chance = stand, chance
        self._thread = threading.Thread(target=self._blow)
        self._timers: list[threading.Timer] = []
        self.said: list[str] = []
        self.killed: set[int] = set()
        """Daemons."""

    def _pids(self, who: str) -> list[int]:
        """Held helpers have a shell's name: all that is not QEMU is one that may stand still."""
        if who == "daemon":
            return [self._stand.pid] if self._stand.pid else []
        qemus = self._stand.running("/qemu-system")
        return qemus if who == "qemu" else [pid for pid in self._stand.processes() if pid not in qemus]

    def _kill(self, who: str) -> None:
        self.said.append(f"kill {who}")
        pids = self._pids("daemon") if who == "daemon" else helpers(self._stand)
        if who == "daemon":
            self.killed.update(pids)
        tell(pids, signal.SIGKILL)

    def _stop(self, who: str, seconds: float) -> None:
        self.said.append(f"stop {who} for {seconds:.3f} s")
        pids = self._pids(who)
        tell(pids, signal.SIGSTOP)
        self._timers.append(threading.Timer(seconds, tell, (pids, signal.SIGCONT)))
        self._timers[-1].start()

    def _acts(self) -> list[tuple[float, Callable[[], None]]]:
        """When, and what."""
        chance, window = self._chance, self._chance.choice((0.02, 0.05, 0.1))
        acts = [("daemon", 0.0)] * chance.choice((0, 1, 1, 2)) + [("helper", 0.0)] * chance.choice((1, 1, 2))
        for who in ("qemu", "daemon", "helper"):
            for _ in range(chance.choice((0, 0, 1, 2))):
                acts.append((who, chance.uniform(0.001, 0.1)))

        def act(who: str, seconds: float) -> Callable[[], None]:
            return (lambda: self._stop(who, seconds)) if seconds else (lambda: self._kill(who))

        return sorted(((chance.uniform(0.0, window), act(*each)) for each in acts), key=lambda one: one[0])

    def _blow(self) -> None:
        begun = time.monotonic()
        for when, act in self._acts():
            time.sleep(max(0.0, begun + when - time.monotonic()))
            act()
        for timer in self._timers:
            timer.join()

    @property
    def over(self) -> bool:
        return not self._thread.is_alive()

    def begin(self) -> None:
        self._thread.start()


def helpers(stand: Stand) -> list[int]:
    return [pid for program in PROGRAMS["helper"] for pid in stand.running(program)]


def weather(stand: Stand, storm: Storm, chance: random.Random) -> None:
    """One virletd after the other, until it is over."""
    # A new one at first: QEMU's own passt, whose killer we do not learn, may be lost five times under one.
    stand.end(signal.SIGKILL)
    fault = chance.choice(POINTS) if chance.random() < 0.3 else ""
    stand.begin(fault)
    armed = stand.pid if fault else 0
    storm.begin()
    while not storm.over or stand.pid in (0, *storm.killed):
        if not stand.pid:
            stand.begin()
            continue
        pidfd = os.pidfd_open(stand.pid)
        ended, _, _ = select.select([pidfd], [], [], 0.005)
        os.close(pidfd)
        if ended:
            stand.died()
    if stand.pid == armed:  # It is still to die at its point.
        stand.end(signal.SIGKILL)
        assert stand.begin(), stand.log()


def back(stand: Stand) -> float:
    """Seconds until everything is as it should be."""
    begun = time.monotonic()
    with stand.client() as connection:
        stand.consistent(connection)
    return time.monotonic() - begun


@pytest.mark.parametrize("kind", KINDS)
def test_a_network_is_back_as_soon_as_all_go_on(deaf: Stand, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    seed = int(os.environ.get("VIRLET_SEED", "0")) or int(time.time())
    print(f"VIRLET_SEED={seed}")
    chance, stand, took = random.Random(seed), deaf, []
    cards = KINDS[kind]
    devices = "".join(
        card.format(n=n, port=port) for n, (card, port) in enumerate(zip(cards, free_ports(2), strict=True))
    )
    extra = SHARED + SCRATCH.format(base=stand.base, lost="again") if kind == "theirs" else ""
    assert stand.begin()
    with stand.client() as connection:
        connection.define(DOMAIN.format(name="one", uuid="", extra=extra, devices=devices)).start()
    for number in range(STORMS):
        storm = Storm(stand, chance)
        weather(stand, storm, chance)
        took.append(back(stand))
        lost = helpers(stand)
        tell(lost, signal.SIGKILL)
        stand.until(lambda lost=lost: not {*lost} & {*helpers(stand)}, "they are dead")  # type: ignore[misc]
        took.append(back(stand))
        assert max(took[-2:]) < BACK_AGAIN, (seed, number, storm.said, took[-2:], stand.log())
    with stand.client() as connection:
        stand.nothing(connection)
    with capsys.disabled():
        print(f"\n{kind}: {STORMS} storms, back after {median(took):.3f} s, at most {max(took):.3f} s")
