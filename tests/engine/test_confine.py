"""What a real QEMU of ours can open, and what it cannot: asked of itself, over its monitor."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from virlet.engine import plug
from virlet.engine.confine import Refused, grants_of
from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.engine.guest import Guest
from virlet.engine.inspect import details, explain
from virlet.engine.planned import plan_start
from virlet.engine.probe.host import CONFINE, probe_host
from virlet.enums import Affect, CreateFlags
from virlet.errors import SystemFailure, VirletError
from virlet.model.domain import parse_domain
from virlet.plan.base import LaunchPlan
from virlet.plan.facts import Facts, Support
from virlet.plan.rights import Confinement, Image, Right
from virlet.proc.confine import landlock_version
from virlet.qmp.monitor import QmpError

pytestmark = [
    pytest.mark.skipif(shutil.which("qemu-system-x86_64") is None, reason="needs qemu-system-x86_64"),
    pytest.mark.skipif(os.getuid() == 0, reason="guests do not run as root"),
]
landlocked = pytest.mark.skipif(landlock_version() == 0, reason="this kernel has no landlock")

Xml = Callable[..., str]
Open = Callable[..., Awaitable[QemuDriver]]

DISK = "<disk type='file'><driver type='qcow2'/><source file='{}'/><target dev='vda' bus='virtio'/></disk>"
EVERYTHING = """{disk}
<serial type='file'><source path='{where}/serial.txt'/></serial>
<serial type='pty'><log file='{where}/pty.log'/></serial>
<channel type='unix'><target type='virtio' name='org.one'/></channel>
<graphics type='vnc'><listen type='socket' socket='{where}/vnc.sock'/></graphics>
<interface type='user'/>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<video><model type='virtio'/></video>"""


def qcow2(path: Path, *below: str, data: Path | None = None) -> Path:
    """An image, with ``FORMAT, FILE`` below it, or with its data elsewhere."""
    backing = ("-F", below[0], "-b", below[1], "-u") if below else ("-o", f"data_file={data}") if data else ()
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, str(path), "1M"], check=True)
    return path


async def started(driver: QemuDriver, text: str) -> Guest:
    ref = await driver.create(text, CreateFlags.PAUSED, None)
    return driver._context.guests.find(ref.uuid)


async def opens(guest: Guest, path: Path | str) -> bool:
    """Whether this QEMU can open that file, as its own code or a guest's in its place would."""
    node = {"driver": "file", "filename": str(path), "node-name": "tried", "read-only": True}
    try:
        await guest.execute("blockdev-add", node)
    except QmpError as error:
        if "Permission denied" in str(error):
            return False
        raise
    await guest.execute("blockdev-del", {"node-name": "tried"})
    return True


@landlocked
async def test_a_guest_with_everything_runs_confined_and_opens_nothing_else(
    driver: QemuDriver, xml: Xml, tmp_path: Path
) -> None:
    qcow2(tmp_path / "base.qcow2")
    disk = qcow2(tmp_path / "top.qcow2", "qcow2", "base.qcow2")
    secret = tmp_path / "secret"
    secret.write_text("key")
    guest = await started(driver, xml(devices=EVERYTHING.format(disk=DISK.format(disk), where=tmp_path)))
    assert details(guest)["confined"] == "yes, to its own files"
    assert not await opens(guest, secret)
    assert not await opens(guest, Path("/proc/self/environ"))
    (status,) = guest.context.dirs.state.rglob("*.json")
    assert not await opens(guest, status)
    with pytest.raises(QmpError, match="Permission denied"):
        await guest.execute("screendump", {"filename": str(tmp_path / "made")})
    assert not (tmp_path / "made").exists()
    assert secret.read_text() == "key"
    assert await opens(guest, "/etc/hosts")


@landlocked
async def test_a_backing_file_without_a_recorded_format_is_not_believed(
    driver: QemuDriver, xml: Xml, tmp_path: Path
) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(bytes(1 << 20))
    evil = qcow2(tmp_path / "base", "raw", str(secret))
    disk = qcow2(tmp_path / "top.qcow2", "raw", str(evil))
    # Another type of header extension: now the format of the backing file is not recorded.
    disk.write_bytes(disk.read_bytes().replace(bytes.fromhex("e2792aca"), bytes.fromhex("11111111")))
    with pytest.raises(VirletError, match=r"(?s)secret.*Permission denied.*qemu-img rebase"):
        await started(driver, xml(devices=DISK.format(disk)))


@landlocked
async def test_a_directory_that_was_made_again_is_not_the_one_that_qemu_was_given(
    driver: QemuDriver, xml: Xml, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plug, "STREAM_WAIT", 0.2)
    guest = await started(driver, xml())
    shutil.rmtree(guest.context.guest_dirs(guest.uuid).runtime)
    nic = "<interface type='user'><model type='virtio'/><backend type='passt'/></interface>"
    with pytest.raises(VirletError, match="a confined QEMU makes and dials sockets only where"):
        await driver.attach(guest.uuid, nic, Affect.LIVE)


async def test_the_daemon_can_tell_a_guest_s_processes(driver: QemuDriver, xml: Xml) -> None:
    guest = await started(driver, xml(devices="<interface type='user'/>"))
    assert guest.run is not None
    assert driver.is_guest(guest.run.process.pid)
    assert all(driver.is_guest(each.process.pid) for each in guest.run.helpers.values() if each.process is not None)
    assert not driver.is_guest(os.getpid())


@landlocked
async def test_the_price_of_it_is_small(driver: QemuDriver, xml: Xml) -> None:
    guest = await started(driver, xml())
    _, plan = plan_start(guest.context, guest.domain)
    assert len(grants_of(plan)) < 60


async def test_custom_words_run_unconfined_and_say_so(driver: QemuDriver, xml: Xml) -> None:
    own = "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><arg value='-no-hpet'/></commandline>"
    text = xml(extra=own)
    domain, _ = parse_domain(text)
    said = explain(driver._context, domain, running=False)["confined"]
    assert "qemu:commandline" in str(said)


async def test_the_setting_switches_it_off(
    opener: Open, facts: Facts, xml: Xml, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CONFINE, "no")
    assert probe_host(Support(False)).landlock.reason == "switched off"
    driver = await opener(replace(facts, host=replace(facts.host, landlock=Support(False, "switched off"))))
    guest = await started(driver, xml())
    assert details(guest)["confined"] == "no: switched off"
    assert await opens(guest, __file__)


# Without a QEMU


def paths_of(plan: LaunchPlan) -> dict[Path, Right]:
    return {grant.path: grant.rights for grant in grants_of(plan)}


@pytest.fixture
def planned(driver: QemuDriver, xml: Xml) -> Callable[..., LaunchPlan]:
    def plan(devices: str) -> LaunchPlan:
        driver._context.facts = replace(
            driver._context.facts, host=replace(driver._context.facts.host, landlock=Support(True))
        )
        _, made = plan_start(driver._context, parse_domain(xml(devices=devices))[0])
        return replace(made, confinement=replace(made.confinement, refusal=""))

    return plan


async def test_a_chain_is_followed_and_only_its_top_is_written(
    planned: Callable[..., LaunchPlan], tmp_path: Path
) -> None:
    qcow2(tmp_path / "a")
    qcow2(tmp_path / "b", "qcow2", "a")
    top = qcow2(tmp_path / "c", "qcow2", str(tmp_path / "b"))
    found = paths_of(planned(DISK.format(top)))
    assert found[top] == Right.READ | Right.WRITE
    assert found[tmp_path / "a"] == found[tmp_path / "b"] == Right.READ


async def test_a_chain_that_bites_its_tail_ends(planned: Callable[..., LaunchPlan], tmp_path: Path) -> None:
    qcow2(tmp_path / "a", "qcow2", "b")
    top = qcow2(tmp_path / "b", "qcow2", "a")
    assert top in paths_of(planned(DISK.format(top)))


async def test_an_image_of_unknown_reach_leaves_qemu_unconfined(
    planned: Callable[..., LaunchPlan], tmp_path: Path
) -> None:
    top = qcow2(tmp_path / "top", "vmdk", "/x.vmdk")
    with pytest.raises(Refused, match="vmdk"):
        grants_of(planned(DISK.format(top)))


async def test_an_external_data_file_is_the_image_s_own(planned: Callable[..., LaunchPlan], tmp_path: Path) -> None:
    top, data = tmp_path / "top", tmp_path / "data"
    qcow2(top, data=data)
    assert paths_of(planned(DISK.format(top)))[data] == Right.READ | Right.WRITE


async def test_a_qemu_in_a_home_brings_its_firmware_and_not_the_home(
    planned: Callable[..., LaunchPlan], tmp_path: Path
) -> None:
    home = tmp_path / "home"
    (home / "bin").mkdir(parents=True)
    emulator = home / "bin" / "qemu-system-x86_64"
    emulator.write_bytes(b"\x7fELF")
    found = paths_of(replace(planned(""), emulator=emulator))
    assert home not in found
    assert home / "share" not in found
    assert found[home / "share" / "qemu"] == Right.READ
    emulator.write_bytes(b"#!/bin/sh")
    with pytest.raises(Refused, match="script"):
        paths_of(replace(planned(""), emulator=emulator))


async def test_a_file_that_the_guest_writes_to_is_made_before(dirs: Dirs, tmp_path: Path) -> None:
    from virlet.engine.confine import prepare

    made, dead, kept = tmp_path / "made", tmp_path / "dead.sock", tmp_path / "kept"
    kept.write_text("a user's own")
    import socket

    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(dead))
    prepare(Confinement(made=(made, kept), bound=(dead, kept)))
    assert made.stat().st_mode & 0o777 == 0o600
    assert kept.read_text() == "a user's own"
    assert not dead.exists()
    with pytest.raises(SystemFailure, match="to which the guest is to write"):
        prepare(Confinement(made=(tmp_path / "no" / "directory",)))


def test_images_have_no_defaults_that_hide_a_chain() -> None:
    assert Image(Path("/a"), "qcow2", True).backing
