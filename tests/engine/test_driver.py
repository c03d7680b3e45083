"""Definitions through the driver: names, lists, files.  No guest is started here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from virlet.engine.context import Dirs
from virlet.engine.driver import QemuDriver
from virlet.enums import DomainState, ErrorCode, ErrorDomain, ListDomainsFlags, XmlFlags
from virlet.errors import BadConfig, NoDomain, OperationFailed, OperationInvalid, VirletError

Recorder = Any
Xml = Callable[..., str]
Open = Callable[[], Awaitable[QemuDriver]]


def files(dirs: Dirs) -> list[Path]:
    return sorted((dirs.config / "domains").iterdir())


async def test_a_definition_is_listed_printed_and_found_by_each_of_its_names(driver: QemuDriver, xml: Xml) -> None:
    ref = await driver.define(xml("one"), 0)
    assert (ref.name, ref.id) == ("one", -1)
    assert driver.by_name("one") == driver.by_uuid(ref.uuid) == ref
    assert driver.domains(ListDomainsFlags(0)) == [ref]
    assert driver.state(ref.uuid) == (DomainState.SHUTOFF, 0)
    assert "<name>one</name>" in driver.xml(ref.uuid, 0)
    assert driver.xml(ref.uuid, 0) is driver.xml(ref.uuid, 0)
    assert driver.is_persistent(ref.uuid)
    assert not driver.is_active(ref.uuid)
    assert driver.info(ref.uuid).max_memory == 32 * 1024


async def test_what_is_not_there_is_error_42_of_the_driver(driver: QemuDriver) -> None:
    for call in (lambda: driver.by_name("x"), lambda: driver.by_uuid(UUID(int=1)), lambda: driver.by_id(3)):
        with pytest.raises(NoDomain) as caught:
            call()
        assert (caught.value.code, caught.value.domain) == (ErrorCode.NO_DOMAIN, ErrorDomain.QEMU)
    with pytest.raises(NoDomain, match="Domain not found: no domain with matching name 'x'"):
        driver.by_name("x")


async def test_a_name_or_uuid_that_is_taken_is_refused_in_libvirts_words(driver: QemuDriver, xml: Xml) -> None:
    await driver.define(xml("one", 1), 0)
    with pytest.raises(OperationFailed, match=r"domain 'one' already exists with uuid 7d6bcd80.*1a01"):
        await driver.define(xml("one", 2), 0)
    with pytest.raises(OperationFailed, match=r"domain 'one' is already defined with uuid 7d6bcd80.*1a01"):
        await driver.define(xml("two", 1), 0)
    assert [ref.name for ref in driver.domains(ListDomainsFlags(0))] == ["one"]


async def test_two_definitions_of_one_name_at_once_make_one_guest(driver: QemuDriver, xml: Xml, dirs: Dirs) -> None:
    done = await asyncio.gather(*(driver.define(xml("one", number), 0) for number in range(8)), return_exceptions=True)
    assert sum(isinstance(each, OperationFailed) for each in done) == 7
    assert len(files(dirs)) == 1


async def test_events_of_define_redefine_and_undefine(driver: QemuDriver, heard: Recorder, xml: Xml) -> None:
    ref = await driver.define(xml(), 0)
    await driver.define(xml(), 0)
    await driver.undefine(ref.uuid, 0)
    assert heard.lifecycle == [(0, 0), (0, 1), (1, 0)]


async def test_definitions_and_autostart_survive_the_daemon(opener: Open, xml: Xml, dirs: Dirs) -> None:
    first = await opener()
    ref = await first.define(xml(), 0)
    text = first.xml(ref.uuid, XmlFlags.INACTIVE)
    assert [path.stat().st_mode & 0o777 for path in files(dirs)] == [0o600]
    await first.close()
    second = await opener()
    assert second.xml(ref.uuid, XmlFlags.INACTIVE) == text
    assert not second.autostart(ref.uuid)


async def test_an_undefined_guest_leaves_no_file(driver: QemuDriver, xml: Xml, dirs: Dirs) -> None:
    ref = await driver.define(xml(), 0)
    await driver.undefine(ref.uuid, 0)
    assert files(dirs) == []
    with pytest.raises(NoDomain):
        driver.by_uuid(ref.uuid)


@pytest.mark.parametrize("damage", ["", "<?virlet", "nonsense", None])
async def test_a_damaged_definition_is_moved_aside_and_reported(
    opener: Open, xml: Xml, dirs: Dirs, damage: str | None
) -> None:
    first = await opener()
    ref = await first.define(xml("one", 1), 0)
    await first.define(xml("two", 2), 0)
    await first.close()
    path = dirs.config / "domains" / f"{ref.uuid}.xml"
    whole = path.read_text()
    path.write_text(whole[: len(whole) // 2] if damage is None else damage)
    second = await opener()
    assert [each.name for each in second.domains(ListDomainsFlags(0))] == ["two"]
    assert [each.name.partition(".bad-")[0] for each in files(dirs) if ".bad-" in each.name] == [path.name]
    answer = await second.doctor()
    assert str(ref.uuid) in str(answer["problems"])


async def test_a_definition_of_another_host_is_shown_and_not_started(opener: Open, xml: Xml, dirs: Dirs) -> None:
    first = await opener()
    ref = await first.define(xml(), 0)
    await first.close()
    path = files(dirs)[0]
    path.write_text(path.read_text().replace("0123456789abcdef0123456789abcdef", "f" * 32))
    second = await opener()
    assert second.by_name("one") == ref
    with pytest.raises(OperationInvalid, match="another host"):
        await second.start(ref.uuid, 0, None)


async def test_a_full_disk_changes_nothing(driver: QemuDriver, xml: Xml, dirs: Dirs) -> None:
    ref = await driver.define(xml(), 0)
    before = driver.xml(ref.uuid, 0)
    (dirs.config / "domains" / f".{ref.uuid}.xml.new").mkdir()
    with pytest.raises(VirletError) as caught:
        await driver.define(xml(extra="<description>other</description>"), 0)
    assert caught.value.code == ErrorCode.SYSTEM_ERROR
    assert driver.xml(ref.uuid, 0) == before


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (0, ["one", "two"]),
        (ListDomainsFlags.ACTIVE, []),
        (ListDomainsFlags.ACTIVE | ListDomainsFlags.INACTIVE, ["one", "two"]),
        (ListDomainsFlags.AUTOSTART, ["two"]),
        (ListDomainsFlags.NO_AUTOSTART | ListDomainsFlags.INACTIVE, ["one"]),
        (ListDomainsFlags.PERSISTENT | ListDomainsFlags.SHUTOFF, ["one", "two"]),
        (ListDomainsFlags.TRANSIENT, []),
        (ListDomainsFlags.HAS_SNAPSHOT, []),
        (ListDomainsFlags.NO_MANAGEDSAVE, ["one", "two"]),
        (ListDomainsFlags.RUNNING | ListDomainsFlags.PAUSED, []),
    ],
)
async def test_groups_of_list_flags(driver: QemuDriver, xml: Xml, flags: int, names: list[str]) -> None:
    await driver.define(xml("one", 1), 0)
    await driver.set_autostart((await driver.define(xml("two", 2), 0)).uuid, True)
    assert [ref.name for ref in driver.domains(ListDomainsFlags(flags))] == names


async def test_power_over_a_guest_that_does_not_run_is_error_55(driver: QemuDriver, xml: Xml) -> None:
    uuid = (await driver.define(xml(), 0)).uuid
    for call, domain in (
        (driver.suspend(uuid), 20),
        (driver.resume(uuid), 20),
        (driver.destroy(uuid, 0), 20),
        (driver.reset(uuid, 0), 20),
        (driver.shutdown(uuid, 0), 10),
        (driver.reboot(uuid, 0), 20),
        (driver.open_console(uuid, None, 0), 20),
    ):
        with pytest.raises(OperationInvalid, match="Requested operation is not valid: domain is not running") as caught:
            await call
        assert caught.value.domain == domain


async def test_unknown_flags_are_refused(driver: QemuDriver, xml: Xml) -> None:
    uuid = (await driver.define(xml(), 0)).uuid
    with pytest.raises(VirletError, match=r"unsupported flags \(0x100\) in function qemuDomainUndefineFlags"):
        await driver.undefine(uuid, 0x100)


async def test_a_missing_kernel_is_one_error_with_its_line_and_nothing_is_done(
    driver: QemuDriver, heard: Recorder, xml: Xml, dirs: Dirs
) -> None:
    uuid = (await driver.define(xml(os="<kernel>/nowhere/vmlinuz</kernel>"), 0)).uuid
    with pytest.raises(BadConfig, match=r"/nowhere/vmlinuz.*No such file or directory.*line [0-9]+") as caught:
        await driver.start(uuid, 0, None)
    assert (caught.value.code, caught.value.errno) == (ErrorCode.SYSTEM_ERROR, 2)
    assert heard.lifecycle == [(0, 0)]
    assert driver.state(uuid)[0] is DomainState.SHUTOFF
    assert list(dirs.runtime.iterdir()) == []


async def test_a_missing_emulator_is_one_error_with_its_line(driver: QemuDriver, xml: Xml) -> None:
    with pytest.raises(BadConfig, match=r"Cannot check QEMU binary /nope: No such file or directory .line 9") as caught:
        await driver.define(xml(devices="<emulator>/nope</emulator>"), 0)
    assert (caught.value.code, caught.value.errno) == (ErrorCode.SYSTEM_ERROR, 2)


async def test_capabilities_name_what_can_be_started(driver: QemuDriver) -> None:
    assert "<arch name='x86_64'>" in driver.capabilities()
    told = await driver.domain_capabilities(None, None, None, None)
    assert "<machine>pc-i440fx-7.2</machine>" in told
    assert "<value>passt</value>" in told
    with pytest.raises(VirletError, match="the machine 'nope' is not supported by emulator"):
        await driver.domain_capabilities(None, None, "nope", None)


async def test_explain_has_every_backends_answer_also_where_nothing_can_start(driver: QemuDriver, xml: Xml) -> None:
    card = "<interface type='user'>{}</interface>"
    told = await driver.explain(None, xml(devices=card.format("")))
    names = [each["name"] for each in told["interfaces"][0]["backends"]]  # type: ignore[index]
    assert names[:4] == ["passt-vhost-user", "passt", "slirp-helper", "slirp"]
    bad = card.format("<source dev='nope0'/><tune><sndbuf>9</sndbuf></tune>")
    told = await driver.explain(None, xml(devices=bad))
    assert "commands" not in told
    (nic,) = told["interfaces"]  # type: ignore[misc]
    assert nic["backend"] is None
    assert [each["name"] for each in nic["backends"]] == names
    assert not any(each["ok"] for each in nic["backends"])
    assert all(each["reason"] for each in nic["backends"])
    problems = "\n".join(told["problems"])  # type: ignore[arg-type]
    assert "nope0" in problems
    assert "<sndbuf>" in problems
    assert "line " in problems
    assert "devices/interface[1]/tune/sndbuf of dumpxml --inactive)" in problems


async def test_explain_and_native_say_what_a_start_would_do(driver: QemuDriver, xml: Xml) -> None:
    uuid = (await driver.define(xml(), 0)).uuid
    told = await driver.explain(uuid, None)
    assert told["describes"] == "its next start"
    assert "qemu-system-x86_64" in str(told["commands"])
    assert "-no-shutdown" in await driver.native(xml())
    assert driver.ports(uuid) == []
    assert await driver.logs(uuid, "qemu", 0, 100) == (b"", 0, True)
