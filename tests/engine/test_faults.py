"""Everything that can go wrong, with programs that do it on request: our fake QEMU and our fake passt."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from unclaimed import free_port

from virlet.engine import ending
from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.enums import DestroyFlags, DomainState, ErrorCode, EventId, ShutoffReason
from virlet.errors import InternalError, OperationInvalid, SystemFailure, VirletError
from virlet.plan.facts import Facts
from virlet.proc.identity import alive

Recorder = Any
Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

NIC = """<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/>
<backend type='passt' logFile='{log}'/>
<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"""


@pytest.fixture
def nic(tmp_path: Path) -> str:
    return NIC.format(port=free_port(), log=tmp_path / "passt.log")


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def listen_to(driver: QemuDriver, recorder: Recorder) -> Recorder:
    driver.subscribe(recorder)
    return recorder


def ours(tmp_path: Path) -> list[int]:
    """Processes of the fake programs of this test."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            line = (each / "cmdline").read_bytes()
            dead = (each / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (OSError, ProcessLookupError):
            continue
        if os.fsencode(tmp_path) in line and not dead:
            found.append(int(each.name))
    return [pid for pid in found if pid != os.getpid()]


async def nothing_left(dirs: Dirs, tmp_path: Path) -> None:
    await until(lambda: not ours(tmp_path))
    assert list(dirs.runtime.rglob("*")) == []
    assert list(dirs.state.rglob("*.json")) == []


async def test_ten_lives_leave_neither_process_nor_descriptor_nor_file(
    opener: Open, faking: Faking, xml: Xml, nic: str, dirs: Dirs, tmp_path: Path
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    counts = []
    for _ in range(10):
        await driver.start(uuid, 0, None)
        await driver.suspend(uuid)
        await driver.resume(uuid)
        await driver.destroy(uuid, 0)
        await nothing_left(dirs, tmp_path)
        counts.append(len(os.listdir("/proc/self/fd")))
    assert counts[1:] == counts[1:2] * 9


async def test_a_guest_that_powers_off_has_shut_down(
    opener: Open, faking: Faking, recorder: Recorder, xml: Xml, nic: str, dirs: Dirs, tmp_path: Path
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    await driver.start(uuid, 0, None)
    listen_to(driver, recorder)
    await driver.shutdown(uuid, 0)
    await until(lambda: not driver.is_active(uuid))
    assert driver.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.SHUTDOWN)
    assert recorder.lifecycle == [(6, 1), (5, 0)]
    await nothing_left(dirs, tmp_path)


async def test_on_poweroff_restart_resets_it_in_the_same_qemu(
    opener: Open, faking: Faking, recorder: Recorder, xml: Xml
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(extra="<on_poweroff>restart</on_poweroff>"), 0)).uuid
    await driver.start(uuid, 0, None)
    pid = driver.details(uuid)["pid"]
    listen_to(driver, recorder)
    await driver.shutdown(uuid, 0)
    await until(lambda: recorder.lifecycle)
    assert recorder.lifecycle == [(4, 0)]
    assert EventId.REBOOT in [event.id for event in recorder.events]
    assert (driver.state(uuid)[0], driver.details(uuid)["pid"]) == (DomainState.RUNNING, pid)
    await driver.destroy(uuid, 0)


async def test_a_reboot_is_a_power_off_and_a_reset(opener: Open, faking: Faking, recorder: Recorder, xml: Xml) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(), 0)).uuid
    await driver.start(uuid, 0, None)
    listen_to(driver, recorder)
    await driver.reboot(uuid, 0)
    await until(lambda: recorder.lifecycle)
    assert recorder.lifecycle == [(4, 0)]
    assert driver.state(uuid) == (DomainState.RUNNING, 1)
    await driver.shutdown(uuid, 0)
    await until(lambda: not driver.is_active(uuid))
    assert recorder.lifecycle[1:] == [(6, 1), (5, 0)]


async def test_a_shutdown_that_the_guest_ignores_changes_nothing(
    opener: Open, faking: Faking, recorder: Recorder, xml: Xml
) -> None:
    driver = await opener(faking(qemu={"powerdown": "ignore"}))
    uuid = (await driver.define(xml(), 0)).uuid
    await driver.start(uuid, 0, None)
    listen_to(driver, recorder)
    await driver.shutdown(uuid, 0)
    assert driver.is_active(uuid)
    assert recorder.events == []
    await driver.destroy(uuid, 0)


@pytest.mark.parametrize(
    ("qemu", "passt", "said"),
    [
        ({"refuse": "no such board"}, {}, "process exited while connecting to monitor: .*no such board"),
        ({"fail": {"cont": "not today"}}, {}, "unable to execute QEMU command 'cont': not today"),
        ({"fail": {"query-chardev": "no"}}, {}, "unable to execute QEMU command 'query-chardev': no"),
        ({}, {"refuse": "no user namespace"}, "Child process .passt of 'one'. unexpected exit status 1: .*namespace"),
    ],
)
async def test_a_start_that_fails_says_why_and_leaves_nothing(
    opener: Open,
    faking: Faking,
    recorder: Recorder,
    xml: Xml,
    nic: str,
    dirs: Dirs,
    tmp_path: Path,
    qemu: dict[str, object],
    passt: dict[str, object],
    said: str,
) -> None:
    driver = await opener(faking(qemu=qemu, passt=passt))
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    listen_to(driver, recorder)
    for _ in range(2):
        with pytest.raises(InternalError, match=said) as caught:
            await driver.start(uuid, 0, None)
        assert caught.value.code == ErrorCode.INTERNAL_ERROR
        assert driver.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.FAILED)
        await nothing_left(dirs, tmp_path)
    assert recorder.events == []


async def test_a_qemu_that_ends_is_told_with_its_words_however_long_it_takes_after_its_helper(
    opener: Open, faking: Faking, xml: Xml, nic: str, dirs: Dirs, tmp_path: Path
) -> None:
    facts = faking()
    Path(next(iter(facts.qemu))).write_text(
        f"#!{sys.executable} -IS\nimport os, sys, time\n"
        "print('no such board', file=sys.stderr, flush=True)\nos.closerange(3, 1000)\ntime.sleep(0.5)\nsys.exit(1)\n"
    )
    driver = await opener(facts)
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    with pytest.raises(InternalError, match=r"process exited while connecting to monitor: .*no such board"):
        await driver.start(uuid, 0, None)
    await nothing_left(dirs, tmp_path)


@pytest.mark.parametrize("garbage", [b"", b"hello\r\n", b"{}\r\n", b'{"QMP": 3}\r\n', b"\xff" * 100000, b"[" * 9000])
async def test_a_monitor_that_speaks_no_qmp_is_an_error_of_ours(
    opener: Open, faking: Faking, xml: Xml, dirs: Dirs, tmp_path: Path, garbage: bytes
) -> None:
    facts = faking()
    program = Path(next(iter(facts.qemu)))
    program.write_text(
        f"#!{sys.executable} -IS\nimport re, socket, sys\n"
        "fd = int(re.search(r'id=charmonitor.*?fd=(\\d+)', ' '.join(sys.argv)).group(1))\n"
        f"peer, _ = socket.socket(fileno=fd).accept()\npeer.sendall({garbage!r})\n"
    )
    driver = await opener(facts)
    uuid = (await driver.define(xml(), 0)).uuid
    with pytest.raises(VirletError):
        await driver.start(uuid, 0, None)
    await nothing_left(dirs, tmp_path)


async def test_a_qemu_that_ignores_sigterm_is_killed_but_never_gracefully(
    opener: Open, faking: Faking, recorder: Recorder, xml: Xml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ending, "GRACE", 0.3)
    driver = await opener(faking(qemu={"sigterm": "ignore"}))
    uuid = (await driver.define(xml(), 0)).uuid
    await driver.start(uuid, 0, None)
    listen_to(driver, recorder)
    with pytest.raises(SystemFailure, match=r"Failed to terminate process .* with SIGTERM: Device or resource busy"):
        await driver.destroy(uuid, DestroyFlags.GRACEFUL)
    assert driver.state(uuid)[0] is DomainState.RUNNING
    assert recorder.events == []
    await driver.destroy(uuid, 0)
    assert driver.state(uuid) == (DomainState.SHUTOFF, ShutoffReason.DESTROYED)
    assert recorder.lifecycle == [(6, 2), (5, 1)]


async def test_two_clients_may_destroy_one_guest(opener: Open, faking: Faking, recorder: Recorder, xml: Xml) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(), 0)).uuid
    await driver.start(uuid, 0, None)
    listen_to(driver, recorder)
    await asyncio.gather(driver.destroy(uuid, 0), driver.destroy(uuid, 0))
    assert recorder.lifecycle == [(6, 2), (5, 1)]


async def test_a_destroy_during_a_start_ends_what_was_started(
    opener: Open, faking: Faking, xml: Xml, nic: str, dirs: Dirs, tmp_path: Path
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    starting = asyncio.create_task(driver.start(uuid, 0, None))
    await until(lambda: ours(tmp_path))
    await driver.destroy(uuid, 0)
    await starting
    assert not driver.is_active(uuid)
    await nothing_left(dirs, tmp_path)


async def test_a_cancelled_start_leaves_nothing(
    opener: Open, faking: Faking, xml: Xml, nic: str, dirs: Dirs, tmp_path: Path
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    for delay in (0, 0.001, 0.005, 0.01, 0.02, 0.03):
        starting = asyncio.create_task(driver.start(uuid, 0, None))
        await asyncio.sleep(delay)
        starting.cancel()
        await asyncio.wait({starting})
        if driver.is_active(uuid):
            await driver.destroy(uuid, 0)
        await nothing_left(dirs, tmp_path)


async def said_ready(driver: QemuDriver, uuid: UUID, times: int) -> None:
    """Wait until the log of the one helper has that so often: it listens before it says so."""
    async with asyncio.timeout(30):
        while (await driver.logs(uuid, "net0", 0, 1000))[0].count(b"fake passt is ready") != times:  # noqa: ASYNC110
            await asyncio.sleep(0.002)


async def test_both_witnesses_and_a_restart_are_told(
    opener: Open, faking: Faking, recorder: Recorder, xml: Xml, nic: str
) -> None:
    driver = await opener(faking())
    uuid = (await driver.define(xml(devices=nic), 0)).uuid
    await driver.start(uuid, 0, None)
    listen_to(driver, recorder)
    await said_ready(driver, uuid, 1)
    (helper,) = driver.details(uuid)["helpers"]  # type: ignore[misc]
    os.kill(helper["pid"], signal.SIGKILL)
    await until(lambda: len(recorder.helpers) == 2)
    assert recorder.helpers == ["lost", "restarted"]
    await said_ready(driver, uuid, 2)
    (helper,) = driver.details(uuid)["helpers"]  # type: ignore[misc]
    assert (helper["condition"], helper["restarts"]) == ("running", 1)
    assert [port["state"] for port in driver.ports(uuid)] == ["running"]
    await driver.destroy(uuid, 0)


DIES = """
import asyncio, os, signal, sys
from pathlib import Path
from virlet.engine import launch
from virlet.engine.context import Dirs
from virlet.engine.session import open_driver
from virlet.engine.facts import gather
from virlet.engine.probe.cache import Cache
from dataclasses import replace

root, emulator, helper, point, xml = sys.argv[1:]
method = getattr(launch.Launch, point)
if asyncio.iscoroutinefunction(method):
    async def dying(*arguments, **named):
        await method(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
else:
    def dying(*arguments, **named):
        method(*arguments, **named)
        os.kill(os.getpid(), signal.SIGKILL)
setattr(launch.Launch, point, dying)

async def main():
    base = Path(root)
    facts = await gather(Cache(base / "h"))
    facts = replace(facts, host=replace(facts.host, machine_id="0123456789abcdef0123456789abcdef"),
                    qemu={emulator: replace(facts.emulator("x86_64"), path=emulator)},
                    passt=replace(facts.passt, path=helper))
    driver = await open_driver("/session", Dirs(base / "c", base / "s", base / "h", base / "r"), facts)
    ref = await driver.define(xml, 0)
    await driver.start(ref.uuid, 0, None)

asyncio.run(main())
"""


@pytest.mark.parametrize("point", ["_prepare", "_qemu", "_helper", "_negotiate", "_talk", "_run"])
async def test_a_daemon_killed_in_the_middle_of_a_start_leaves_nothing_to_the_next(
    opener: Open, faking: Faking, xml: Xml, nic: str, dirs: Dirs, tmp_path: Path, point: str
) -> None:
    facts = faking()
    assert facts.passt is not None
    script = tmp_path / "dies.py"
    script.write_text(DIES)
    words = [str(dirs.runtime.parent), next(iter(facts.qemu)), facts.passt.path, point, xml(devices=nic)]
    child = await asyncio.create_subprocess_exec(sys.executable, str(script), *words)
    assert await child.wait() == -signal.SIGKILL
    driver = await opener(facts)
    uuid = driver.by_name("one").uuid
    assert driver.state(uuid)[0] is DomainState.SHUTOFF
    await nothing_left(dirs, tmp_path)
    await driver.start(uuid, 0, None)
    await driver.destroy(uuid, 0)


@pytest.mark.parametrize("damage", ["", "{", "null", "[[[[", '{"$":"Record"}', None])
async def test_a_damaged_status_file_is_moved_aside_and_harms_nobody(
    opener: Open, faking: Faking, xml: Xml, dirs: Dirs, damage: str | None
) -> None:
    facts = faking()
    first = await opener(facts)
    one = (await first.define(xml("one", 1), 0)).uuid
    two = (await first.define(xml("two", 2), 0)).uuid
    await first.start(one, 0, None)
    await first.start(two, 0, None)
    lost = first._context.guests.find(one).running().process.identity
    await first.close()
    (path,) = dirs.state.rglob(f"{one}.json")
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2] if damage is None else damage)
    second = await opener(facts)
    assert second.is_active(two)
    assert not second.is_active(one)
    assert str(one) in str((await second.doctor())["problems"])
    await second.destroy(two, 0)
    assert alive(lost)
    # A second QEMU on the same disks would destroy them.
    with pytest.raises(OperationInvalid, match="runs already"):
        await second.start(one, 0, None)
    os.kill(lost.pid, signal.SIGKILL)
