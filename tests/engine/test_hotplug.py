"""Interfaces that come and go while the guest runs, with programs that fail on request."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from unclaimed import free_port

from virlet.engine import unplug
from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.enums import Affect, ErrorCode, EventId, XmlFlags
from virlet.errors import VirletError
from virlet.model.domain import parse_domain
from virlet.model.namespaces import VIRLET
from virlet.plan.facts import Facts

Recorder = Any
Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]
Faking = Callable[..., Facts]

MAC = "52:54:00:00:00:07"
SLIRPLESS = (
    "<interface type='user'><mac address='{mac}'/><model type='virtio'/><backend type='passt'/>"
    "<portForward proto='tcp' address='127.0.0.1'><range start='{port}' to='22'/></portForward>{more}</interface>"
)
BUILT_IN = "<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='slirp'/>"
NAMED = f"<interface type='user'><mac address='{MAC}'/></interface>"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def card(port: int) -> str:
    return SLIRPLESS.format(mac=MAC, port=port, more="")


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def ours(tmp_path: Path, program: str) -> list[int]:
    """Processes of the fake *program* of this test."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            line = (each / "cmdline").read_bytes()
            dead = (each / "stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except (OSError, ProcessLookupError):
            continue
        if os.fsencode(tmp_path / program) in line and not dead:
            found.append(int(each.name))
    return [pid for pid in found if pid != os.getpid()]


def answer(port: int) -> bytes:
    with socket.create_connection(("127.0.0.1", port), 5) as stream:
        return stream.recv(100)


def events(recorder: Recorder, kind: EventId) -> list[str]:
    return [str(each.args["devAlias"]) for each in recorder.events if getattr(each, "id", None) is kind]


def status(dirs: Dirs) -> dict[str, Any]:
    (path,) = dirs.state.rglob("*.json")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


class Stand:
    """A running guest on the fake programs."""

    def __init__(self, driver: QemuDriver, uuid: Any, recorder: Recorder) -> None:
        self.driver, self.uuid, self.recorder = driver, uuid, recorder

    async def attach(self, xml: str, flags: int = Affect.LIVE) -> None:
        await self.driver.attach(self.uuid, xml, flags)

    async def refused(self, code: ErrorCode, call: Awaitable[None]) -> str:
        with pytest.raises(VirletError) as caught:
            await call
        assert caught.value.code == code, caught.value
        return str(caught.value)

    @property
    def live(self) -> str:
        return self.driver.xml(self.uuid, 0)

    @property
    def config(self) -> str:
        return self.driver.xml(self.uuid, XmlFlags.INACTIVE)

    def macs(self, xml: str) -> list[str | None]:
        return [nic.mac for nic in parse_domain(xml, live=True)[0].devices.interfaces]


Up = Callable[..., Awaitable[Stand]]


@pytest.fixture
def up(opener: Open, faking: Faking, recorder: Recorder, xml: Xml) -> Up:
    """``await up(qemu={…}, passt={…}, devices=…)``: a started guest."""

    async def made(*, devices: str = "", transient: bool = False, **behaviour: Any) -> Stand:
        driver = await opener(faking(**behaviour))
        driver.subscribe(recorder)
        if transient:
            uuid = (await driver.create(xml(devices=devices), 0, None)).uuid
        else:
            uuid = (await driver.define(xml(devices=devices), 0)).uuid
            await driver.start(uuid, 0, None)
        recorder.events.clear()
        return Stand(driver, uuid, recorder)

    return made


async def test_an_attached_interface_has_alias_address_helper_and_open_ports(
    up: Up, card: str, port: int, dirs: Dirs, tmp_path: Path
) -> None:
    stand = await up()
    await stand.attach(card)
    (nic,) = parse_domain(stand.live, live=True)[0].devices.interfaces
    assert (nic.alias, nic.mac) == ("net0", MAC)
    assert nic.address is not None
    assert answer(port)
    assert events(stand.recorder, EventId.DEVICE_ADDED) == ["net0"]
    assert stand.macs(stand.config) == []
    assert len(ours(tmp_path, "passt")) == 1
    said = status(dirs)
    assert MAC in said["xml"]
    assert said["attaching"] == []
    assert [each["alias"] for each in said["helpers"]] == ["net0"]


async def test_a_helper_of_an_attached_interface_is_replaced_when_it_dies(
    up: Up, card: str, port: int, tmp_path: Path
) -> None:
    stand = await up()
    await stand.attach(card)
    (pid,) = ours(tmp_path, "passt")
    os.kill(pid, signal.SIGKILL)
    await until(lambda: "restarted" in stand.recorder.helpers)
    assert answer(port)


async def test_a_detached_interface_leaves_nothing(up: Up, card: str, port: int, dirs: Dirs, tmp_path: Path) -> None:
    stand = await up()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        await stand.attach(card)
        await stand.driver.detach(stand.uuid, NAMED, Affect.LIVE)
        assert stand.macs(stand.live) == []
        assert ours(tmp_path, "passt") == []
        assert [path.name for path in dirs.runtime.rglob("*.net")] == []
        with pytest.raises(ConnectionRefusedError):
            answer(port)
    assert events(stand.recorder, EventId.DEVICE_REMOVED) == ["net0"] * 5
    assert stand.recorder.helpers == []
    assert len(os.listdir("/proc/self/fd")) == before


async def test_destroy_removes_what_was_attached(up: Up, card: str, dirs: Dirs, tmp_path: Path) -> None:
    stand = await up()
    await stand.attach(card)
    await stand.driver.destroy(stand.uuid, 0)
    await until(lambda: not ours(tmp_path, "passt") and not ours(tmp_path, "qemu"))
    assert list(dirs.runtime.rglob("*")) == []
    assert list(dirs.state.rglob("*.json")) == []


async def test_a_guest_that_does_not_answer_keeps_its_interface(
    up: Up, card: str, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.05)
    stand = await up(qemu={"unplug": "ignore"})
    await stand.attach(card)
    await stand.driver.detach(stand.uuid, NAMED, Affect.LIVE)
    assert stand.macs(stand.live) == [MAC]
    assert answer(port)


async def test_a_guest_that_answers_late_finishes_the_detachment(
    up: Up, card: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(unplug, "UNPLUG_WAIT", 0.0)
    stand = await up()
    await stand.attach(card)
    await stand.driver.detach(stand.uuid, NAMED, Affect.LIVE)
    await until(lambda: events(stand.recorder, EventId.DEVICE_REMOVED))
    assert stand.macs(stand.live) == []
    assert ours(tmp_path, "passt") == []


async def test_a_guest_that_refuses_keeps_its_interface_and_the_call_says_so(up: Up, card: str) -> None:
    stand = await up(qemu={"unplug": "refuse"})
    await stand.attach(card)
    await stand.refused(ErrorCode.OPERATION_FAILED, stand.driver.detach(stand.uuid, NAMED, Affect.LIVE))
    assert events(stand.recorder, EventId.DEVICE_REMOVAL_FAILED) == ["net0"]
    assert stand.macs(stand.live) == [MAC]


@pytest.mark.parametrize("command", ["netdev_add", "device_add"])
async def test_what_qemu_refuses_is_undone(
    up: Up, card: str, port: int, dirs: Dirs, tmp_path: Path, command: str
) -> None:
    stand = await up(qemu={"fail": {command: "not in this house"}})
    before = len(os.listdir("/proc/self/fd"))
    said = await stand.refused(ErrorCode.INTERNAL_ERROR, stand.attach(card))
    assert f"unable to execute QEMU command '{command}': not in this house" in said
    assert stand.macs(stand.live) == []
    assert ours(tmp_path, "passt") == []
    assert [path.name for path in dirs.runtime.rglob("*.net")] == []
    assert status(dirs)["attaching"] == []
    assert status(dirs)["helpers"] == []
    assert len(os.listdir("/proc/self/fd")) == before
    with pytest.raises(ConnectionRefusedError):
        answer(port)


async def test_a_helper_that_refuses_is_told_in_its_own_words_and_the_next_attempt_works(
    up: Up, card: str, dirs: Dirs
) -> None:
    stand = await up(passt={"refuse": "I would rather not"})
    with pytest.raises(VirletError, match="I would rather not") as caught:
        await stand.attach(card)
    assert " --fd N " in (caught.value.hint or "")
    assert [path.name for path in dirs.runtime.rglob("*.net")] == []
    without_ports = "<interface type='user'><model type='virtio'/><backend type='passt'/></interface>"
    assert "rather not" in await stand.refused(ErrorCode.INTERNAL_ERROR, stand.attach(without_ports))
    await stand.attach(without_ports.replace("<backend type='passt'/>", BUILT_IN))
    assert len(stand.macs(stand.live)) == 1


async def test_a_port_that_is_taken_is_refused_with_its_line(up: Up, card: str, port: int, tmp_path: Path) -> None:
    stand = await up()
    with socket.create_server(("127.0.0.1", port)):
        said = await stand.refused(ErrorCode.OPERATION_FAILED, stand.attach(card))
    assert "line 1" in said
    assert str(port) in said
    assert ours(tmp_path, "passt") == []


async def test_a_port_of_another_interface_is_refused(up: Up, card: str) -> None:
    stand = await up(devices=card)
    await stand.refused(ErrorCode.CONFIG_UNSUPPORTED, stand.attach(card.replace(MAC, "52:54:00:00:00:08")))
    assert stand.macs(stand.live) == [MAC]


async def test_an_address_that_is_taken_is_refused(up: Up, card: str) -> None:
    stand = await up(devices=card)
    (nic,) = parse_domain(stand.live, live=True)[0].devices.interfaces
    slot = f"<address type='pci' bus='0' slot='{nic.address.slot:#x}'/>"  # type: ignore[union-attr]
    second = SLIRPLESS.format(mac="52:54:00:00:00:08", port=free_port(), more=slot)
    assert "double use of PCI Address" in await stand.refused(ErrorCode.XML_ERROR, stand.attach(second))


async def test_the_same_mac_may_come_twice_and_then_is_ambiguous(up: Up, card: str) -> None:
    stand = await up(devices=card)
    await stand.attach(SLIRPLESS.format(mac=MAC, port=free_port(), more=""))
    assert "multiple devices matching MAC address" in await stand.refused(
        ErrorCode.OPERATION_FAILED, stand.driver.detach(stand.uuid, NAMED, Affect.LIVE)
    )
    named = NAMED.replace("</interface>", "<alias name='net1'/></interface>")
    await stand.driver.detach(stand.uuid, named, Affect.LIVE)
    await stand.driver.detach_alias(stand.uuid, "net0", Affect.LIVE)
    await until(lambda: stand.macs(stand.live) == [])


async def test_what_is_not_there_cannot_be_detached(up: Up) -> None:
    stand = await up()
    said = await stand.refused(ErrorCode.DEVICE_MISSING, stand.driver.detach(stand.uuid, NAMED, Affect.LIVE))
    assert f"no device found at address '(<null>)' matching MAC address '{MAC}' and alias '(<null>)'" in said
    said = await stand.refused(ErrorCode.INTERNAL_ERROR, stand.driver.detach_alias(stand.uuid, "net9", Affect.LIVE))
    assert "no device found with alias net9" in said


async def test_sockets_and_other_devices_are_refused_at_run_time_by_name(up: Up) -> None:
    stand = await up()
    mcast = "<interface type='mcast'><source address='230.0.0.1' port='5558'/></interface>"
    assert "type of mcast" in await stand.refused(ErrorCode.OPERATION_UNSUPPORTED, stand.attach(mcast))
    rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    assert "'rng'" in await stand.refused(ErrorCode.OPERATION_UNSUPPORTED, stand.attach(rng))


async def test_flags_that_cannot_be_are_refused(up: Up, card: str) -> None:
    stand = await up(transient=True)
    said = await stand.refused(ErrorCode.OPERATION_INVALID, stand.attach(card, Affect.CONFIG))
    assert "transient domains do not have any persistent config" in said


async def test_a_stopped_guest_has_no_live_devices(up: Up, card: str) -> None:
    stand = await up()
    await stand.driver.destroy(stand.uuid, 0)
    assert "domain is not running" in await stand.refused(ErrorCode.OPERATION_INVALID, stand.attach(card))
    await stand.attach(card, Affect.CURRENT)
    assert stand.macs(stand.config) == [MAC]


async def test_live_and_config_get_the_same_card(up: Up, port: int) -> None:
    stand = await up()
    await stand.attach(SLIRPLESS.format(mac="00:00:00:00:00:00", port=port, more=""), Affect.LIVE | Affect.CONFIG)
    assert stand.macs(stand.live) == stand.macs(stand.config) != []
    assert stand.recorder.lifecycle == [(0, 1)]
    assert "alias name='net" not in stand.config
    (nic,) = parse_domain(stand.config)[0].devices.interfaces
    assert nic.address is not None
    mac = f"<interface type='user'><mac address='{nic.mac}'/></interface>"
    await stand.driver.detach(stand.uuid, mac, Affect.LIVE | Affect.CONFIG)
    assert stand.macs(stand.live) == stand.macs(stand.config) == []


async def test_definitions_take_and_lose_other_devices(up: Up, dirs: Dirs) -> None:
    stand = await up()
    rng = "<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
    disk = "<disk type='file' device='disk'><source file='/images/x'/><target dev='vdb'/></disk>"
    for xml in (rng, disk):
        await stand.attach(xml, Affect.CONFIG)
    assert "target vdb already exists" in await stand.refused(
        ErrorCode.OPERATION_INVALID, stand.attach(disk, Affect.CONFIG)
    )
    assert "/images/x" in next((dirs.config / "domains").glob("*.xml")).read_text()
    for xml in (rng, disk):
        await stand.driver.detach(stand.uuid, xml, Affect.CONFIG)
        await stand.refused(ErrorCode.DEVICE_MISSING, stand.driver.detach(stand.uuid, xml, Affect.CONFIG))
    assert "vdb" not in stand.config


async def test_the_link_goes_down_and_up(up: Up, card: str) -> None:
    stand = await up(devices=card)
    down = card.replace("</interface>", "<link state='down'/></interface>")
    await stand.driver.update(stand.uuid, down, Affect.LIVE)
    assert "<link state='down'/>" in stand.live
    assert "<link state='down'/>" not in stand.config
    await stand.driver.update(stand.uuid, card, Affect.LIVE)
    assert "<link" not in stand.live


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("<source dev='lo'/>", "source settings"),
        ("<source dev='lo' path='/x'/>", "source/@path"),
        ("<filterref filter='x'/>", "filterref settings"),
        ("<driver queues='4'/>", "driver/@queues"),
        ("<frob/>", "element <frob>"),
        (f"<virlet:frob xmlns:virlet='{VIRLET}'/>", "unknown element 'virlet:frob'"),
        (f"<virlet:backend xmlns:virlet='{VIRLET}' name='passt' nmae='x'/>", "unknown attribute 'nmae'"),
        ("<downscript path='/bin/true'/>", "downscript"),
    ],
)
async def test_what_an_update_would_drop_in_silence_is_refused(up: Up, card: str, more: str, said: str) -> None:
    stand = await up(devices=card)
    wanted = card.replace("</interface>", f"{more}</interface>")
    if "queues" in more:
        wanted = wanted.replace("<model type='virtio'/>", "<model type='e1000'/>")
    code = ErrorCode.CONFIG_UNSUPPORTED if "virlet:" in more else ErrorCode.OPERATION_UNSUPPORTED
    assert said in await stand.refused(code, stand.driver.update(stand.uuid, wanted, Affect.LIVE))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("<filterref filter='x'/>", "<filterref> is not possible"),
        ("<downscript path='/bin/true'/>", "scripts are not supported"),
        ("<guest dev='eth0'/>", "attribute 'dev' is not supported"),
        ("<backenddomain name='x'/>", "attribute 'name' is not supported"),
        ("<tune><sndbuf>1</sndbuf></tune>", "<sndbuf> is not possible"),
        (f"<virlet:frob xmlns:virlet='{VIRLET}'/>", "unknown element 'virlet:frob'"),
    ],
)
async def test_what_an_attached_interface_would_not_have_is_refused_with_its_line(up: Up, more: str, said: str) -> None:
    stand = await up()
    xml = f"<interface type='user'><mac address='{MAC}'/><model type='virtio'/>\n{more}</interface>"
    told = await stand.refused(ErrorCode.CONFIG_UNSUPPORTED, stand.attach(xml))
    assert said in told
    assert "line 2" in told


async def test_other_changes_of_a_running_interface_are_refused_and_of_a_definition_made(up: Up, card: str) -> None:
    stand = await up(devices=card)
    other = card.replace("type='virtio'", "type='e1000'")
    said = await stand.refused(
        ErrorCode.OPERATION_UNSUPPORTED, stand.driver.update(stand.uuid, other, Affect.LIVE | Affect.CONFIG)
    )
    assert "cannot modify network device model from virtio to e1000" in said
    assert "e1000" not in stand.config
    await stand.driver.update(stand.uuid, other, Affect.CONFIG)
    assert "e1000" in stand.config
    assert "e1000" not in stand.live
    assert stand.driver.is_updated(stand.uuid)
    assert stand.recorder.lifecycle == [(0, 1)]


async def test_the_next_daemon_adopts_attached_interfaces(
    up: Up, opener: Open, faking: Faking, card: str, port: int, tmp_path: Path, recorder: Recorder
) -> None:
    stand = await up()
    await stand.attach(card)
    await stand.driver.close()
    (pid,) = ours(tmp_path, "passt")
    second = await opener(faking())
    second.subscribe(recorder)
    assert stand.macs(second.xml(stand.uuid, 0)) == [MAC]
    os.kill(pid, signal.SIGKILL)
    await until(lambda: "restarted" in recorder.helpers)
    assert answer(port)
    await second.detach(stand.uuid, NAMED, Affect.LIVE)
    assert ours(tmp_path, "passt") == []


async def test_an_attachment_that_the_last_daemon_began_is_undone(
    up: Up, opener: Open, faking: Faking, card: str, dirs: Dirs, tmp_path: Path
) -> None:
    stand = await up()
    await stand.attach(card)
    guest = stand.driver._context.guests.find(stand.uuid)
    run = guest.run
    assert run is not None
    half = _half_attached(guest)
    await run.monitor.execute("device_del", {"id": "net0"})
    await stand.driver.close()
    _rewrite(dirs, half)
    second = await opener(faking())
    assert stand.macs(second.xml(stand.uuid, 0)) == []
    assert ours(tmp_path, "passt") == []
    assert [path.name for path in dirs.runtime.rglob("*.net")] == []
    assert status(dirs)["attaching"] == []


async def test_an_attachment_that_the_last_daemon_all_but_finished_is_finished(
    up: Up, opener: Open, faking: Faking, card: str, port: int, dirs: Dirs
) -> None:
    stand = await up()
    await stand.attach(card)
    half = _half_attached(stand.driver._context.guests.find(stand.uuid))
    await stand.driver.close()
    _rewrite(dirs, half)
    second = await opener(faking())
    assert stand.macs(second.xml(stand.uuid, 0)) == [MAC]
    assert answer(port)
    assert status(dirs)["attaching"] == []
    await second.detach(stand.uuid, NAMED, Affect.LIVE)


async def test_a_detachment_that_nobody_saw_is_finished(
    up: Up, opener: Open, faking: Faking, card: str, tmp_path: Path
) -> None:
    stand = await up()
    await stand.attach(card)
    guest = stand.driver._context.guests.find(stand.uuid)
    run, guest.run = guest.run, None
    assert run is not None
    await run.monitor.execute("device_del", {"id": "net0"})
    guest.run = run
    await stand.driver.close()
    second = await opener(faking())
    assert stand.macs(second.xml(stand.uuid, 0)) == []
    assert ours(tmp_path, "passt") == []


def _half_attached(guest: Any) -> Any:
    """The status record as it stands just before the card is known to be there."""
    from virlet.engine.status import Attaching
    from virlet.model.domain import format_device
    from virlet.plan.hotplug import without_interface

    (nic,) = guest.live.devices.interfaces
    record = guest.run.helpers["net0"].record
    attaching = (Attaching("net0", "hostnet0", format_device(nic), record),)
    live = without_interface(guest.live, "net0")
    return attaching, live


def _rewrite(dirs: Dirs, half: Any) -> None:
    from virlet.engine.status import parse_record, print_record
    from virlet.engine.texts import print_xml

    attaching, live = half
    (path,) = dirs.state.rglob("*.json")
    record = parse_record(path.read_bytes())
    xml = print_xml(live, inactive=False, secure=True)
    path.write_bytes(print_record(replace(record, attaching=attaching, xml=xml, helpers=())))
