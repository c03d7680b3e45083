"""What a define refuses about the rest of a domain, in libvirt's words (seen from libvirt 12.8)."""

from __future__ import annotations

import pytest

from virlet.errors import BadConfig
from virlet.model.domain import parse_domain

QEMU = "xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'"
NIC = "<interface type='user'>{}</interface>"


def _domain(
    more: str = "", *, devices: str = "", os: str = "", name: str = "x", memory: str = "<memory>9</memory>"
) -> str:
    return (
        f"<domain type='qemu' {QEMU}>\n<name>{name}</name>\n{memory}\n{more}<os><type>hvm</type>{os}</os>\n"
        f"<devices>{devices}</devices></domain>"
    )


def _disk(more: str = "", target: str = "<target dev='vda'/>", source: str = "<source file='/x'/>") -> str:
    return f"<disk type='file'>{more}{source}{target}</disk>"


def _qemu(inside: str) -> str:
    return _domain().replace("</domain>", f"<qemu:commandline>{inside}</qemu:commandline></domain>")


REFUSED = [
    ("<a/>", 27, "XML error: expecting root element of 'domain', not 'a'"),
    ("<domain type='qemu'><memory>1</memory></domain>", 21, "missing name information"),
    (_domain(name=""), 21, "missing name information"),
    (_domain(name="a/b"), 27, "name a/b cannot contain '/'"),
    (_domain(name="a\nb"), 27, "invalid char in name"),
    (_domain(name="a\tb"), 27, "cannot contain control characters"),
    (_domain(name=" "), 27, "cannot be used"),
    (_domain(name=".."), 27, "cannot be used"),
    (_domain(name="n" * 201), 27, "longer than 200 bytes"),
    (_domain().replace("'qemu'", "'nope'", 1), 67, "unsupported configuration: invalid domain type nope"),
    (_domain().replace(" type='qemu'", "", 1), 1, "internal error: missing domain type attribute"),
    (_domain("<uuid>x</uuid>"), 1, "internal error: malformed uuid element"),
    (_domain("<title>a\nb</title>"), 27, "Domain title can't contain newlines"),
    (_domain("<vcpu>0</vcpu>"), 27, "invalid maximum number of vCPUs '0'"),
    (_domain("<vcpu>-1</vcpu>"), 27, "maximum vcpus count must be an integer"),
    (_domain("<vcpu>x</vcpu>"), 27, "maximum vcpus count must be an integer"),
    (_domain("<vcpu>" + "9" * 4000 + "</vcpu>"), 27, "maximum vcpus count must be an integer"),
    (_domain("<vcpu>70000</vcpu>"), 67, "Maximum CPUs greater than specified machine type limit"),
    (_domain("<vcpu current='4'>2</vcpu>"), 67, "maximum vCPU count must not be less than current vCPU count"),
    (_domain("<vcpu current='0'>2</vcpu>"), 67, "vcpu 0 can't be offline"),
    (_domain("<cpu><topology sockets='1' cores='2' threads='1'/></cpu>"), 67, "CPU topology doesn't match"),
    (_domain("<cpu mode='foo'/>"), 67, "Invalid mode attribute 'foo'"),
    (_domain(memory=""), 27, "Memory size must be specified via <memory>"),
    (_domain(memory="<memory>0</memory>"), 27, "Memory size must be specified via <memory>"),
    (_domain(memory="<memory>-1</memory>"), 27, "Invalid value '-1' for element or attribute './memory[1]'"),
    (_domain(memory="<memory unit='foo'>5</memory>"), 8, "invalid argument: unknown suffix 'foo'"),
    (_domain(memory="<memory unit='E'>99999999</memory>"), 82, "numerical overflow: value too large: 99999999"),
    (_domain("<maxMemory slots='2'>1</maxMemory>"), 27, "maximum memory size must be equal or greater than the actual"),
    (_domain().replace("<type>hvm</type>", ""), 27, "an os <type> must be specified"),
    (_domain().replace("hvm", "xen"), 67, "os type 'xen' is not supported"),
    (_domain(os="<boot dev='foo'/>"), 27, "Invalid value for attribute 'dev' in element 'boot': 'foo'."),
    (_domain("<on_reboot>foo</on_reboot>"), 67, "unknown on_reboot action: foo"),
    (_domain("<clock offset='foo'/>"), 67, "unknown clock offset 'foo'"),
    (_domain("<clock><timer name='foo'/></clock>"), 27, "attribute 'name' in element 'timer': 'foo'."),
    (_domain(os="<boot dev='hd'/>", devices=NIC.format("<boot order='1'/>")), 67, "per-device boot elements cannot"),
    (_domain(devices=NIC.format("<boot order='1'/>") * 2), 67, "boot order '1' used for more than one device"),
    (_domain(devices=NIC.format("<alias name='ua-a'/>") * 2), 67, "non unique alias detected: ua-a"),
    (
        _domain(devices=NIC.format("<address type='pci' bus='1' slot='2'/>") * 2),
        27,
        "double use of PCI Address 0000:01:02.0",
    ),
    (_domain(devices=NIC.format("<address type='pci' slot='0x20'/>")), 27, "slot='0x20', must be <= 0x1F"),
    (_domain(devices=NIC.format("<address type='foo'/>")), 27, "attribute 'type' in element 'address': 'foo'."),
    (_domain(devices="<interface type='vhostuser'><source path='/x'/></interface>"), 67, "requires shared memory"),
    (_domain(devices=_disk(target="")), 20, "missing target information for device /x"),
    (_domain(devices=_disk(source="")), 19, "missing source information for device vda"),
    (_domain(devices=_disk(target="<target dev='foo'/>")), 27, "Unknown disk name 'foo' and no address specified"),
    (_domain(devices=_disk() * 2), 27, "target 'vda' duplicated for disk sources '/x' and '/x'"),
    (_domain(devices=_disk("<driver type='foo'/>")), 67, "unknown driver format value 'foo'"),
    (_domain(devices=_disk("<driver name='tap'/>")), 67, "unsupported driver name 'tap' for disk 'vda'"),
    (_domain(devices=_disk("<driver cache='foo'/>")), 27, "attribute 'cache' in element 'driver': 'foo'."),
    (_domain(devices="<controller type='usb' index='0'/>" * 2), 27, "Duplicate USB controllers with index 0"),
    (_domain(devices="<serial type='foo'/>"), 67, "unknown type presented to host for character device: foo"),
    (_domain(devices="<serial type='unix'/>"), 1, "Missing source path attribute for char device"),
    (_domain(devices="<serial type='tcp'/>"), 1, "Missing source host attribute for char device"),
    (_domain(devices="<channel type='unix'/>"), 27, "target type must be specified for channel device"),
    (_domain(devices="<channel type='unix'><target type='foo'/></channel>"), 67, "unknown target type 'foo'"),
    (
        _domain(devices="<graphics type='vnc' listen='::1'><listen type='address' address='::2'/></graphics>"),
        67,
        "must match 'address' attribute of first listen element (found '::2')",
    ),
    (_domain(devices="<rng model='virtio'/>"), 27, "only one RNG backend is supported"),
    (_domain(devices="<memballoon model='none'/>" * 2), 1, "only a single memory balloon device is supported"),
    (_domain(devices="<input type='foo'/>"), 67, "unknown input device type 'foo'"),
    (_qemu("<qemu:env name='1'/>"), 1, "must begin"),
    (_qemu("<qemu:env name='a-'/>"), 1, "contain only"),
    (_qemu("<qemu:env/>"), 1, "No qemu environment"),
    (_qemu("<qemu:arg/>"), 1, "No qemu command-line"),
]


@pytest.mark.parametrize(("text", "code", "says"), REFUSED)
def test_a_bad_domain_is_refused_in_libvirts_words(text: str, code: int, says: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_domain(text)
    assert says in caught.value.message
    assert code == caught.value.code
    assert all(problem.line is not None for problem in caught.value.problems)


def test_companions_of_a_usb_controller_share_its_index() -> None:
    parse_domain(
        _domain(
            devices="<controller type='usb' index='0' model='ich9-ehci1'/>"
            "<controller type='usb' index='0' model='ich9-uhci1'><master startport='0'/></controller>"
        )
    )


def test_a_console_may_have_the_alias_of_its_serial_port() -> None:
    parse_domain(_domain(devices="<serial><alias name='ua-s'/></serial><console><alias name='ua-s'/></console>"))
