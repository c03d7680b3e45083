"""A guest that is to begin again (rebooted, ``on_poweroff``, ``on_crash``) does so whenever virletd dies meanwhile."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import suppress

import pytest
from faultstand import DOMAIN, PASST, Stand, free_ports

from virlet.client.sync import Connection, Domain
from virlet.enums import DomainState
from virlet.errors import VirletError

pytestmark = [pytest.mark.faults]

DEAF = """<qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<qemu:env name='VIRLET_FAKE_QEMU' value='{"powerdown": "ignore"}'/></qemu:commandline>"""
"""Its guest takes its time to power off: until it is told."""


def tell(stand: Stand, number: signal.Signals) -> None:
    """Have the guest do something by itself."""
    (qemu,) = stand.running("/qemu-system")
    os.kill(qemu, number)


WAYS: dict[str, tuple[str, Callable[[Stand, Domain], None]]] = {
    "reboot": ("", lambda stand, domain: domain.reboot()),
    "power-off": ("<on_poweroff>restart</on_poweroff>", lambda stand, domain: tell(stand, signal.SIGPWR)),
    "crash": ("<on_crash>restart</on_crash>", lambda stand, domain: tell(stand, signal.SIGUSR1)),
    "dump": ("<on_crash>coredump-restart</on_crash>", lambda stand, domain: tell(stand, signal.SIGUSR1)),
}
"""What the domain says, and how it comes to begin again."""


def started(stand: Stand, connection: Connection, extra: str) -> Domain:
    nic = PASST.format(n=1, port=free_ports(1)[0])
    domain = connection.define(DOMAIN.format(name="one", uuid="", extra=extra, devices=nic))
    domain.start()
    return domain


def state(connection: Connection) -> DomainState:
    return connection.lookup_by_name("one").state().state


def begins_again(stand: Stand, qemu: list[int]) -> None:
    """The next daemon, and one after that, which asks QEMU as well, find it running in the same QEMU."""
    for _ in range(2):
        assert stand.begin(), stand.log()
        with stand.client() as connection:
            stand.until(lambda: state(connection) is DomainState.RUNNING, "it runs")
            assert stand.running("/qemu-system") == qemu
            stand.consistent(connection)
            stand.note_left(connection.domains())
        stand.end(signal.SIGKILL)
    assert stand.begin()
    with stand.client() as connection:
        stand.nothing(connection)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", ["restart.intended", "restart.reset", "restart.running"])
def test_killed_while_it_is_reset(stand: Stand, way: str, name: str) -> None:
    extra, how = WAYS[way]
    assert stand.begin()
    with stand.client() as connection:
        started(stand, connection, extra)
    stand.end()
    qemu = stand.running("/qemu-system")
    stand.note_point(name, "passt")
    assert stand.begin(name)
    with stand.client() as connection, suppress(VirletError):
        how(stand, connection.lookup_by_name("one"))
        while True:
            state(connection)
    assert stand.died() == -signal.SIGKILL
    begins_again(stand, qemu)
    assert len(list(stand.base.glob("s/virlet/dump/*"))) == (way == "dump")


@pytest.mark.parametrize("killed", [True, False])
def test_a_guest_that_is_rebooted_may_power_off_when_virletd_has_gone(stand: Stand, killed: bool) -> None:
    assert stand.begin()
    with stand.client() as connection:
        started(stand, connection, DEAF).reboot()
    stand.end(signal.SIGKILL if killed else signal.SIGTERM)
    qemu = stand.running("/qemu-system")
    tell(stand, signal.SIGPWR)
    begins_again(stand, qemu)


def test_or_under_the_next_one(stand: Stand) -> None:
    assert stand.begin()
    with stand.client() as connection:
        started(stand, connection, DEAF).reboot()
    stand.end(signal.SIGKILL)
    assert stand.begin()
    with stand.client() as connection:
        qemu = stand.running("/qemu-system")
        with connection.events() as events:
            tell(stand, signal.SIGPWR)
            next(iter(events))
        assert state(connection) is DomainState.RUNNING
    stand.end(signal.SIGKILL)
    begins_again(stand, qemu)


def test_one_that_is_shut_down_after_all_stays_off(stand: Stand) -> None:
    assert stand.begin()
    with stand.client() as connection:
        domain = started(stand, connection, DEAF)
        domain.reboot()
        domain.shutdown()
    stand.end(signal.SIGKILL)
    tell(stand, signal.SIGPWR)
    assert stand.begin()
    with stand.client() as connection:
        stand.until(lambda: state(connection) is DomainState.SHUTOFF, "it is off")
        stand.nothing(connection)


@pytest.mark.parametrize(("wanted", "found"), [("restart", DomainState.RUNNING), ("destroy", DomainState.SHUTOFF)])
def test_a_power_off_that_nobody_saw_goes_as_on_poweroff_says(stand: Stand, wanted: str, found: DomainState) -> None:
    assert stand.begin()
    with stand.client() as connection:
        started(stand, connection, f"<on_poweroff>{wanted}</on_poweroff>")
    stand.end()
    qemu = stand.running("/qemu-system")
    tell(stand, signal.SIGPWR)
    if found is DomainState.RUNNING:
        begins_again(stand, qemu)
        return
    assert stand.begin()
    with stand.client() as connection:
        stand.until(lambda: state(connection) is found, "it is off")
        stand.nothing(connection)
