"""A guest with QEMU's own passt: what its start is beside the netdev, and what a QEMU without it says."""

from __future__ import annotations

import pytest

from virlet.errors import BadConfig
from virlet.model.domain import parse_domain
from virlet.model.namespaces import VIRLET
from virlet.net.choose import Registry
from virlet.net.passt import Passt
from virlet.net.qemu_passt import QemuPasst
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import GuestDirs, LaunchPlan
from virlet.plan.facts import Facts
from virlet.plan.launch import NO_SANDBOX, plan_launch
from virlet.plan.native import native

XML = f"""<domain type='qemu' xmlns:virlet='{VIRLET}'><name>d</name><memory unit='MiB'>64</memory>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<interface type='user'><model type='virtio'/>FORCED</interface></devices></domain>"""


def planned(facts: Facts, dirs: GuestDirs, backend: str) -> LaunchPlan:
    forced = f"<virlet:backend name='{backend}'/>"
    domain = assign_defaults(parse_domain(XML.replace("FORCED", forced))[0], next(iter(facts.qemu.values())))
    return plan_launch(assign_aliases(domain, dirs), facts, dirs, Registry((Passt(), QemuPasst())))


def test_its_qemu_has_no_sandbox_and_says_so(facts: Facts, dirs: GuestDirs) -> None:
    if "passt" not in next(iter(facts.qemu.values())).netdevs:
        with pytest.raises(BadConfig, match="no -netdev passt"):
            planned(facts, dirs, "qemu-passt")
        return
    plan = planned(facts, dirs, "qemu-passt")
    assert "-sandbox" not in plan.argv
    assert plan.tainted == (NO_SANDBOX,)
    assert plan.confinement.refusal
    text = native(plan)
    assert "/run/v/1/net0.passt is a link to /usr/bin/passt" in text
    assert 'at the monitor: netdev_add {"type": "passt"' in text
    assert plan.nets[0].helper is not None
    assert set(plan.nets[0].helper.leaves) <= set(plan.leaves)


def test_any_other_qemu_has_one(facts: Facts, dirs: GuestDirs) -> None:
    plan = planned(facts, dirs, "passt")
    assert ("-sandbox" in plan.argv) is next(iter(facts.qemu.values())).sandbox
    assert NO_SANDBOX not in plan.tainted
