"""A driver of our own in directories of our own; the host is probed once a session."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from virlet.engine import adopt
from virlet.engine.api import DomainEvent, HelperEvent
from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.facts import gather
from virlet.engine.probe.cache import Cache
from virlet.engine.session import open_driver
from virlet.enums import EventId
from virlet.fake.programs import install
from virlet.plan.facts import Facts, Support
from virlet.proc import settled

sys.path.insert(0, str(Path(__file__).parent))

MACHINE = "0123456789abcdef0123456789abcdef"

XML = """<domain type='qemu'>
  <name>{name}</name>
  <uuid>{uuid}</uuid>
  <memory unit='MiB'>32</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type>{os}</os>
  {extra}
  <devices>
    {devices}
    <serial type='pty'><target port='0'/></serial>
    <memballoon model='none'/>
  </devices>
</domain>
"""
UUID = "7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a0{}"


@pytest.fixture(scope="session")
def facts(tmp_path_factory: pytest.TempPathFactory) -> Facts:
    """What this host can do, on a machine whose id is the same everywhere."""
    found = asyncio.run(gather(Cache(tmp_path_factory.mktemp("cache"))))
    return replace(found, host=replace(found.host, machine_id=MACHINE))


Faking = Callable[..., Facts]


@pytest.fixture
def faking(facts: Facts, tmp_path: Path) -> Faking:
    """The same host with our fake QEMU and passt, which misbehave as told: ``faking(qemu={…}, passt={…})``."""

    def made(*, qemu: dict[str, object] | None = None, passt: dict[str, object] | None = None) -> Facts:
        emulator = install(tmp_path / "qemu", "qemu", qemu)
        helper = install(tmp_path / "passt", "passt", passt)
        real = facts.emulator("x86_64")
        if real is None or facts.passt is None:
            pytest.skip("needs the facts of a QEMU for x86_64 and of a passt")
        return replace(
            facts,
            qemu={str(emulator): replace(real, path=str(emulator))},
            passt=replace(facts.passt, path=str(helper), may_run=Support(True)),
        )

    return made


@pytest.fixture
def dirs() -> Iterator[Dirs]:
    """Directories under a short path: the sockets of a guest must fit into 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="vl") as name:
        root = Path(name)
        yield Dirs(root / "c", root / "s", root / "h", root / "r")


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that stands still for a second makes no program of the tests one that is silent, or that is well."""
    monkeypatch.setattr(adopt, "PATIENCE", 60.0)
    monkeypatch.setattr(settled, "PATIENCE", 60.0)


class Recorder:
    """Every event as ``name:details``, in order."""

    def __init__(self) -> None:
        self.events: list[DomainEvent | HelperEvent] = []

    def __call__(self, event: DomainEvent | HelperEvent) -> None:
        self.events.append(event)

    @property
    def lifecycle(self) -> list[tuple[int, int]]:
        """(event, detail) of the lifecycle events."""
        return [
            (int(each.args["event"]), int(each.args["detail"]))
            for each in self.events
            if isinstance(each, DomainEvent) and each.id is EventId.LIFECYCLE
        ]

    @property
    def helpers(self) -> list[str]:
        """Kinds of the helper events."""
        return [each.kind for each in self.events if isinstance(each, HelperEvent)]


Open = Callable[..., Awaitable[QemuDriver]]


@pytest.fixture
async def opener(dirs: Dirs, facts: Facts) -> AsyncIterator[Open]:
    """Opens a driver on the test's directories; whatever guest is left at the end is destroyed."""
    drivers: list[QemuDriver] = []

    async def opened(others: Facts | None = None) -> QemuDriver:
        driver = await open_driver("/session", dirs, others or facts)
        drivers.append(driver)
        return driver

    yield opened
    for driver in drivers:
        await driver.close()
    last = await open_driver("/session", dirs, replace(facts))
    for guest in last._context.guests:
        if guest.active:
            await last.destroy(guest.uuid, 0)
    await last.close()


@pytest.fixture
async def driver(opener: Open) -> QemuDriver:
    """A driver with nothing defined."""
    return await opener()


@pytest.fixture
def recorder() -> Recorder:
    """Not subscribed to anything yet."""
    return Recorder()


@pytest.fixture
def heard(driver: QemuDriver) -> Recorder:
    """What the driver tells from now on."""
    recorder = Recorder()
    driver.subscribe(recorder)
    return recorder


@pytest.fixture
def xml() -> Callable[..., str]:
    """Domain XML: ``xml("name", devices=…, os=…, extra=…)``."""

    def make(name: str = "one", number: int = 1, *, devices: str = "", os: str = "", extra: str = "") -> str:
        return XML.format(name=name, uuid=UUID.format(number), devices=devices, os=os, extra=extra)

    return make
