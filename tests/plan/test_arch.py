"""A guest of i686 is one of x86_64 with another emulator and another CPU."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virlet.model.domain import parse_domain
from virlet.net.choose import registry
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import GuestDirs
from virlet.plan.facts import Facts, Support
from virlet.plan.launch import plan_launch

XML = """<domain type='qemu'><name>n</name><uuid>7d6bcd80-9d5b-4c6f-9d1e-5d8c4f8c1a01</uuid>
<memory unit='MiB'>64</memory><os><type arch='{arch}' machine='{machine}'>hvm</type></os><devices>
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface><serial type='pty'/>
<disk type='file'><source file='/d.raw'/><target dev='vda' bus='virtio'/></disk></devices></domain>"""


@pytest.fixture
def both(facts: Facts) -> Facts:
    """The recorded QEMU, and the same for i686."""
    (known,) = facts.qemu.values()
    boards = {name: replace(board, default_cpu="qemu32-i386-cpu") for name, board in known.machines.items()}
    other = replace(known, path="/usr/bin/qemu-system-i386", arch="i686", machines=boards)
    return replace(facts, qemu={known.path: known, other.path: other})


def argv(facts: Facts, dirs: GuestDirs, arch: str, machine: str) -> list[str]:
    qemu = facts.emulator(arch)
    assert qemu is not None
    domain = assign_aliases(assign_defaults(parse_domain(XML.format(arch=arch, machine=machine))[0], qemu))
    return list(map(str, plan_launch(domain, facts, dirs, registry()).argv))


@pytest.mark.parametrize("machine", ["pc", "q35"])
def test_its_plan_differs_in_emulator_and_cpu_alone(both: Facts, dirs: GuestDirs, machine: str) -> None:
    old, new = argv(both, dirs, "i686", machine), argv(both, dirs, "x86_64", machine)
    assert len(old) == len(new)
    assert [pair for pair in zip(old, new, strict=True) if len(set(pair)) > 1] == [
        ("/usr/bin/qemu-system-i386", "/usr/bin/qemu-system-x86_64"),
        ("qemu32", "qemu64"),
    ]


@pytest.mark.parametrize(
    ("arch", "host", "may"), [("i686", "x86_64", True), ("x86_64", "x86_64", True), ("i686", "aarch64", False)]
)
def test_kvm_runs_guests_of_the_hosts_architecture_and_of_its_elder(
    both: Facts, arch: str, host: str, may: bool
) -> None:
    qemu = both.emulator(arch)
    assert qemu is not None
    assert with_kvm(both, host).kvm_for(replace(qemu, accels=frozenset({"kvm", "tcg"}))) is may
    assert not with_kvm(both, host).kvm_for(replace(qemu, accels=frozenset({"tcg"})))


def with_kvm(facts: Facts, host: str) -> Facts:
    return replace(facts, host=replace(facts.host, arch=host, kvm=Support(True)))
