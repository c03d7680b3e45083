"""What a status file says is not trusted: whatever that is, the daemon begins, and only that guest suffers.

Invariant of the properties: opening the driver raises nothing, the neighbour is taken over, no file beside the guest's
own is touched, and no process that is not the guest's gets a signal.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any, cast

import pytest

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.guest import Guest, Run
from virlet.engine.session import open_driver
from virlet.engine.settle import settle_interfaces
from virlet.enums import DomainState
from virlet.errors import VirletError
from virlet.fake.programs import install
from virlet.model.domain import parse_domain
from virlet.plan.facts import Facts, Support
from virlet.proc.identity import alive, identify

Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

NIC = (
    "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><backend type='passt'/></interface>"
)
RECORDED = json.loads((Path(__file__).parent / "status" / "format-1.json").read_text())
UUID = "7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a{:02}"
SOAK = int(os.environ.get("VIRLET_SOAK", "1"))
SEED = os.environ.get("VIRLET_SEED") or str(time.time_ns())


@contextmanager
def seeded() -> Iterator[None]:
    """Say how to have the same once more."""
    try:
        yield
    except BaseException as error:
        error.add_note(f"again: VIRLET_SEED={SEED}")
        raise


class Around:
    """What is not the guest's: a neighbour, a directory of somebody's, a process and a thread."""

    def __init__(self, root: Path, facts: Facts, thread: int) -> None:
        self.root = root
        self.dirs = Dirs(root / "c", root / "s", root / "h", root / "r")
        self.kept = root / "kept"
        self.kept.mkdir()
        (self.kept / "file").write_text("kept")
        self.process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        self.thread = thread
        emulator, passt = install(root / "qemu", "qemu", {}), install(root / "passt", "passt", {})
        real = facts.emulator("x86_64")
        if real is None or facts.passt is None:
            pytest.skip("needs the facts of a QEMU for x86_64 and of a passt")
        self.facts = replace(
            facts,
            qemu={str(emulator): replace(real, path=str(emulator))},
            passt=replace(facts.passt, path=str(passt), may_run=Support(True)),
        )

    async def opened(self) -> QemuDriver:
        return await open_driver("/session", self.dirs, self.facts)

    def file(self, uuid: object) -> Path:
        """Its status file."""
        (found,) = self.dirs.state.glob(f"*/*/{uuid}.json")
        return found

    def unharmed(self) -> None:
        assert (self.kept / "file").read_text() == "kept"
        assert self.process.poll() is None

    def left(self) -> list[int]:
        """Processes of the fake programs that run."""
        found = []
        for each in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):
                mark = os.fsencode(self.root) in (each / "cmdline").read_bytes()
                if mark and int(each.name) != os.getpid() and identify(int(each.name)) is not None:
                    found.append(int(each.name))
        return found


@contextmanager
def a_thread() -> Iterator[int]:
    """The number of a thread that is no process's."""
    over = threading.Event()
    thread = threading.Thread(target=over.wait)
    thread.start()
    assert thread.native_id is not None
    try:
        yield thread.native_id
    finally:
        over.set()
        thread.join()


@contextmanager
def around(facts: Facts) -> Iterator[Around]:
    with tempfile.TemporaryDirectory(prefix="va") as name, a_thread() as thread:
        one = Around(Path(name), facts, thread)
        try:
            yield one
        finally:
            one.process.kill()
            one.process.wait()
            for pid in one.left():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def places(data: object, here: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where there is a value, as keys and indices from the top."""
    if here:
        yield here
    members = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in members:
        yield from places(value, (*here, key))


def odd(one: Around, rng: Random, value: object, neighbour: Path) -> object:
    """Something else in the place of *value*, most often of its type: what is not is refused by the codec."""
    if rng.random() < 0.05:
        return rng.choice([None, 7, 1.5, "x", [], {}, not value])
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        small = [0, 1, 2, 3, 4, 5, 6, 7, 100, 70_000]
        pids = [one.thread, one.process.pid, os.getpid(), (1 << 22) - 1]
        return rng.choice([*small, *pids, -1, 1 << 22, 10**12, 1 << 70])
    if isinstance(value, str):
        paths = [
            one.kept,
            one.kept / "file",
            neighbour,
            neighbour.parent,
            one.dirs.runtime,
            one.dirs.state,
            "/dev/null",
        ]
        long = ["x" * 300, "/" + "x" * 300, "/a" * 3000, str(one.kept / ("x" * 300))]
        words = ["starting", "stopping", "DESTROY", "START", "restart", "reuse", "accept", "qemu", "net0", "net1"]
        return rng.choice(["", "\ud800", "/\udc80", "a\0b", "..", "<domain/>", *long, *words, *map(str, paths)])
    if isinstance(value, list):
        more = [str(one.kept), str(one.kept / "file"), str(neighbour), str(neighbour.parent), str(one.dirs.runtime)]
        return rng.choice([[], value * 2, value[1:], value[:-1], value[::-1], [*value, *more]])
    return None


def damaged(one: Around, rng: Random, record: dict[str, Any], neighbour: Path) -> dict[str, Any]:
    """*record* with one to three values exchanged or left out."""
    found: dict[str, Any] = json.loads(json.dumps(record))
    for _ in range(rng.randint(1, 3)):
        # Not more often where a record says more: each member of it has its turn.
        top = rng.choice(list(found))
        where = rng.choice(list(places({top: found[top]})))
        into: Any = found
        for key in where[:-1]:
            into = into[key]
        if isinstance(into, dict) and where[-1] != "$":
            if rng.random() < 0.05:
                del into[where[-1]]
                continue
        elif where[-1] == "$":
            continue
        into[where[-1]] = odd(one, rng, into[where[-1]], neighbour)
    return found


def dead(one: Around, number: int) -> dict[str, Any]:
    """The record of a guest whose processes are no more, with all that a record may have."""
    uuid = UUID.format(number)
    text = json.dumps(RECORDED).replace(RECORDED["uuid"], uuid).replace("/home/user", str(one.root))
    return {**json.loads(text), "uuid": uuid, "id": number, "name": f"dead{number}", "persistent": False}


@pytest.mark.parametrize("number", range(3 * SOAK))
def test_records_of_dead_guests_may_say_anything(facts: Facts, xml: Xml, number: int) -> None:
    rng = Random(f"{SEED} dead {number}")
    with around(facts) as one, seeded():
        asyncio.run(_dead_ones(one, xml, rng))
        one.unharmed()


async def _dead_ones(one: Around, xml: Xml, rng: Random) -> None:
    driver = await one.opened()
    neighbour = (await driver.define(xml("neighbour", 1), 0)).uuid
    await driver.start(neighbour, 0, None)
    await driver.close()
    file = one.file(neighbour)
    for number in range(20, 90):
        record = damaged(one, rng, dead(one, number), file)
        (file.parent / f"{UUID.format(number)}.json").write_text(json.dumps(record))
    await _neighbour_is_well(one, neighbour)


async def _neighbour_is_well(one: Around, neighbour: Any) -> None:
    """Nothing that the loop hears of is unhandled, and the neighbour can be used."""
    unhandled: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: unhandled.append(context))
    driver = await one.opened()
    try:
        one.unharmed()
        assert driver.state(neighbour)[0] is DomainState.RUNNING
        await driver.suspend(neighbour)
        assert driver.state(neighbour)[0] is DomainState.PAUSED
        for guest in driver._context.guests:
            with suppress(VirletError):  # Many end while we look: their records say so.
                driver.info(guest.uuid)
                driver.details(guest.uuid)
                await driver.destroy(guest.uuid, 0)
        assert not driver.is_active(neighbour)
    finally:
        await driver.close()
    assert not unhandled, unhandled


@pytest.mark.parametrize("number", range(3 * SOAK))
def test_so_may_those_of_guests_that_run(facts: Facts, xml: Xml, number: int) -> None:
    rng = Random(f"{SEED} running {number}")
    with around(facts) as one, seeded():
        asyncio.run(_running_ones(one, xml, rng))
        one.unharmed()


async def _running_ones(one: Around, xml: Xml, rng: Random) -> None:
    driver = await one.opened()
    uuids = []
    for number in range(1, 6):
        text = xml(f"guest{number}", number, devices=NIC if number > 1 else "")
        if number % 2:
            uuids.append((await driver.define(text, 0)).uuid)
            await driver.start(uuids[-1], 0, None)
        else:
            uuids.append((await driver.create(text, 0, None)).uuid)
    await driver.close()
    neighbour, *others = uuids
    file = one.file(neighbour)
    for uuid in others:
        path = one.file(uuid)
        path.write_text(json.dumps(damaged(one, rng, json.loads(path.read_text()), file)))
    await _neighbour_is_well(one, neighbour)


async def test_a_guest_whose_trouble_nobody_foresaw_is_reported_and_left_alone(
    opener: Open, faking: Faking, xml: Xml, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    facts = faking()
    first = await opener(facts)
    one = (await first.create(xml("one", 1), 0, None)).uuid
    two = (await first.define(xml("two", 2), 0)).uuid
    await first.start(two, 0, None)
    lost = first._context.guests.find(one).running().process.identity
    await first.close()

    def bug(text: str, **how: bool) -> Any:
        return {}["bug"] if "<name>one<" in text else parse_domain(text, **how)

    monkeypatch.setattr("virlet.engine.takeover.parse_domain", bug)
    second = await opener(facts)
    assert second.state(two)[0] is DomainState.RUNNING
    (problem,) = cast("list[str]", (await second.doctor())["problems"])
    assert "guest 'one' could not be taken over: KeyError: 'bug'" in problem
    assert f"pid {lost.pid}" in problem
    assert any(record.exc_info for record in caplog.records)
    assert [guest.name for guest in second._context.guests] == ["two"]
    await second.close()
    monkeypatch.undo()
    third = await opener(facts)
    assert alive(lost)
    assert third.is_active(one)
    await third.destroy(one, 0)


async def test_one_that_is_ours_by_then_can_be_destroyed(
    opener: Open, faking: Faking, xml: Xml, monkeypatch: pytest.MonkeyPatch
) -> None:
    facts = faking()
    first = await opener(facts)
    one = (await first.create(xml("one", 1), 0, None)).uuid
    two = (await first.create(xml("two", 2), 0, None)).uuid
    await first.close()

    async def bug(guest: Guest, run: Run) -> None:
        assert guest.name != "one", "bug"
        await settle_interfaces(guest, run)

    monkeypatch.setattr("virlet.engine.takeover.settle_interfaces", bug)
    second = await opener(facts)
    (problem,) = cast("list[str]", (await second.doctor())["problems"])
    assert "guest 'one' runs, and could not be taken over as a whole: AssertionError: bug" in problem
    for uuid in (one, two):
        assert second.state(uuid)[0] is DomainState.RUNNING
        await second.suspend(uuid)
        assert second.state(uuid)[0] is DomainState.PAUSED
        await second.destroy(uuid, 0)


@pytest.mark.parametrize("number", [0, -1, 10**12])
async def test_a_pid_that_no_process_can_have_keeps_nobody_from_starting(
    opener: Open, faking: Faking, xml: Xml, dirs: Dirs, number: int
) -> None:
    facts = faking()
    first = await opener(facts)
    one = (await first.create(xml("one", 1, devices=NIC), 0, None)).uuid
    await first.close()
    (path,) = dirs.state.rglob(f"{one}.json")
    said = path.read_text()
    record = json.loads(said)
    record["helpers"][0]["identity"]["pid"] = number
    path.write_text(json.dumps(record))
    second = await opener(facts)
    (problem,) = cast("list[str]", (await second.doctor())["problems"])
    assert f"no process has the pid {number}" in problem
    await second.close()
    path.write_text(said)


async def test_a_pid_that_is_a_threads_by_now_is_that_of_a_dead_process(
    opener: Open, faking: Faking, xml: Xml, dirs: Dirs
) -> None:
    facts = faking()
    first = await opener(facts)
    one = (await first.create(xml("one", 1, devices=NIC), 0, None)).uuid
    two = (await first.create(xml("two", 2), 0, None)).uuid
    killed = first._context.guests.find(two).running().process.identity
    await first.close()
    os.kill(killed.pid, signal.SIGKILL)
    with a_thread() as thread:
        for uuid in (one, two):
            (path,) = dirs.state.rglob(f"{uuid}.json")
            record = json.loads(path.read_text())
            identity = record["helpers"][0]["identity"] if uuid == one else record["qemu"]
            if uuid == one:
                os.kill(identity["pid"], signal.SIGKILL)
            identity["pid"] = thread
            path.write_text(json.dumps(record))
        second = await opener(facts)
        assert second.state(one)[0] is DomainState.RUNNING
        assert two not in [guest.uuid for guest in second._context.guests]
        await second.destroy(one, 0)


async def test_a_number_that_is_somebodys_else_is_not_given_twice(
    opener: Open, faking: Faking, xml: Xml, dirs: Dirs
) -> None:
    facts = faking()
    first = await opener(facts)
    uuids = [(await first.create(xml(name, number), 0, None)).uuid for number, name in ((1, "one"), (2, "two"))]
    await first.close()
    for uuid in uuids:
        (path,) = dirs.state.rglob(f"{uuid}.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "id": 7}))
    second = await opener(facts)
    assert sorted(second._context.guests.find(uuid).id for uuid in uuids) == [7, 8]
