"""QEMU is lost, or its guest: state, reason and events as libvirt has them, and nothing of it left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from uuid import UUID

import pytest
from faultstand import DOMAIN, PASST, Stand, free_ports

from virlet.client.sync import Connection, Domain
from virlet.engine.crash import DUMPS_KEPT
from virlet.enums import DomainState, Lifecycle, RunningReason, ShutoffReason

pytestmark = [pytest.mark.faults]

STOPPED, SHUTDOWN, RESUMED, CRASHED = Lifecycle.STOPPED, Lifecycle.SHUTDOWN, Lifecycle.RESUMED, Lifecycle.CRASHED
OFF = DomainState.SHUTOFF


Watch = Callable[..., AbstractContextManager["Watched"]]


class Watched:
    """A running guest and what is told of it."""

    def __init__(self, stand: Stand, connection: Connection, extra: str) -> None:
        self.stand, self.connection = stand, connection
        (self.port,) = free_ports(1)
        nic = PASST.format(n=1, port=self.port)
        self.domain: Domain = connection.define(DOMAIN.format(name="one", uuid="", extra=extra, devices=nic))
        self.domain.start()
        self.stream = connection.events(["lifecycle"])
        (self.qemu,) = stand.running("/qemu-system")

    def told(self, count: int) -> list[tuple[int, int]]:
        found = []
        while len(found) < count:
            event = self.stream.next(10)
            assert event is not None, f"{found}, and no {count} events\n{self.stand.log()}"
            found.append((int(str(event.values["event"])), int(str(event.values["detail"]))))
        return found

    def ended(self, reason: ShutoffReason) -> None:
        state = self.domain.state()
        assert (state.state, state.reason) == (OFF, reason)
        self.stand.consistent(self.connection)


@pytest.fixture
def watch(stand: Stand) -> Watch:
    assert stand.begin()
    stand.quiet = stand.descriptors()

    @contextmanager
    def watching(extra: str = "") -> Iterator[Watched]:
        with stand.client() as connection:
            yield Watched(stand, connection, extra)
            stand.nothing(connection)
        stand.flat()

    return watching


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_qemu_that_dies_has_crashed_and_its_guest_failed(watch: Watch, number: signal.Signals) -> None:
    with watch() as guest:
        os.kill(guest.qemu, number)
        assert guest.told(1) == [(STOPPED, 5)]
        guest.ended(ShutoffReason.CRASHED)
        guest.domain.start()
        assert guest.stand.answers(guest.port)


def test_a_qemu_that_is_told_to_end_has_shut_down(watch: Watch) -> None:
    with watch() as guest:
        os.kill(guest.qemu, signal.SIGTERM)
        assert guest.told(2) == [(SHUTDOWN, 2), (STOPPED, 0)]
        guest.ended(ShutoffReason.SHUTDOWN)


@pytest.mark.parametrize("wanted", ["destroy", "coredump-destroy", ""])
def test_a_guest_that_panics_is_ended(watch: Watch, wanted: str) -> None:
    with watch(wanted and f"<on_crash>{wanted}</on_crash>") as guest:
        os.kill(guest.qemu, signal.SIGUSR1)
        assert guest.told(2) == [(CRASHED, 0), (STOPPED, 2)]
        guest.ended(ShutoffReason.CRASHED)
        cores = list(guest.stand.base.glob("s/virlet/dump/*.elf"))
        assert len(cores) == wanted.startswith("coredump")
        assert all(core.read_bytes().startswith(b"\x7fELF") and core.stat().st_mode & 0o777 == 0o600 for core in cores)


@pytest.mark.parametrize("wanted", ["restart", "coredump-restart"])
def test_a_guest_that_panics_begins_again_in_the_same_qemu(watch: Watch, wanted: str) -> None:
    with watch(f"<on_crash>{wanted}</on_crash>") as guest:
        os.kill(guest.qemu, signal.SIGUSR1)
        assert guest.told(2) == [(CRASHED, 0), (RESUMED, 0)]
        state = guest.domain.state()
        assert (state.state, state.reason) == (DomainState.RUNNING, RunningReason.CRASHED)
        assert guest.stand.running("/qemu-system") == [guest.qemu]
        assert guest.stand.answers(guest.port)
        assert len(list(guest.stand.base.glob("s/virlet/dump/*.elf"))) == wanted.startswith("coredump")


def test_the_last_few_dumps_of_a_guest_are_kept(watch: Watch) -> None:
    with watch("<on_crash>coredump-restart</on_crash>") as guest:
        folder = guest.stand.base / "s" / "virlet" / "dump"
        folder.mkdir(mode=0o700)
        older = [folder / f"{guest.domain.uuid}-2020010{day}T000000.elf" for day in range(1, 6)]
        another = folder / f"{UUID(int=1)}-20200101T000000.elf"
        for age, path in enumerate((another, *older)):
            path.touch()
            os.utime(path, (age, age))
        os.kill(guest.qemu, signal.SIGUSR1)
        assert guest.told(2) == [(CRASHED, 0), (RESUMED, 0)]
        left = sorted(folder.glob(f"{guest.domain.uuid}-*"))
        assert left[:2] == older[-2:]
        assert len(left) == DUMPS_KEPT == 3
        assert another.exists()


def test_a_guest_that_panics_is_preserved_for_who_wants_to_look(watch: Watch) -> None:
    with watch("<on_crash>preserve</on_crash>") as guest:
        os.kill(guest.qemu, signal.SIGUSR1)
        assert guest.told(1) == [(CRASHED, 0)]
        assert guest.domain.state().state is DomainState.CRASHED
        assert guest.stand.running("/qemu-system") == [guest.qemu]


def test_a_guest_that_panicked_unseen_is_treated_by_the_next_daemon(stand: Stand) -> None:
    assert stand.begin()
    with stand.client() as connection:
        guest = Watched(stand, connection, "<on_crash>coredump-restart</on_crash>")
    stand.end(signal.SIGKILL)
    os.kill(guest.qemu, signal.SIGUSR1)
    assert stand.begin()
    with stand.client() as connection:
        domain = connection.lookup_by_name("one")
        stand.until(lambda: domain.state().reason == RunningReason.CRASHED, "it runs again")
        assert list(stand.base.glob("s/virlet/dump/*.elf"))
        stand.nothing(connection)


def test_a_reboot_of_the_guests_own_goes_as_on_reboot_says(watch: Watch) -> None:
    with watch("<on_reboot>destroy</on_reboot>") as guest:
        os.kill(guest.qemu, signal.SIGUSR2)
        assert guest.told(2) == [(SHUTDOWN, 1), (STOPPED, 0)]
        guest.ended(ShutoffReason.SHUTDOWN)
    with watch() as guest:
        os.kill(guest.qemu, signal.SIGUSR2)
        guest.domain.suspend()
        assert guest.domain.state().state is DomainState.PAUSED


@pytest.mark.parametrize(("wanted", "told"), [("destroy", [(SHUTDOWN, 1), (STOPPED, 0)]), ("restart", [(RESUMED, 0)])])
def test_a_power_off_goes_as_on_poweroff_says(watch: Watch, wanted: str, told: list[tuple[int, int]]) -> None:
    with watch(f"<on_poweroff>{wanted}</on_poweroff>") as guest:
        guest.domain.shutdown()
        assert guest.told(len(told)) == told
        assert guest.domain.is_active() == (wanted == "restart")
