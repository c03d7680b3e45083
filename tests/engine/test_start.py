"""A guest's life over real programs: what comes up, what is said, and that nothing is left."""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from virlet.engine.api import DomainRef
from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.session import autostart
from virlet.engine.supervision import helper as helpers
from virlet.engine.supervision.budget import Budget
from virlet.enums import CreateFlags, DomainState, ErrorCode, EventId, ListDomainsFlags, ShutoffReason
from virlet.errors import BadConfig, InternalError, NoDomain, OperationFailed, OperationInvalid, VirletError
from virlet.proc.logfile import MAX_LOG
from virlet.proc.threads import worker

pytestmark = [
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64"),
    pytest.mark.skipif(shutil.which("passt") is None, reason="needs passt"),
    pytest.mark.skipif(os.getuid() == 0, reason="passt started as root becomes nobody"),
]

Recorder = Any
Xml = Callable[..., str]
Open = Callable[[], Awaitable[QemuDriver]]

PASST = """<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='virtio'/><backend type='passt'/>
<portForward proto='tcp' address='127.0.0.1'>{ranges}</portForward></interface>"""


def free_ports(count: int) -> int:
    """The first of *count* ports in a row that nobody has."""
    for first in range(21000 + os.getpid() % 9000, 60000, count):
        try:
            for port in range(first, first + count):
                with socket.socket() as probe:
                    probe.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


def passt(first: int, last: int | None = None, n: int = 1) -> str:
    end = f" end='{last}'" if last else ""
    return PASST.format(n=n, ranges=f"<range start='{first}'{end} to='22'/>")


def children(dirs: Dirs) -> list[int]:
    """Processes that have a path of the test's directories on their command line or among their descriptors."""
    root = os.fsencode(dirs.runtime.parent)
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if root in (each / "cmdline").read_bytes() or any(
                root in os.fsencode(os.readlink(fd)) for fd in (each / "fd").iterdir()
            ):
                found.append(int(each.name))
        except (OSError, ProcessLookupError):
            continue
    return [pid for pid in found if pid != os.getpid()]


def nothing_left(dirs: Dirs) -> None:
    assert list(dirs.runtime.rglob("*")) == []
    assert list(dirs.state.rglob("*.json")) == []
    assert children(dirs) == []


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(true: Callable[[], object]) -> None:
    """Wait for something that the outside world does and nobody tells."""
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def helper_of(driver: QemuDriver, uuid: Any) -> Any:
    (helper,) = driver.details(uuid)["helpers"]  # type: ignore[misc]
    return helper


async def helper_pid(driver: QemuDriver, uuid: Any, other_than: int = 0) -> int:
    """The pid of the one helper, once it is another than before."""
    await until(lambda: helper_of(driver, uuid)["pid"] not in (None, other_than))
    return int(helper_of(driver, uuid)["pid"])


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


async def test_a_start_and_a_destroy_leave_nothing(driver: QemuDriver, heard: Recorder, xml: Xml, dirs: Dirs) -> None:
    port = free_ports(3)
    uuid = (await driver.define(xml(devices=passt(port, port + 2)), 0)).uuid
    await driver.start(uuid, 0, None)  # what is imported and opened once is open now
    await driver.destroy(uuid, 0)
    before = descriptors()
    heard.events.clear()
    for _ in range(2):
        ref = await driver.start(uuid, 0, None)
        assert ref.id > 0
        assert driver.by_id(ref.id) == ref
        assert driver.state(uuid) == (DomainState.RUNNING, 1)
        assert all(map(listens, range(port, port + 3)))
        assert driver.info(uuid).cpu_time > 0
        assert f"id='{ref.id}'" in driver.xml(uuid, 0)
        assert "/dev/pts/" in driver.xml(uuid, 0)
        await driver.destroy(uuid, 0)
        assert driver.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.DESTROYED)
        assert driver.by_uuid(uuid).id == -1
        nothing_left(dirs)
    assert heard.lifecycle == [(4, 0), (2, 0), (6, 2), (5, 1)] * 2
    assert descriptors() == before


async def test_suspend_resume_reset_and_what_they_say(driver: QemuDriver, heard: Recorder, xml: Xml) -> None:
    uuid = (await driver.create(xml(), CreateFlags.PAUSED, None)).uuid
    assert driver.state(uuid) == (DomainState.PAUSED, 1)
    await driver.resume(uuid)
    assert driver.state(uuid) == (DomainState.RUNNING, 5)
    with pytest.raises(OperationInvalid, match="already running"):
        await driver.resume(uuid)
    await driver.suspend(uuid)
    await driver.suspend(uuid)
    assert driver.state(uuid) == (DomainState.PAUSED, 1)
    await driver.resume(uuid)
    await driver.reset(uuid, 0)
    # A QEMU that is told to end before it has come to its reset does without.
    await until(lambda: EventId.REBOOT in [each.id for each in heard.events])
    await driver.destroy(uuid, 0)
    assert heard.lifecycle == [(2, 0), (3, 0), (4, 0), (3, 0), (4, 0), (6, 2), (5, 1)]


async def test_a_transient_guest_is_gone_when_it_stops(driver: QemuDriver, xml: Xml) -> None:
    ref = await driver.create(xml(), 0, None)
    assert not driver.is_persistent(ref.uuid)
    assert "/dev/pts/" in driver.xml(ref.uuid, 0)
    assert "/dev/pts/" not in driver.xml(ref.uuid, 2)
    with pytest.raises(OperationInvalid, match="already active"):
        await driver.create(xml(), 0, None)
    await driver.destroy(ref.uuid, 0)
    with pytest.raises(NoDomain):
        driver.by_uuid(ref.uuid)


async def test_defining_and_undefining_a_running_guest(driver: QemuDriver, xml: Xml, dirs: Dirs) -> None:
    uuid = (await driver.create(xml(), 0, None)).uuid
    await driver.define(xml(extra="<description>next time</description>"), 0)
    assert driver.is_persistent(uuid)
    assert driver.is_updated(uuid)
    assert "next time" not in driver.xml(uuid, 0)
    assert "next time" in driver.xml(uuid, 2)
    await driver.undefine(uuid, 0)
    assert driver.is_active(uuid)
    await driver.destroy(uuid, 0)
    assert driver.domains(ListDomainsFlags(0)) == []
    nothing_left(dirs)


async def test_a_guest_whose_qemu_is_killed_has_crashed(
    driver: QemuDriver, heard: Recorder, xml: Xml, dirs: Dirs
) -> None:
    uuid = (await driver.define(xml(devices=passt(free_ports(1))), 0)).uuid
    await driver.start(uuid, 0, None)
    guest = driver._context.guests.find(uuid)
    heard.events.clear()
    os.kill(int(str(driver.details(uuid)["pid"])), signal.SIGKILL)
    async with asyncio.timeout(30):
        await guest.stopped.wait()
    assert driver.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.CRASHED)
    assert heard.lifecycle == [(5, 5)]
    nothing_left(dirs)


async def test_qemu_ended_by_a_stranger_has_shut_down(driver: QemuDriver, heard: Recorder, xml: Xml) -> None:
    uuid = (await driver.define(xml(), 0)).uuid
    await driver.start(uuid, 0, None)
    heard.events.clear()
    os.kill(int(str(driver.details(uuid)["pid"])), signal.SIGTERM)
    async with asyncio.timeout(30):
        await driver._context.guests.find(uuid).stopped.wait()
    assert heard.lifecycle == [(6, 2), (5, 0)]


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_a_taken_port_is_named_before_anything_starts(
    driver: QemuDriver, heard: Recorder, xml: Xml, dirs: Dirs, taken: int
) -> None:
    port = free_ports(3)
    uuid = (await driver.define(xml(devices=passt(port, port + 2)), 0)).uuid
    heard.events.clear()
    with socket.create_server(("127.0.0.1", port + taken)):
        with pytest.raises(BadConfig, match=rf"TCP port {port + taken} on 127.0.0.1 is taken by .*line [0-9]+"):
            await driver.start(uuid, 0, None)
        assert heard.events == []
        nothing_left(dirs)
    await driver.start(uuid, 0, None)
    await driver.destroy(uuid, 0)


async def test_qemu_that_refuses_its_command_line_says_why(driver: QemuDriver, xml: Xml, dirs: Dirs) -> None:
    bad = xml(devices=passt(free_ports(1))).replace(
        "<domain type='qemu'>", "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
    )
    bad = bad.replace("</domain>", "<qemu:commandline><qemu:arg value='-nonsense'/></qemu:commandline></domain>")
    uuid = (await driver.define(bad, 0)).uuid
    with pytest.raises(InternalError, match=r"process exited while connecting to monitor: .*-nonsense") as caught:
        await driver.start(uuid, 0, None)
    assert caught.value.code == ErrorCode.INTERNAL_ERROR
    assert driver.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.FAILED)
    nothing_left(dirs)


async def test_a_killed_helper_is_replaced(driver: QemuDriver, heard: Recorder, xml: Xml) -> None:
    port = free_ports(1)
    uuid = (await driver.define(xml(devices=passt(port)), 0)).uuid
    await driver.start(uuid, 0, None)
    pid = await helper_pid(driver, uuid)
    for number in range(3):
        os.kill(pid, signal.SIGKILL)
        pid = await helper_pid(driver, uuid, other_than=pid)
        await until(lambda: heard.helpers.count("restarted") > number)  # noqa: B023
        assert listens(port)
    assert heard.helpers == ["lost", "restarted"] * 3
    await driver.destroy(uuid, 0)


async def test_a_helper_that_cannot_stay_is_given_up_and_tried_again_at_resume(
    driver: QemuDriver, heard: Recorder, xml: Xml, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One that outlives its signal by a second, on a machine that stands still, has not worked for that long.
    monkeypatch.setattr(helpers, "Budget", partial(Budget, stable=3600.0))
    port = free_ports(1)
    uuid = (await driver.define(xml(devices=passt(port)), 0)).uuid
    await driver.start(uuid, 0, None)
    pid = await helper_pid(driver, uuid)
    for _ in range(6):
        os.kill(pid, signal.SIGSEGV)
        await until(lambda: "gave-up" in heard.helpers or helper_of(driver, uuid)["pid"] not in (None, pid))  # noqa: B023
        pid = helper_of(driver, uuid)["pid"]
    helper = helper_of(driver, uuid)
    assert helper["condition"] == "gave up"
    assert helper["restarts"] == 5
    await driver.suspend(uuid)
    await driver.resume(uuid)
    await helper_pid(driver, uuid)
    await driver.destroy(uuid, 0)


async def test_a_guest_and_its_helper_outlive_the_daemon(opener: Open, xml: Xml, dirs: Dirs) -> None:
    first = await opener()
    port = free_ports(1)
    uuid = (await first.define(xml(devices=passt(port)), 0)).uuid
    ref = await first.start(uuid, 0, None)
    text, pid, helper = first.xml(uuid, 0), first.details(uuid)["pid"], await helper_pid(first, uuid)
    await first.close()
    second = await opener()
    assert second.by_uuid(uuid) == ref
    assert second.state(uuid) == (DomainState.RUNNING, 1)
    assert second.xml(uuid, 0) == text
    assert second.details(uuid)["pid"] == pid
    assert await helper_pid(second, uuid) == helper
    other = await second.create(xml("two", 2), 0, None)
    assert other.id > ref.id
    await second.destroy(other.uuid, 0)
    await second.destroy(uuid, 0)
    nothing_left(dirs)


async def test_a_helper_that_died_without_a_daemon_is_replaced_by_the_next(opener: Open, xml: Xml, dirs: Dirs) -> None:
    first = await opener()
    port = free_ports(1)
    uuid = (await first.define(xml(devices=passt(port)), 0)).uuid
    await first.start(uuid, 0, None)
    pid = await helper_pid(first, uuid)
    await first.close()
    os.kill(pid, signal.SIGKILL)
    second = await opener()
    await helper_pid(second, uuid, other_than=pid)
    await until(lambda: listens(port))
    await second.destroy(uuid, 0)
    nothing_left(dirs)


async def test_a_guest_that_died_without_a_daemon_is_reported_and_cleaned_up(
    opener: Open, xml: Xml, dirs: Dirs
) -> None:
    first = await opener()
    uuid = (await first.define(xml(devices=passt(free_ports(1))), 0)).uuid
    await first.start(uuid, 0, None)
    pid = int(str(first.details(uuid)["pid"]))
    await first.close()
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)  # noqa: ASYNC222
    second = await opener()
    assert second.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.CRASHED)
    nothing_left(dirs)
    await second.start(uuid, 0, None)
    await second.destroy(uuid, 0)


async def test_a_console_has_one_user_unless_it_is_taken(driver: QemuDriver, xml: Xml) -> None:
    uuid = (await driver.create(xml(), 0, None)).uuid
    first = await driver.open_console(uuid, None, 0)
    taken: list[bool] = []
    first.on_taken(lambda: taken.append(True))
    with pytest.raises(OperationFailed, match="Active console session exists for this domain"):
        await driver.open_console(uuid, "serial0", 0)
    second = await driver.open_console(uuid, "serial0", 1)
    assert taken == [True]
    assert not os.get_blocking(second.fileno())
    first.close()
    second.close()
    (await driver.open_console(uuid, None, 0)).close()
    with pytest.raises(VirletError, match="cannot find character device nope"):
        await driver.open_console(uuid, "nope", 0)
    await driver.destroy(uuid, 0)


async def test_a_guest_of_a_connection_that_ends_is_destroyed(driver: QemuDriver, xml: Xml) -> None:
    owner, other = object(), object()
    ref = await driver.create(xml(), CreateFlags.AUTODESTROY, owner)
    await driver.owner_gone(other)
    assert driver.is_active(ref.uuid)
    await driver.owner_gone(owner)
    assert driver.domains(ListDomainsFlags(0)) == []


async def test_autostart_guests_come_up_with_the_daemon(opener: Open, xml: Xml) -> None:
    first = await opener()
    uuid = (await first.define(xml(), 0)).uuid
    await first.set_autostart(uuid, True)
    await first.close()
    second = await opener()
    await until(lambda: second.is_active(uuid))
    await second.destroy(uuid, 0)


async def marked(opener: Open, xml: Xml) -> list[UUID]:
    """Three guests that are to come up with the next daemon."""
    driver = await opener()
    uuids = [(await driver.define(xml(f"guest{number}", number), 0)).uuid for number in range(3)]
    for uuid in uuids:
        await driver.set_autostart(uuid, True)
    await driver.close()
    return uuids


async def test_an_autostart_without_a_process_is_told_of_every_guest(
    opener: Open, xml: Xml, no_process: Callable[[], AbstractContextManager[None]]
) -> None:
    uuids = await marked(opener, xml)
    worker.cache_clear()  # A daemon has no thread yet.
    with no_process():
        driver = await opener()
        told = driver._context.status.problems
        await until(lambda: len(told) == 3)
    for number, sentence in enumerate(sorted(told)):
        assert re.match(
            f"autostart of 'guest{number}' failed: cannot run .*: Resource temporarily unavailable", sentence
        )
    for uuid in uuids:
        await driver.start(uuid, 0, None)
        await driver.destroy(uuid, 0)


class Faulty(QemuDriver):
    """One with a bug, for the guest that it starts first."""

    starts = 0

    async def start(self, uuid: UUID, flags: int, owner: object) -> DomainRef:
        self.starts += 1
        if self.starts == 1:
            raise ZeroDivisionError
        return await super().start(uuid, flags, owner)


async def test_a_bug_in_one_autostart_is_told_and_keeps_no_other_from_its_own(opener: Open, xml: Xml) -> None:
    uuids = await marked(opener, xml)
    driver = await opener()
    await until(lambda: all(map(driver.is_active, uuids)))
    for uuid in uuids:
        await driver.destroy(uuid, 0)
    await autostart(Faulty(driver._context), driver._context)
    assert sum(map(driver.is_active, uuids)) == 2
    (told,) = driver._context.status.problems
    assert re.fullmatch("autostart of 'guest.' failed: bug in virlet, please report: ZeroDivisionError.*", told)
    for uuid in filter(driver.is_active, uuids):
        await driver.destroy(uuid, 0)


def everything_of(dirs: Dirs) -> dict[Path, tuple[int, int, int]]:
    """Every file, its inode, size and when it was written."""
    roots = (dirs.state, dirs.runtime)
    looks = [(path, path.lstat()) for root in roots for path in root.rglob("*") if not path.is_dir()]
    return {path: (found.st_ino, found.st_size, found.st_mtime_ns) for path, found in looks}


async def test_a_start_that_is_refused_since_a_qemu_runs_touches_nothing_of_its_guest(
    opener: Open, xml: Xml, dirs: Dirs
) -> None:
    first = await opener()
    nic = "<interface type='user'><backend type='passt'/></interface>"  # No port of its own that would be in the way.
    uuid = (await first.define(xml(devices=nic), 0)).uuid
    await first.start(uuid, CreateFlags.PAUSED, None)  # Else its firmware asks the network, and passt logs what.
    await first.close()
    (status,) = dirs.state.glob("*/*/*.json")
    whole = status.read_bytes()
    log = dirs.state / "log" / str(uuid) / "qemu.log"
    with log.open("ab") as much:
        much.write(b"x" * (MAX_LOG + 1))
    # Its daemon cannot make sense of it and lets it be.
    status.write_bytes(whole.replace(b"<domain ", b"<nonsense ").replace(b"</domain>", b"</nonsense>"))
    before = everything_of(dirs)
    second = await opener()
    assert not second.is_active(uuid)
    with pytest.raises(OperationInvalid, match="a QEMU of 'one' runs already, although it is not known"):
        await second.start(uuid, 0, None)
    assert everything_of(dirs) == before
    await second.close()
    status.write_bytes(whole)
    third = await opener()
    assert third.is_active(uuid)
    await third.resume(uuid)
    await third.destroy(uuid, 0)
    assert not children(dirs)


async def test_a_start_waits_a_moment_for_a_qemu_that_is_about_to_be_gone(
    driver: QemuDriver, xml: Xml, dirs: Dirs
) -> None:
    uuid = (await driver.define(xml(), 0)).uuid
    log = dirs.state / "log" / str(uuid) / "qemu.log"
    log.parent.mkdir(parents=True)
    leaving = os.open(log, os.O_WRONLY | os.O_CREAT)
    fcntl.flock(leaving, fcntl.LOCK_EX)
    asyncio.get_running_loop().call_later(0.2, os.close, leaving)
    await driver.start(uuid, 0, None)
    await driver.destroy(uuid, 0)
