"""A host whose default route comes, goes and moves, in the namespace of script/netns: guests on passt follow."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest
from domains import domain
from guest import Console
from session import Session, console_of, gone, poked, session, until
from traffic import answer

from virlet.proc.routes import uplinks

pytestmark = [pytest.mark.e2e, pytest.mark.netns, pytest.mark.timeout(240)]

QUIET = "console=ttyS0 quiet panic=1 virlet.nonet"
MAC = "52:54:00:78:00:01"
FAR, FAR6 = "10.80.0.1", "fd80::1"
PORT = 24022


def nic(backend: str = "<backend type='passt'/>") -> str:
    return f"""<interface type='user'><mac address='{MAC}'/><model type='virtio'/>{backend}
      <portForward proto='tcp' address='127.0.0.1'><range start='{PORT}' to='22'/></portForward></interface>"""


def ask(*lines: str) -> None:
    """Have root change the network."""
    with open(os.environ["VIRLET_ROUTES"], "w") as pipe:
        pipe.writelines(f"{line}\n" for line in lines)


def routes(*wanted: tuple[int, str]) -> None:
    """Wait until those are the default routes."""
    until(lambda: uplinks().routes == frozenset(wanted), lambda: str(uplinks().routes))


@pytest.fixture(autouse=True)
def no_route() -> Iterator[None]:
    """Every test begins and ends without a default route, with both links up."""
    yield
    ask("up up0", "up vpn0", *(f"del{family} {link}" for family, link in uplinks().routes))
    routes()


class Told:
    """``virlet events`` beside a test."""

    def __init__(self, one: Session) -> None:
        self.lines: list[str] = []
        self._news = threading.Condition()
        self.process = subprocess.Popen(
            ["virlet", "events", "--json"], env=one.env, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        self.wait('"undefined"', f'"{poked(one, self.lines)}"')

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(30)
        self._thread.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._news:
                self.lines.append(line)
                self._news.notify_all()

    def wait(self, *words: str, timeout: float = 30) -> None:
        with self._news:
            found = self._news.wait_for(lambda: any(all(w in line for w in words) for line in self.lines), timeout)
            assert found, f"no event with {words}: {self.lines}"
            self.lines.clear()


@pytest.fixture
def one() -> Iterator[Session]:
    with session() as made:
        made.start_daemon()
        yield made


@pytest.fixture
def told(one: Session) -> Iterator[Told]:
    with closing(Told(one)) as made:
        yield made


def boot(one: Session, xml: str) -> Console:
    one.define(domain("mover", xml, cmdline=QUIET))
    one.virsh("start", "mover")
    console = console_of(one, "mover")
    console.ready(90)
    return console


def condition(one: Session) -> str:
    (helper,) = one.virlet_json("info", "mover")["details"]["helpers"]
    return str(helper["condition"])


def is_reached_as(console: Console, ours: str, address: str = FAR) -> None:
    """The far server talks to *ours*, sooner or later: a first SYN may be lost while the network follows."""
    until(lambda: reached(console, address) == ours, f"{address} is reached as {ours}")


def runs(one: Session) -> None:
    until(lambda: condition(one) == "running", lambda: condition(one))


def reached(console: Console, address: str = FAR) -> str:
    """Whom the far server says that it talks to; empty when the guest does not get there."""
    _, said = console.run(f"echo | timeout 3 nc -w 3 {address} 80")
    return said.split()[0] if said.startswith(("::ffff:", "fd")) else ""


def carrier(console: Console) -> bool:
    return console.run("cat /sys/class/net/eth0/carrier")[1].strip() == "1"


def test_a_guest_without_a_route_starts_with_its_link_down_and_gets_its_network_when_one_comes(
    one: Session, told: Told
) -> None:
    """The whole story of a laptop, on one guest: no network, Wi-Fi, nothing, IPv6, a VPN, nothing."""
    console = boot(one, nic())
    if condition(one).startswith("waits"):  # A passt of 2023; a later one starts, and has nothing to offer.
        assert condition(one) == "waits for a default route"
        assert not carrier(console)
        assert one.helpers("passt") == []
    ask("add4 up0")
    told.wait("followed", "default route")
    runs(one)
    console.check("net-up eth0")
    console.ready()
    assert (console.lease.ip, console.lease.gateway) == ("10.78.0.2", "10.78.0.1")
    is_reached_as(console, "::ffff:10.78.0.2")
    assert answer(PORT) == "SSH-2.0-virlet-guest"

    passt = one.helper("passt")
    ask("del4 up0")
    routes()
    assert reached(console) == ""
    ask("add4 up0")
    routes((4, "up0"))
    is_reached_as(console, "::ffff:10.78.0.2")
    ask("add4 vpn0")
    routes((4, "vpn0"))
    is_reached_as(console, "::ffff:10.79.0.2")
    assert one.helpers("passt") == [passt]

    ask("add6 vpn0")
    told.wait("followed", "IPv6")
    assert gone([passt])
    console.check("net-up eth0")
    console.ready()
    assert (console.lease.ip, console.lease.gateway) == ("10.78.0.2", "10.78.0.1"), "the guest's addresses are its own"
    is_reached_as(console, "::ffff:10.79.0.2")
    assert answer(PORT) == "SSH-2.0-virlet-guest"


def test_a_passt_that_dies_without_a_route_waits_for_one_also_through_a_daemons_death(one: Session) -> None:
    ask("add4 up0")
    routes((4, "up0"))
    one.define(domain("mover", nic(), cmdline=QUIET))
    one.virsh("start", "mover")
    ask("del4 up0")
    routes()
    passt = one.helper("passt")
    os.kill(passt, signal.SIGKILL)
    until(lambda: condition(one).startswith("waits") or one.helpers("passt") not in ([], [passt]), "it is noticed")
    one.stop_daemon(signal.SIGKILL)
    ask("add4 vpn0")
    routes((4, "vpn0"))
    one.start_daemon()
    console = console_of(one, "mover")
    console.ready(90)
    console.run("ip link set eth0 up")  # QEMU notices a passt that has ended when the guest takes frames.
    runs(one)
    console.check("net-up eth0")
    is_reached_as(console, "::ffff:10.79.0.2")
    assert answer(PORT) == "SSH-2.0-virlet-guest"


def test_an_interface_that_names_nobody_is_carried_by_who_can(one: Session) -> None:
    console = boot(one, nic(backend=""))
    console.check("net-up eth0")
    console.ready()
    assert console.lease.ip == "10.0.2.15"
    assert answer(PORT) == "SSH-2.0-virlet-guest"


def test_an_interface_that_is_attached_waits_as_well(one: Session, told: Told) -> None:
    console = boot(one, "")
    console.check("modprobe -a virtio_pci virtio_net")  # It loads what it finds while it boots.
    path = one.base / "nic.xml"
    path.write_text(nic())
    one.virsh("attach-device", "mover", str(path))
    ask("add4 up0")
    told.wait("followed", "default route")
    console.check("until [ -e /sys/class/net/eth0 ]; do usleep 50000; done", 20)
    console.check("net-up eth0")
    is_reached_as(console, "::ffff:10.78.0.2")
