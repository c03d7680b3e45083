"""What single elements mean on the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from virlet.plan.base import LaunchPlan, render
from virlet.plan.facts import Facts, Support

PlanOf = Callable[[str, Facts], LaunchPlan]


def words_of(plan: LaunchPlan) -> list[str]:
    """The command line, an option and its value in one string."""
    lines: list[str] = []
    for word in render(plan.argv, lambda source: "FD"):
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += " " + word
    return lines


def domain(devices: str = "", more: str = "", os: str = "", kind: str = "qemu", machine: str = "q35") -> str:
    return (
        f"<domain type='{kind}'><name>d</name><memory unit='MiB'>64</memory>"
        f"<os><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>{more}<devices>{devices}</devices></domain>"
    )


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ("<features><smm state='on'/></features>", "smm=on"),
        ("<features><ioapic driver='qemu'/></features>", "kernel_irqchip=split"),
        ("<features><ioapic driver='kvm'/></features>", "kernel_irqchip=on"),
        ("<features><acpi/></features>", "acpi=on"),
        ("<memoryBacking><nosharepages/></memoryBacking>", "mem-merge=off"),
        ("<cpu mode='maximum'/>", "-cpu max"),
        ("<cpu mode='host-model'/>", "-cpu max"),
        ("<cpu><model vendor_id='VirletVirlet'>qemu64</model></cpu>", "-cpu qemu64,vendor=VirletVirlet"),
        (
            "<cpu><model>qemu64</model><feature name='aes'/><feature policy='optional' name='x'/></cpu>",
            "-cpu qemu64,aes=on",
        ),
        ("<features><pmu state='off'/></features>", "-cpu qemu64,pmu=off"),
        ("<clock><timer name='kvmclock' present='no'/></clock>", "-cpu qemu64,kvmclock=off"),
        ("<clock><timer name='tsc' frequency='1000000'/></clock>", "-cpu qemu64,tsc-frequency=1000000"),
        (
            "<clock><timer name='rtc' track='wall' tickpolicy='delay'/></clock>",
            "-rtc base=utc,clock=host,driftfix=none",
        ),
        ("<memoryBacking><allocation mode='immediate'/></memoryBacking>", '"prealloc":true'),
        ("<memoryBacking><access mode='shared'/></memoryBacking>", '"memory-backend-memfd","id":"pc.ram","share":true'),
        (
            "<vcpu>8</vcpu><cpu><topology sockets='2' dies='2' clusters='1' cores='2' threads='1'/></cpu>",
            "-smp 8,sockets=2,dies=2,clusters=1,cores=2,threads=1",
        ),
        ("<on_reboot>destroy</on_reboot>", "-no-reboot"),
        ("<on_poweroff>restart</on_poweroff>", "-no-shutdown"),
    ],
)
def test_elements_of_the_computer(more: str, expected: str, facts: Facts, plan_of: PlanOf) -> None:
    assert [line for line in words_of(plan_of(domain(more=more), facts)) if expected in line]


@pytest.mark.parametrize(
    ("devices", "expected"),
    [
        ("<graphics type='vnc' port='5903'/>", "-vnc 127.0.0.1:3,audiodev=audio1"),
        ("<graphics type='vnc' port='5903' listen='::1'/>", "-vnc [::1]:3,audiodev=audio1"),
        ("<graphics type='vnc'><listen type='none'/></graphics>", "-vnc none,audiodev=audio1"),
        (
            "<graphics type='vnc' port='5903' sharePolicy='force-shared' powerControl='yes' websocket='5700'/>",
            "-vnc 127.0.0.1:3,share=force-shared,power-control=on,websocket=5700,audiodev=audio1",
        ),
        ("<graphics type='vnc' keymap='de'/>", "-k de"),
        ("<video><model type='none'/></video>", "-audiodev"),
        ("<video><model type='bochs' vram='8192'/></video>", '"bochs-display","id":"video0","vgamem":8388608'),
        (
            "<video><model type='virtio'><resolution x='800' y='600'/></model></video>",
            '"max_outputs":1,"xres":800,"yres":600',
        ),
        ("<serial type='dev'><source path='/dev/ttyS7'/></serial>", "-chardev serial,id=charserial0,path=/dev/ttyS7"),
        ("<serial type='pipe'><source path='/p'/></serial>", "-chardev pipe,id=charserial0,path=/p"),
        (
            "<serial type='tcp'><source mode='connect' host='h' service='9'/><protocol type='raw'/></serial>",
            "-chardev socket,id=charserial0,host=h,port=9",
        ),
        ("<parallel type='null'/>", '"isa-parallel","chardev":"charparallel0","id":"parallel0"'),
        ("<serial type='null'><target type='usb-serial'/></serial>", '"usb-serial","chardev":"charserial0"'),
        ("<disk device='floppy'><source file='/f'/><target dev='fda'/></disk>", '"floppy","unit":0'),
        (
            "<disk><driver type='qcow2'/><source file='/d'/><backingStore/><target dev='vda'/></disk>",
            '"driver":"qcow2","file":"libvirt-1-storage","backing":null',
        ),
        ("<disk><driver error_policy='enospace'/><source file='/d'/><target dev='vda'/></disk>", '"werror":"enospc"'),
        ("<disk><source file='/d'/><target dev='sda' bus='sata'/><boot order='1'/></disk>", '"bootindex":1'),
        ("<controller type='virtio-serial' index='0' ports='4' vectors='2'/>", '"max_ports":4,"vectors":2'),
        ("<controller type='usb' model='qemu-xhci' ports='8'/>", '"qemu-xhci","p2":8,"p3":8,"id":"usb"'),
        (
            "<controller type='scsi' model='virtio-scsi'><driver queues='2' iommu='on'/></controller>",
            '"virtio-scsi-pci","iommu_platform":true,"num_queues":2,"id":"scsi0"',
        ),
        ("<controller type='sata' index='1'/>", '"ahci","id":"sata1"'),
        ("<watchdog model='ib700' action='none'/>", "-watchdog-action none"),
        ("<panic model='pvpanic'/>", '"pvpanic-pci","id":"panic0"'),
        ("<memballoon model='virtio' freePageReporting='on'/>", '"free-page-reporting":true'),
        ("<input type='mouse' bus='usb'/>", '"usb-mouse"'),
    ],
)
def test_devices(devices: str, expected: str, facts: Facts, plan_of: PlanOf) -> None:
    assert [line for line in words_of(plan_of(domain(devices), facts)) if expected in line]


def test_the_companions_of_a_usb_2_controller_hang_on_it(facts: Facts, plan_of: PlanOf) -> None:
    devices = (
        "<controller type='usb' index='0' model='ich9-ehci1'/>"
        "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>"
    )
    lines = words_of(plan_of(domain(devices), facts))
    assert [line for line in lines if "ich9-usb" in line] == [
        '-device {"driver":"ich9-usb-ehci1","id":"usb","bus":"pcie.0","addr":"0x1d.0x7"}',
        '-device {"driver":"ich9-usb-uhci1","masterbus":"usb.0","firstport":0,"bus":"pcie.0","multifunction":true,'
        '"addr":"0x1d"}',
    ]


def test_firmware_and_a_kernel_are_files_that_must_be_there(facts: Facts, plan_of: PlanOf) -> None:
    os = "<loader type='rom'>/f</loader><kernel>/k</kernel><initrd>/i</initrd><cmdline>a b</cmdline><dtb>/t</dtb>"
    plan = plan_of(domain(os=os), facts)
    lines = words_of(plan)
    assert [line for line in lines if line.split()[0] in ("-bios", "-kernel", "-initrd", "-append", "-dtb")] == [
        "-bios /f",
        "-kernel /k",
        "-initrd /i",
        "-append a b",
        "-dtb /t",
    ]
    assert [(str(file.path), file.xml_path) for file in plan.files_needed] == [
        ("/f", "os/loader"),
        ("/k", "os/kernel"),
        ("/i", "os/initrd"),
        ("/t", "os/dtb"),
    ]


def test_a_reconnecting_socket_is_told_in_the_unit_that_qemu_knows(facts: Facts, plan_of: PlanOf) -> None:
    devices = (
        "<channel type='unix'><source mode='connect' path='/p'><reconnect enabled='yes' timeout='3'/></source>"
        "<target type='virtio' name='c'/></channel>"
    )
    (line,) = (line for line in words_of(plan_of(domain(devices), facts)) if "path=/p" in line)
    assert line.endswith(("reconnect=3", "reconnect-ms=3000"))


def test_host_model_under_kvm_is_the_hosts_cpu(facts: Facts, plan_of: PlanOf) -> None:
    working = replace(facts, host=replace(facts.host, kvm=Support(True)))
    assert "-cpu host,migratable=on" in words_of(plan_of(domain(more="<cpu mode='host-model'/>", kind="kvm"), working))


def test_a_pc_has_its_own_power_management(facts: Facts, plan_of: PlanOf) -> None:
    more = "<pm><suspend-to-mem enabled='yes'/></pm>"
    assert "-global PIIX4_PM.disable_s3=0" in words_of(plan_of(domain(more=more, machine="pc"), facts))
