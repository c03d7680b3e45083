"""Whole plans against recorded ones.  To record anew: ``VIRLET_GOLDEN=write pytest tests/plan/test_golden.py``."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from virlet.model.domain import format_domain, parse_domain
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import Dial, FdSource, GuestDirs, LaunchPlan, Listener, LogFile, PairEnd, render, render_json
from virlet.plan.facts import Facts

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.xml") if not path.stem.endswith(".defined"))


def _named(source: FdSource) -> str:
    match source:
        case Listener(path=path):
            return f"<listen {path}>"
        case Dial(path=path):
            return f"<dial {path}>"
        case LogFile(path=path):
            return f"<log {path}>"
        case PairEnd(name=name, end=end):
            return f"<pair {name}.{end}>"
        case _:
            return f"<{type(source).__name__}>"


def told(plan: LaunchPlan) -> dict[str, object]:
    """The plan as JSON that a person can review."""
    argv = render(plan.argv, _named)
    lines: list[str] = []
    for word in argv:
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    return {
        "argv": lines,
        "env": dict(plan.env),
        "fds": [_named(source) for source in plan.fds],
        "nets": [
            {
                "alias": net.alias,
                "backend": net.backend,
                "helper": net.helper and render(net.helper.argv, _named),
                "stderr": net.helper and net.helper.stderr and str(net.helper.stderr),
                "why": net.why,
            }
            for net in plan.nets
        ],
        "before_cont": [[command.name, render_json(command.arguments, _named)] for command in plan.before_cont],
        "leaves": [str(path) for path in plan.leaves],
        "files_needed": [
            f"{need.access.value}: {need.path} ({need.what}, {need.xml_path})" for need in plan.files_needed
        ],
        "tainted": plan.tainted,
        "ptys": plan.ptys,
        "vnc_autoport": plan.vnc_autoport,
    }


def compare(path: Path, text: str) -> None:
    if os.environ.get("VIRLET_GOLDEN") == "write":
        path.write_text(text)
    assert path.read_text() == text


@pytest.mark.parametrize("name", NAMES)
def test_the_plan_is_the_recorded_one(
    name: str, facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan], golden_tag: str
) -> None:
    plan = plan_of((GOLDEN / f"{name}.xml").read_text(), facts)
    compare(GOLDEN / f"{name}.{golden_tag}.json", json.dumps(told(plan), indent=1) + "\n")


@pytest.mark.parametrize("name", NAMES)
def test_the_stored_definition_is_the_recorded_one_and_defining_it_again_changes_nothing(
    name: str, facts: Facts, golden_tag: str
) -> None:
    qemu = next(iter(facts.qemu.values()))
    domain, _ = parse_domain((GOLDEN / f"{name}.xml").read_text())
    stored = assign_defaults(domain, qemu)
    text = format_domain(stored, inactive=True, secure=True)
    compare(GOLDEN / f"{name}.{golden_tag}.defined.xml", text)
    again, _ = parse_domain(text)
    assert assign_defaults(again, qemu) == stored


def test_every_descriptor_is_named_once_and_every_socket_is_removed(
    facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan], dirs: GuestDirs
) -> None:
    for name in NAMES:
        plan = plan_of((GOLDEN / f"{name}.xml").read_text(), facts)
        assert len(set(plan.fds)) == len(plan.fds)
        bound = {source.path for source in plan.fds if isinstance(source, Listener)}
        assert bound <= set(plan.leaves)
        for net in plan.nets:
            assert set(net.fds) <= set(plan.fds)


def test_aliases_are_unique_and_an_alias_of_the_users_own_stays(facts: Facts) -> None:
    qemu = next(iter(facts.qemu.values()))
    for name in NAMES:
        domain, _ = parse_domain((GOLDEN / f"{name}.xml").read_text())
        live = assign_aliases(assign_defaults(domain, qemu))
        devices = live.devices
        aliases = [item.alias for item in devices.disks] + [item.alias for item in devices.interfaces]
        aliases += [item.alias for item in devices.serials] + [item.alias for item in devices.channels]
        aliases += [item.alias for item in devices.inputs] + [item.alias for item in devices.videos]
        assert None not in aliases
        assert len(set(aliases)) == len(aliases)
        if name == "cards":
            assert devices.interfaces[-1].alias == "ua-first"
