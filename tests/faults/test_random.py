"""``kill -9`` of virletd at any moment of a life of guests, and lives without number: nothing is lost, nothing grows.

A few in every run; script/soak has 500 kills, and 10 000 lives of the fake QEMU.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from faultstand import DOMAIN, OWN, PASST, SCRATCH, SLIRP, Stand, free_ports

from virlet.client.sync import Connection
from virlet.enums import Affect
from virlet.errors import VirletError

pytestmark = [pytest.mark.faults, pytest.mark.timeout(0)]

FACTOR = int(os.environ.get("VIRLET_SOAK", "1"))
KILLS, LIVES = 25 * FACTOR, 40 if FACTOR == 1 else 500 * FACTOR
WARM = 20 if FACTOR == 1 else 500
"""Lives after which what is loaded once is loaded, and what is kept for a minute is replaced as quickly as it comes."""
GROWTH = 4096 if LIVES < 10_000 else 1024
"""KiB."""
UUID = "<uuid>7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a0{}</uuid>"


CARDS = (PASST, PASST, OWN, PASST, SLIRP, OWN)


class Life:
    """What a user does to three guests, over and over, in an order of his own; QEMU starts the passts of the third."""

    def __init__(self, stand: Stand, seed: int) -> None:
        self.random = random.Random(seed)
        self.stand = stand
        self.ports = free_ports(6)

    def nic(self, n: int) -> str:
        return CARDS[n].format(n=n, port=self.ports[n])

    def act(self, connection: Connection) -> None:
        """One thing, whether it makes sense now or not."""
        number = self.random.randrange(3)
        name, second = f"guest{number}", self.nic(number + 3)
        both = Affect.LIVE | Affect.CONFIG
        what = self.random.choice(
            ("define", "start", "start", "attach", "detach", "destroy", "suspend", "kill", "undefine")
        )
        if what == "kill":
            for program in ("/passt", ".passt", "virlet-slirp-helper"):
                self.stand.kill(program)
            return
        if what == "define":
            extra = SCRATCH.format(base=self.stand.base, lost=self.random.choice(("again", "never")))
            xml = DOMAIN.format(name=name, uuid=UUID.format(number), extra=extra, devices=self.nic(number))
            connection.define(xml)
            return
        domain = connection.lookup_by_name(name)
        match what:
            case "attach":
                domain.attach_device(second, both)
            case "detach":
                domain.detach_device(second, both)
            case "suspend":
                domain.suspend()
                domain.resume()
            case _:
                getattr(domain, what)()

    def until_killed(self, after: float) -> None:
        """Act until the daemon is gone, which it is after so many seconds."""
        pid = self.stand.pid
        timer = threading.Timer(after, os.kill, (pid, signal.SIGKILL))
        timer.start()
        try:
            with self.stand.client() as connection:
                while connection.core.lost is None:
                    with contextlib.suppress(VirletError):
                        self.act(connection)
        except VirletError:
            pass  # It had gone before we came.
        timer.join()


def test_a_daemon_killed_at_any_moment_leaves_every_guest_whole_or_gone(
    stand: Stand, capsys: pytest.CaptureFixture[str]
) -> None:
    seed = int(os.environ.get("VIRLET_SEED", "0")) or int(time.time())
    life = Life(stand, seed)
    print(f"VIRLET_SEED={seed}")
    assert stand.begin()
    stand.quiet = stand.descriptors()
    for number in range(KILLS):
        life.until_killed(life.random.uniform(0.0, 0.4))
        assert stand.died() == -signal.SIGKILL
        assert stand.begin(), (seed, number, stand.log())
        with stand.client() as connection:
            stand.consistent(connection)
            assert "is taken by" not in stand.log(), f"a helper ran that nobody knew of ({seed})\n{stand.log()}"
            if number % 5 == 4:
                stand.nothing(connection)
        if number % 5 == 4:
            stand.flat()
    with stand.client() as connection:
        stand.nothing(connection)
    with capsys.disabled():
        print(f"\n{KILLS} kills of virletd at random moments: nothing lost, nothing left")


def resident(stand: Stand) -> int:
    return int(Path(f"/proc/{stand.pid}/status").read_text().split("VmRSS:")[1].split()[0])


def test_lives_without_number_leave_nothing_and_nothing_grows(stand: Stand, capsys: pytest.CaptureFixture[str]) -> None:
    life = Life(stand, 0)
    memory: list[int] = []
    assert stand.begin()
    with stand.client() as connection:
        xml = DOMAIN.format(name="one", uuid=UUID.format(0), extra="", devices=life.nic(0))
        for number in range(WARM + LIVES):
            domain = connection.define(xml)
            domain.start()
            domain.attach_device(life.nic(1), Affect.LIVE)
            domain.destroy()
            domain.undefine()
            if number == WARM:
                stand.until(lambda: not stand.processes(), "no process")
                descriptors = stand.descriptors()
            if number >= WARM:
                memory.append(resident(stand))
            if number % 200 == 0:
                stand.reap()
        stand.until(lambda: not stand.processes() and not stand.files(), "nothing is left")
        stand.until(lambda: stand.descriptors() == descriptors, "as many descriptors")
    stand.reap()
    part = LIVES // 10
    begin, half, end = (min(memory[at : at + part]) for at in (0, (LIVES - part) // 2, LIVES - part))
    with capsys.disabled():
        least = f"least {begin} KiB in the first tenth, {half} in the middle, {end} in the last"
        print(f"\n{LIVES} lives of a guest: the daemon's memory is at {least}; {max(memory)} at most")
    # The least of many: when Python makes its table of interned strings anew, which has 1 MiB, it has two of them.
    assert end - begin < GROWTH
    assert max(memory) - begin < 4096
