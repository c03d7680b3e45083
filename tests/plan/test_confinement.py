"""Which files a plan gives its QEMU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from virlet.plan.base import LaunchPlan
from virlet.plan.facts import Facts, Support
from virlet.plan.rights import Right

PlanOf = Callable[[str, Facts], LaunchPlan]
READ, WRITE = Right.READ, Right.WRITE

XML = """<domain type='qemu'><name>one</name><memory>65536</memory>
<os><type arch='x86_64' machine='q35'>hvm</type>{os}</os>{extra}<devices>{devices}</devices></domain>"""


@pytest.fixture
def grants(plan_of: PlanOf, facts: Facts) -> Callable[..., dict[str, Right]]:
    def found(devices: str = "", *, os: str = "", extra: str = "") -> dict[str, Right]:
        return {str(each.path): each.rights for each in planned(plan_of, facts, devices, os, extra).confinement.grants}

    return found


def planned(plan_of: PlanOf, facts: Facts, devices: str = "", os: str = "", extra: str = "") -> LaunchPlan:
    able = replace(facts, host=replace(facts.host, landlock=Support(True)))
    return plan_of(XML.format(devices=devices, os=os, extra=extra), able)


def test_a_guest_without_anything_has_its_own_directory(grants: Callable[..., dict[str, Right]]) -> None:
    assert grants() == {"/run/v/1": READ | WRITE | Right.BIND | Right.REMOVE | Right.CONNECT}


@pytest.mark.parametrize(
    ("devices", "path", "rights"),
    [
        ("<disk type='file'><source file='/d'/><target dev='vda'/></disk>", "/d", READ | WRITE),
        ("<disk type='file'><source file='/d'/><target dev='vda'/><readonly/></disk>", "/d", READ),
        ("<disk type='block'><source dev='/dev/vg/d'/><target dev='vda'/></disk>", "/dev/vg/d", READ | WRITE),
        ("<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng>", "/dev/hwrng", READ),
        ("<serial type='pty'/>", "/dev/ptmx", READ | WRITE),
        ("<serial type='file'><source path='/s'/></serial>", "/s", WRITE),
        ("<serial type='pty'><log file='/l'/></serial>", "/l", WRITE),
        ("<serial type='dev'><source path='/dev/ttyS0'/></serial>", "/dev/ttyS0", READ | WRITE),
        ("<serial type='pipe'><source path='/p'/></serial>", "/p.in", READ | WRITE),
        ("<serial type='unix'><source mode='connect' path='/a/s'/></serial>", "/a/s", Right.CONNECT),
        (
            "<serial type='unix'><source mode='connect' path='/a/s'><reconnect enabled='yes' timeout='1'/></source>"
            "</serial>",
            "/a",
            Right.CONNECT,
        ),
        ("<graphics type='vnc'><listen type='socket' socket='/v/s'/></graphics>", "/v", Right.BIND),
    ],
)
def test_what_a_device_names_is_granted(
    grants: Callable[..., dict[str, Right]], devices: str, path: str, rights: Right
) -> None:
    assert grants(devices)[path] == rights


def test_what_boots_is_read_only(grants: Callable[..., dict[str, Right]]) -> None:
    found = grants(os="<kernel>/k</kernel><initrd>/i</initrd><loader>/f</loader>")
    assert {found["/k"], found["/i"], found["/f"]} == {READ}


def test_sockets_that_we_bind_need_no_right(grants: Callable[..., dict[str, Right]]) -> None:
    assert len(grants("<serial type='unix'><source mode='bind' path='/home/s'/></serial>")) == 1


def test_images_that_may_name_files_are_to_be_followed(plan_of: PlanOf, facts: Facts) -> None:
    disk = "<disk type='file'><driver type='qcow2'/><source file='/d{0}'/>{1}<target dev='vd{0}'/></disk>"
    plan = planned(plan_of, facts, disk.format("a", "") + disk.format("b", "<backingStore/>"))
    assert [(str(image.path), image.backing) for image in plan.confinement.images] == [("/da", True), ("/db", False)]


@pytest.mark.parametrize(
    ("devices", "extra", "why"),
    [
        ("<disk type='file'><driver type='vmdk'/><source file='/d'/><target dev='vda'/></disk>", "", "vmdk"),
        (
            "",
            "<commandline xmlns='http://libvirt.org/schemas/domain/qemu/1.0'><env name='A'/></commandline>",
            "qemu:commandline",
        ),
    ],
)
def test_what_cannot_be_foreseen_is_not_confined(
    plan_of: PlanOf, facts: Facts, devices: str, extra: str, why: str
) -> None:
    found = planned(plan_of, facts, devices, extra=extra).confinement
    assert why in found.refusal
    assert found.grants == ()


def test_a_host_that_cannot_says_why(plan_of: PlanOf, facts: Facts) -> None:
    bare = replace(facts, host=replace(facts.host, landlock=Support(False, "no landlock here")))
    assert plan_of(XML.format(devices="", os="", extra=""), bare).confinement.refusal == "no landlock here"


def test_no_grant_is_wider_than_a_directory_that_was_named(grants: Callable[..., dict[str, Right]]) -> None:
    wide = grants("<serial type='file'><source path='/home/me/serial.txt'/></serial>")
    assert Path("/home/me") not in map(Path, wide)
