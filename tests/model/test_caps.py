from __future__ import annotations

from pathlib import Path

import pytest
from lxml import etree

from virlet.model.caps import (
    CapsCell,
    CapsCpu,
    CapsDevice,
    CapsMachine,
    CpuModelCaps,
    DomainCaps,
    GuestCaps,
    HostCaps,
    capabilities_xml,
    domain_capabilities_xml,
)

SCHEMAS = Path("/usr/share/libvirt/schemas")
HOST = HostCaps(
    uuid="49b1d3cc-8150-4e5f-81a1-a3dcb278ef7e",
    arch="x86_64",
    cpu_model="a <model>",
    cpu_vendor="AMD",
    cores=2,
    cells=(CapsCell(0, 5335252, (CapsCpu(0), CapsCpu(1, core_id=1, siblings="1"))),),
)
GUEST = GuestCaps("x86_64", "/usr/bin/qemu-system-x86_64", (CapsMachine("pc-q35-7.2", 288, "q35", True),), kvm=True)
DOMAIN = DomainCaps(
    path="/usr/bin/qemu-system-x86_64",
    domain="kvm",
    machine="pc-q35-7.2",
    arch="x86_64",
    max_vcpus=288,
    host_passthrough=True,
    host_model="EPYC",
    models=(CpuModelCaps("qemu64", True), CpuModelCaps("old", False)),
    loaders=("/usr/share/OVMF/OVMF_CODE.fd",),
    devices=(
        CapsDevice("disk", True, {"diskDevice": ("disk", "cdrom"), "bus": ("virtio", "sata")}),
        CapsDevice("graphics", True, {"type": ("vnc",)}),
        CapsDevice("hostdev", False),
    ),
    features={
        "gic": False,
        "vmcoreinfo": True,
        "genid": False,
        "backingStoreInput": True,
        "backup": False,
        "sev": False,
    },
)


def _valid(text: str, schema: str) -> etree._Element:
    path = SCHEMAS / schema
    assert path.exists(), "install the package libvirt0, which has libvirt's schemas"
    rules = etree.RelaxNG(etree.parse(str(path)))
    root = etree.fromstring(text)
    assert rules.validate(root), rules.error_log
    return root


def test_capabilities_validate_and_offer_alias_and_name() -> None:
    root = _valid(capabilities_xml(HOST, [GUEST]), "capability.rng")
    machines = [(one.text, one.get("canonical")) for one in root.iter("machine")]
    assert machines == [("pc-q35-7.2", None), ("q35", "pc-q35-7.2")]
    assert [one.get("type") for one in root.findall(".//arch/domain")] == ["qemu", "kvm"]
    assert root.findtext("host/cpu/model") == "a <model>"


@pytest.mark.parametrize("kvm", [True, False])
def test_kvm_is_offered_only_where_it_works(kvm: bool) -> None:
    text = capabilities_xml(HOST, [GuestCaps("x86_64", "/q", (), kvm=kvm)])
    assert ("<domain type='kvm'/>" in text) is kvm


def test_domain_capabilities_validate() -> None:
    root = _valid(domain_capabilities_xml(DOMAIN), "domaincaps.rng")
    assert root.find("devices/hostdev").get("supported") == "no"
    assert [one.text for one in root.findall("devices/disk/enum[@name='bus']/value")] == ["virtio", "sata"]
    assert root.findtext("cpu/mode[@name='host-model']/model") == "EPYC"


def test_without_kvm_no_host_cpu_is_offered() -> None:
    bare = DomainCaps("/q", "qemu", "pc", "x86_64", 1)
    root = _valid(domain_capabilities_xml(bare), "domaincaps.rng")
    modes = {one.get("name"): one.get("supported") for one in root.findall("cpu/mode")}
    assert modes == {"host-passthrough": "no", "maximum": "yes", "host-model": "no", "custom": "no"}
