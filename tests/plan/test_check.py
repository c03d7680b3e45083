"""What keeps a domain from starting: everything at once, each thing by name and place."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virlet.errors import BadConfig
from virlet.model.domain import Domain, parse_domain
from virlet.net.choose import Registry
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import GuestDirs
from virlet.plan.check import check_define, check_launch, emulator_of
from virlet.plan.facts import Facts, Support
from virlet.plan.launch import plan_launch

Q35 = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"


NAMESPACE = "http://libvirt.org/schemas/domain/qemu/1.0"


def domain_of(facts: Facts, devices: str = "", *, os: str = Q35, more: str = "", kind: str = "qemu") -> Domain:
    head = f"<domain type='{kind}'><name>d</name><memory unit='MiB'>64</memory>{os}{more}"
    text = f"{head}<devices>{devices}</devices></domain>"
    return assign_aliases(assign_defaults(parse_domain(text)[0], next(iter(facts.qemu.values()))))


@pytest.mark.parametrize(
    ("devices", "path", "said"),
    [
        ("<interface type='user'><model type='bogus'/></interface>", "devices/interface[1]/model/@type", "'bogus'"),
        ("<interface type='direct'><source dev='eth0'/></interface>", "devices/interface[1]/@type", "'direct'"),
        ("<video><model type='xen'/></video>", "devices/video[1]/model/@type", "'xen'"),
        ("<controller type='scsi' model='ibmvscsi'/>", "devices/controller[1]/@model", "'ibmvscsi'"),
        (
            "<disk><driver type='cow'/><source file='/x'/><target dev='vda'/></disk>",
            "devices/disk[1]/driver/@type",
            "'cow'",
        ),
        (
            "<disk><driver io='native'/><source file='/x'/><target dev='vda'/></disk>",
            "devices/disk[1]/driver/@io",
            "native I/O needs",
        ),
        (
            "<disk type='network'><source protocol='nbd'/><target dev='vda'/></disk>",
            "devices/disk[1]/@type",
            "'network'",
        ),
        ("<graphics type='spice'/>", "devices/graphics[1]/@type", "'spice'"),
        ("<serial type='stdio'/>", "devices/serial[1]/@type", "'stdio'"),
        ("<disk device='cdrom'><target dev='hda' bus='ide'/></disk>", "devices/disk[1]/target/@bus", "IDE controllers"),
        ("<graphics type='vnc'/><graphics type='vnc'/>", "devices/graphics[2]", "only 1 graphics device"),
        ("<disk device='lun'><source file='/x'/><target dev='sda'/></disk>", "devices/disk[1]/@device", "passthrough"),
        (
            "<disk><driver copy_on_read='on'/><source file='/x'/><target dev='vda'/></disk>",
            "devices/disk[1]/driver/@copy_on_read",
            "copy on read",
        ),
        ("<rng model='virtio'><backend model='egd' type='udp'/></rng>", "devices/rng[1]/backend/@model", "a daemon"),
        ("<graphics type='vnc' port='80'/>", "devices/graphics[1]/@port", "[5900,65535]"),
        ("<graphics type='vnc' port='99999'/>", "devices/graphics[1]/@port", "[5900,65535]"),
        (
            "<interface><bandwidth><inbound average='1'/></bandwidth></interface>",
            "devices/interface[1]/bandwidth",
            "user",
        ),
        (
            "<serial type='tcp'><source mode='bind' host='::1' service='70000'/></serial>",
            "devices/serial[1]/source[1]/@service",
            "no port 70000",
        ),
        ("<serial type='pty'/>" * 5, "devices/serial[5]", "no more than 4"),
        ("<sound model='ich9'/>", "devices/sound[1]", "sound cards"),
        ("<vsock model='virtio'><cid auto='yes'/></vsock>", "devices/vsock", "<vsock>"),
        ("<hostdev mode='subsystem' type='pci'/>", "devices/hostdev[1]", "<hostdev>"),
        ("<panic model='hyperv'/>", "devices/panic[1]/@model", "'hyperv'"),
        ("<watchdog model='diag288'/>", "devices/watchdog[1]/@model", "'diag288'"),
        ("<audio id='1' type='alsa'/>", "devices/audio[1]/@type", "'alsa'"),
        ("<input type='evdev'><source dev='/dev/input/event0'/></input>", "devices/input[1]/@type", "input devices"),
    ],
)
def test_what_cannot_be_had_is_refused_by_name_and_place(
    devices: str, path: str, said: str, facts: Facts, registry: Registry
) -> None:
    problems = check_launch(domain_of(facts, devices), facts, registry)
    assert [(problem.path, said in problem.message) for problem in problems][:1] == [(path, True)], problems


@pytest.mark.parametrize(
    ("more", "path"),
    [
        ("<cpu mode='custom'><model>pentium9</model></cpu>", "cpu/model"),
        ("<cpu mode='host-passthrough'/>", "cpu/@mode"),
        ("<clock offset='timezone' timezone='Europe/Berlin'/>", "clock/@offset"),
        ("<memoryBacking><source type='file'/></memoryBacking>", "memoryBacking/source"),
        ("<vcpu>5000</vcpu>", "vcpu"),
        ("<memtune><hard_limit>1</hard_limit></memtune>", "memtune"),
        ("<cpu mode='custom'><model>qemu64</model><feature name='x,y'/></cpu>", "cpu/feature[1]/@name"),
        (f"<q:override xmlns:q='{NAMESPACE}'/>", "q:override"),
        (f"<qemu:capabilities xmlns:qemu='{NAMESPACE}'/>", "qemu:capabilities"),
    ],
)
def test_what_the_computer_cannot_be(more: str, path: str, facts: Facts, registry: Registry) -> None:
    assert path in [problem.path for problem in check_launch(domain_of(facts, more=more), facts, registry)]


def test_an_unknown_machine_type_names_the_emulator_and_another_one(facts: Facts, registry: Registry) -> None:
    os = "<os><type arch='x86_64' machine='pc-q35-99.0'>hvm</type></os>"
    (problem,) = check_launch(domain_of(facts, os=os), facts, registry)
    assert problem.path == "os/type/@machine"
    assert "does not support machine type 'pc-q35-99.0'" in problem.message
    assert "pc-q35-" in (problem.hint or "")


def test_a_missing_emulator_is_named(facts: Facts, registry: Registry) -> None:
    domain = domain_of(facts, "<emulator>/opt/qemu</emulator>")
    (problem,) = check_launch(domain, facts, registry)
    assert problem.path == "devices/emulator"
    assert "/opt/qemu" in problem.message


def test_an_architecture_without_an_emulator(facts: Facts, registry: Registry) -> None:
    domain = domain_of(facts)
    bare = replace(domain, os=replace(domain.os, arch="s390x"), devices=replace(domain.devices, emulator=None))
    assert emulator_of(bare, facts) is None
    assert [problem.path for problem in check_launch(bare, facts, registry)] == ["os/type/@arch"]


def test_kvm_that_does_not_work_says_why_and_names_the_way_without(facts: Facts, registry: Registry) -> None:
    domain = domain_of(facts, kind="kvm")
    broken = replace(facts, host=replace(facts.host, kvm=Support(False, "it ran no code", "ask the host's owner")))
    (problem,) = check_launch(domain, broken, registry)
    assert problem.path == "@type"
    assert "it ran no code" in problem.message
    assert "ask the host's owner" in (problem.hint or "")
    assert "<domain type='qemu'>" in (problem.hint or "")


def test_the_way_without_kvm_is_named_once(facts: Facts, registry: Registry) -> None:
    said = Support(False, "it ran no code", "use <domain type='qemu'>; this host cannot")
    broken = replace(facts, host=replace(facts.host, kvm=said))
    (problem,) = check_launch(domain_of(facts, kind="kvm"), broken, registry)
    assert (problem.hint or "").count("<domain type='qemu'>") == 1


def test_kvm_that_works_is_used(facts: Facts, registry: Registry, dirs: GuestDirs) -> None:
    working = replace(facts, host=replace(facts.host, kvm=Support(True)))
    domain = domain_of(facts, kind="kvm", more="<cpu mode='host-passthrough' migratable='on'/>")
    words = [word for word in plan_launch(domain, working, dirs, registry).argv if isinstance(word, str)]
    assert words[words.index("-accel") + 1] == "kvm"
    assert words[words.index("-cpu") + 1] == "host,migratable=on"


def test_all_problems_are_in_one_error(facts: Facts, registry: Registry, dirs: GuestDirs) -> None:
    domain = domain_of(
        facts, "<sound model='ac97'/><graphics type='spice'/><interface type='bridge'><source bridge='b'/></interface>"
    )
    with pytest.raises(BadConfig) as caught:
        plan_launch(domain, facts, dirs, registry)
    assert len(caught.value.problems) == 3


def test_acpi_indexes_follow_qemus_rules(facts: Facts, registry: Registry) -> None:
    card = "<interface type='user'><acpi index='{}'/></interface>"
    domain = domain_of(facts, card.format(1) + card.format(1) + card.format(16384))
    assert [problem.path for problem in check_launch(domain, facts, registry)] == [
        "devices/interface[2]/acpi/@index",
        "devices/interface[3]/acpi/@index",
    ]


def test_a_port_wanted_by_two_interfaces_is_refused_when_defined(facts: Facts) -> None:
    card = "<interface type='user'><portForward proto='tcp'><range start='8022'/></portForward></interface>"
    (problem,) = check_define(domain_of(facts, card + card))
    assert problem.path == "devices/interface[2]/portForward[1]/range[1]"


def test_a_good_domain_has_no_problem(facts: Facts, registry: Registry) -> None:
    assert check_launch(domain_of(facts, "<interface type='user'/><serial type='pty'/>"), facts, registry) == []


@pytest.mark.parametrize(
    ("machine", "cpus", "said"),
    [
        ("q35", 256, "more than 255 vCPUs require extended interrupt mode"),
        ("pc", 255, ""),
        ("q35", 255, ""),
        ("q35", 10_000, "Maximum CPUs greater than specified machine type limit"),
    ],
)
def test_more_cpus_than_interrupts_reach_are_refused(
    machine: str, cpus: int, said: str, facts: Facts, registry: Registry
) -> None:
    board = f"<os><type arch='x86_64' machine='{machine}'>hvm</type></os>"
    problems = check_launch(domain_of(facts, os=board, more=f"<vcpu>{cpus}</vcpu>"), facts, registry)
    assert [problem.path for problem in problems] == (["vcpu"] * len(problems) if said else [])
    assert said in "".join(problem.message for problem in problems)
    assert bool(problems) is bool(said)


@pytest.mark.parametrize(
    ("inside", "path"),
    [
        ("<cmdline>quiet</cmdline>", "os/cmdline"),
        ("<initrd>/initrd</initrd>", "os/initrd"),
        ("<bootmenu enable='yes' timeout='65536'/>", "os/bootmenu/@timeout"),
    ],
)
def test_what_cannot_be_booted(inside: str, path: str, facts: Facts, registry: Registry) -> None:
    os = Q35.replace("</os>", f"{inside}</os>")
    assert [problem.path for problem in check_launch(domain_of(facts, os=os), facts, registry)] == [path]
