"""A helper that QEMU dials (vhost-user), on programs that only play: started, lost, found again, taken away."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unclaimed import free_port

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.enums import Affect, DestroyFlags, ErrorCode
from virlet.errors import VirletError
from virlet.model.domain import parse_domain
from virlet.plan.facts import Facts
from virlet.proc.identity import identify

Recorder = Any
Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

SHARED = "<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
MAC = "52:54:00:00:00:09"


def nic(port: int, mac: str = MAC) -> str:
    return (
        f"<interface type='vhostuser'><mac address='{mac}'/><model type='virtio'/><backend type='passt'/>"
        f"<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward></interface>"
    )


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def able(facts: Facts) -> Facts:
    """With a QEMU and a passt that know vhost-user, as the fakes do."""
    (qemu,), passt = facts.qemu.values(), facts.passt
    assert passt is not None
    chardevs = {**qemu.chardevs, "socket": qemu.chardevs["socket"] | {"reconnect-ms"}}
    later = replace(qemu, chardevs=chardevs, events=qemu.events | {"NETDEV_VHOST_USER_CONNECTED"})
    return replace(facts, qemu={later.path: later}, passt=replace(passt, options=passt.options | {"vhost-user", "fd"}))


class Stand:
    """A running guest on the fakes."""

    def __init__(self, driver: QemuDriver, uuid: Any, recorder: Recorder) -> None:
        self.driver, self.uuid, self.recorder = driver, uuid, recorder

    def helper(self, number: int = 0) -> dict[str, Any]:
        found: dict[str, Any] = self.driver.details(self.uuid)["helpers"][number]  # type: ignore[index]
        return found

    async def kill(self) -> int:
        """Kill the helper and wait until its end is known."""
        pid = int(self.helper()["pid"])
        os.kill(pid, signal.SIGKILL)
        await until(lambda: "lost" in self.recorder.helpers)
        return pid

    async def again(self, times: int = 1) -> None:
        await until(lambda: self.recorder.helpers.count("restarted") == times)


Up = Callable[..., Awaitable[Stand]]


@pytest.fixture
def up(opener: Open, faking: Faking, recorder: Recorder, xml: Xml) -> Up:
    async def made(devices: str = "", **behaviour: Any) -> Stand:
        driver = await opener(able(faking(**behaviour)))
        driver.subscribe(recorder)
        uuid = (await driver.define(xml(devices=devices, extra=SHARED), 0)).uuid
        await driver.start(uuid, 0, None)
        return Stand(driver, uuid, recorder)

    return made


def sockets(dirs: Dirs) -> list[Path]:
    return list(dirs.runtime.rglob("*.vhost"))


async def test_qemu_has_dialled_and_nobody_listens_any_more(up: Up, dirs: Dirs) -> None:
    stand = await up(nic(port := free_port()))
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        assert stream.recv(100)
    assert stand.helper()["condition"] == "running"
    assert sockets(dirs) == []
    await stand.driver.destroy(stand.uuid, 0)
    assert list(dirs.runtime.rglob("*")) == []


async def test_a_lost_one_is_replaced_and_told(up: Up, dirs: Dirs) -> None:
    stand = await up(nic(free_port()))
    for times in (1, 2, 3):
        stand.recorder.events.clear()
        pid = await stand.kill()
        await stand.again()
        assert stand.recorder.helpers == ["lost", "restarted"]
        assert (stand.helper()["pid"] != pid, stand.helper()["restarts"]) == (True, times)
    assert sockets(dirs) == []


async def test_one_that_is_lost_under_a_paused_guest_waits_for_it(up: Up, dirs: Dirs) -> None:
    stand = await up(nic(free_port()))
    await stand.driver.suspend(stand.uuid)
    await stand.kill()
    await until(lambda: stand.helper()["condition"] == "waiting for the guest")
    assert sockets(dirs) == []
    await stand.driver.resume(stand.uuid)
    await stand.again()


async def test_a_guest_that_ends_meanwhile_leaves_nothing(up: Up, dirs: Dirs) -> None:
    stand = await up(nic(free_port()))
    qemu: Any = stand.driver.details(stand.uuid)["pid"]
    os.kill(qemu, signal.SIGSTOP)
    await stand.kill()
    await until(lambda: sockets(dirs))
    os.kill(qemu, signal.SIGKILL)
    await until(lambda: not stand.driver.is_active(stand.uuid))
    assert list(dirs.runtime.rglob("*")) == []


async def test_the_next_daemon_replaces_what_died_while_there_was_none(
    up: Up, opener: Open, faking: Faking, recorder: Recorder
) -> None:
    stand = await up(nic(free_port()))
    pid = int(stand.helper()["pid"])
    await stand.driver.close()
    os.kill(pid, signal.SIGKILL)
    await until(lambda: identify(pid) is None)
    recorder.events.clear()
    later = await opener(able(faking()))
    later.subscribe(recorder)
    stand = Stand(later, stand.uuid, recorder)
    await until(lambda: stand.helper()["condition"] == "running")
    recorder.events.clear()
    await stand.kill()
    await stand.again()


async def test_the_next_daemon_goes_on_with_making_the_guest_speak(
    up: Up, opener: Open, faking: Faking, dirs: Dirs
) -> None:
    says = {"links": "say"}
    stand = await up(nic(free_port()), qemu=says)
    (log,) = dirs.state.rglob("qemu.log")
    await stand.kill()
    await stand.again()
    await stand.driver.close()
    (record,) = dirs.state.rglob("*.json")
    (helper,) = json.loads(record.read_text())["helpers"]
    assert helper["coaxes"] > 0
    out = log.read_text().count("net0: down")
    later = await opener(able(faking(qemu=says)))
    await until(lambda: log.read_text().count("net0: down") > out)
    (said,) = dirs.state.rglob("net0*.log")
    with said.open("a") as spoken:
        spoken.write("New guest MAC address observed: 52:54:00:12:34:56\n")
    await until(lambda: json.loads(record.read_text())["helpers"][0]["coaxes"] is None)
    assert log.read_text().rstrip().endswith("net0: up")
    await later.destroy(stand.uuid, 0)


async def test_a_daemon_that_has_a_descriptor_to_listen_and_none_to_accept_tries_until_it_has(
    up: Up, no_descriptor: Callable[[], AbstractContextManager[None]]
) -> None:
    stand = await up(nic(free_port()))
    with no_descriptor():  # But for that of the process which ends.
        os.kill(int(stand.helper()["pid"]), signal.SIGKILL)
        await until(lambda: stand.recorder.helpers == ["lost", "lost"])
        assert "cannot accept a connection at" in stand.recorder.events[-1].message
        await asyncio.sleep(0.3)  # For some attempts more, of which nothing is told.
    await stand.again()
    assert stand.recorder.helpers == ["lost", "lost", "restarted"]


async def test_a_crash_loop_ends_with_the_link_down_and_a_resume_tries_again(
    up: Up, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = await up(nic(free_port()))
    monkeypatch.setenv("VIRLET_FAKE_PASST", '{"refuse": "no more"}')
    await stand.kill()
    await until(lambda: "gave-up" in stand.recorder.helpers)
    assert stand.helper()["condition"] == "gave up"
    monkeypatch.delenv("VIRLET_FAKE_PASST")
    await stand.driver.suspend(stand.uuid)
    await stand.driver.resume(stand.uuid)
    await until(lambda: stand.helper()["condition"] == "running")


async def test_it_comes_and_goes_with_an_interface(up: Up, dirs: Dirs) -> None:
    stand, port = await up(), free_port()
    for _ in range(2):
        await stand.driver.attach(stand.uuid, nic(port), Affect.LIVE)
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            assert stream.recv(100)
        pid = int(stand.helper()["pid"])
        await stand.driver.detach(stand.uuid, nic(port), Affect.LIVE)
        await until(lambda: not stand.driver.details(stand.uuid)["helpers"])
        assert identify(pid) is None
    assert sockets(dirs) == []


@pytest.mark.parametrize("command", ["chardev-add", "netdev_add", "device_add"])
async def test_an_attachment_that_qemu_refuses_leaves_nothing(up: Up, dirs: Dirs, command: str) -> None:
    stand, port = await up(qemu={"fail": {command: "not today"}}), free_port()
    with pytest.raises(VirletError, match="not today"):
        await stand.driver.attach(stand.uuid, nic(port), Affect.LIVE)
    assert stand.driver.details(stand.uuid)["helpers"] == []
    assert sockets(dirs) == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), 5)
    (left,) = dirs.state.rglob("*.json")
    assert '"attaching":[]' in left.read_text().replace(" ", "")


async def test_a_passt_that_refuses_ends_the_start_and_the_attachment_with_its_words(
    up: Up, opener: Open, faking: Faking, xml: Xml, dirs: Dirs, monkeypatch: pytest.MonkeyPatch
) -> None:
    stand = await up()
    monkeypatch.setenv("VIRLET_FAKE_PASST", '{"refuse": "no such luck"}')
    with pytest.raises(VirletError, match="no such luck") as caught:
        await stand.driver.attach(stand.uuid, nic(free_port()), Affect.LIVE)
    assert caught.value.code == ErrorCode.INTERNAL_ERROR
    other = (await stand.driver.define(xml("two", 2, devices=nic(free_port()), extra=SHARED), 0)).uuid
    with pytest.raises(VirletError, match="no such luck"):
        await stand.driver.start(other, 0, None)
    await stand.driver.destroy(stand.uuid, DestroyFlags(0))
    assert list(dirs.runtime.rglob("*")) == []


async def test_a_qemu_that_ends_before_it_dials_is_told_with_its_words(
    opener: Open, faking: Faking, xml: Xml, dirs: Dirs
) -> None:
    driver = await opener(able(faking(qemu={"refuse": "cannot set up guest memory"})))
    uuid = (await driver.define(xml(devices=nic(free_port()), extra=SHARED), 0)).uuid
    with pytest.raises(VirletError, match="cannot set up guest memory"):
        await driver.start(uuid, 0, None)
    assert list(dirs.runtime.rglob("*")) == []


async def test_the_live_xml_is_that_of_the_definition(up: Up) -> None:
    stand = await up(nic(free_port()))
    (card,) = parse_domain(stand.driver.xml(stand.uuid, 0), live=True)[0].devices.interfaces
    assert (card.type, card.wants_passt, card.alias) == ("vhostuser", True, "net0")


async def test_each_of_several_gets_its_own_connection(up: Up, dirs: Dirs) -> None:
    ports = [free_port() for _ in range(3)]
    stand = await up("".join(nic(port, f"52:54:00:00:01:0{n}") for n, port in enumerate(ports)))
    assert [stand.helper(n)["condition"] for n in range(3)] == ["running"] * 3
    for port in ports:
        with socket.create_connection(("127.0.0.1", port), 5) as stream:
            assert str(port).encode() in stream.recv(100)
    assert sockets(dirs) == []
