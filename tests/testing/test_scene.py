"""The example host has what every backend of ours needs, and the bare one nothing."""

from __future__ import annotations

import json
from pathlib import Path

from virlet.net.choose import registry, verdicts
from virlet.testing.scene import example_env, example_facts, recorded_qemu, without_anything

RECORDED = Path(__file__).parents[1] / "plan/facts/qemu-11.1.json"


def test_each_backend_can_run_on_it_with_a_recorded_qemu() -> None:
    facts = example_facts(qemu=recorded_qemu(json.loads(RECORDED.read_text())))
    said = dict(verdicts(facts, next(iter(facts.qemu.values())), registry()))
    assert {name: each.reason for name, each in said.items() if not each.ok} == {}


def test_none_can_on_a_host_without_anything() -> None:
    bare = without_anything(example_facts())
    said = dict(verdicts(bare, next(iter(bare.qemu.values())), registry()))
    assert [name for name, each in said.items() if each.ok] == []


def test_environments_of_two_interfaces_differ_in_their_place_alone() -> None:
    one, other = example_env(), example_env(number=2)
    assert (one.path, other.path) == ("devices/interface[1]", "devices/interface[2]")
    assert (one.runtime, one.logs) == (other.runtime, other.logs)
