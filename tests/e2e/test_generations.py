"""What only newer programs can do: it works where they can, and is refused by name, with a way out, where they cannot.

Each test asks the installed program itself and holds on every generation; none looks at a version.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator

import pytest
from domains import domain
from session import Session, console_of, session

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

LATER_MACHINE = "pc-q35-9.2"
LATER_CPU = "SierraForest"


@pytest.fixture(scope="module")
def one() -> Iterator[Session]:
    with session() as fresh:
        fresh.start_daemon()
        yield fresh


def said(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30, check=False)
    return done.stdout + done.stderr


def passt_nic(backend: str) -> str:
    return f"<interface type='user'><model type='virtio'/><backend type='passt' {backend}/></interface>"


def refused(one: Session, xml: str) -> str:
    """The error of define, or of start where the definition alone is fine; nothing stays either way."""
    path = one.base / "later.xml"
    path.write_text(xml)
    before = one.processes().keys()
    text = one.virsh("define", str(path), check=False)
    if "error:" not in text:
        text = one.virsh("start", "later", check=False)
        assert one.virsh("domstate", "later") == "shut off"
        one.virsh("undefine", "later")
    assert "error:" in text
    assert "later" not in one.virsh("list", "--all", "--name").split()
    assert one.processes().keys() <= before
    assert one.runtime_files() == []
    return text


@pytest.mark.parametrize(("option", "value"), [("hostname", "alpha"), ("fqdn", "alpha.example.org")])
def test_a_name_for_the_guest_is_offered_or_refused_with_the_reason(
    one: Session, option: str, value: str, leaks_allowed: None
) -> None:
    xml = domain("later", passt_nic(f"{option}='{value}'"))
    if f"--{option}" not in said("passt", "--help"):
        text = refused(one, xml)
        assert f"it has no --{option}" in text
        assert "/usr/bin/passt" in text
        assert re.search(r"line \d+", text), text
        return
    one.define(xml)
    one.virsh("start", "later")
    console = console_of(one, "later")
    console.ready(90)
    if option == "hostname":
        assert console.lease.hostname == value
    one.virsh("destroy", "later")
    one.virsh("undefine", "later")


def test_a_machine_type_is_started_or_refused_by_name(one: Session, leaks_allowed: None) -> None:
    xml = domain("later", machine=LATER_MACHINE, cmdline="console=ttyS0 quiet virlet.nonet")
    if not re.search(rf"^{re.escape(LATER_MACHINE)}\s", said("qemu-system-x86_64", "-machine", "help"), re.MULTILINE):
        assert LATER_MACHINE in refused(one, xml)
        return
    one.define(xml)
    one.virsh("start", "later")
    console_of(one, "later").ready(90)
    assert f"machine='{LATER_MACHINE}'" in one.virsh("dumpxml", "later")
    one.virsh("destroy", "later")
    one.virsh("undefine", "later")


def test_a_cpu_model_is_started_or_refused_by_name(one: Session, leaks_allowed: None) -> None:
    cpu = f"<cpu mode='custom' match='exact' check='none'><model fallback='forbid'>{LATER_CPU}</model></cpu>"
    xml = domain("later", extra=cpu, cmdline="console=ttyS0 quiet virlet.nonet")
    if LATER_CPU not in said("qemu-system-x86_64", "-cpu", "help"):
        assert LATER_CPU in refused(one, xml)
        return
    one.define(xml)
    one.virsh("start", "later")
    one.virsh("destroy", "later")
    one.virsh("undefine", "later")
