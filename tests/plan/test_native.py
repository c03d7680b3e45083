"""Plans to paste."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

from virlet.plan.base import LaunchPlan
from virlet.plan.facts import Facts
from virlet.plan.native import native

GOLDEN = Path(__file__).parent / "golden"


def test_a_shell_reads_back_the_words_of_qemu_and_of_passt(
    facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan]
) -> None:
    text = native(plan_of((GOLDEN / "passt.xml").read_text(), facts))
    lines = [line for line in text.replace("\\\n", "").splitlines() if not line.startswith("#")]
    read = [shlex.split(line) for line in lines]
    assert [words[0] for words in read] == ["mkdir", "mkdir", "/usr/bin/passt", "/usr/bin/passt", facts_path(facts)]
    assert "127.0.0.1/2022:22,5000-5099:1000-1099,~5010-5029" in read[2]
    assert read[2][-2:] == ["2>/home/u/passt.log", "&"]
    assert "console=ttyS0 a,b" in read[4]


def facts_path(facts: Facts) -> str:
    return next(iter(facts.qemu))


def test_every_descriptor_is_explained_once(facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan]) -> None:
    plan = plan_of((GOLDEN / "passt.xml").read_text(), facts)
    told = [line for line in native(plan).splitlines() if line.startswith("# descriptor")]
    assert len(told) == len(plan.fds) + 2
    assert len({line.split()[2] for line in told}) == len(told)


def test_a_password_is_not_shown(facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan]) -> None:
    assert "secret" not in native(plan_of((GOLDEN / "q35.xml").read_text(), facts))


def test_the_users_environment_stands_before_the_program(
    facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan]
) -> None:
    text = native(plan_of((GOLDEN / "consoles.xml").read_text(), facts))
    assert "\nSOME=thing \\\n" in text
