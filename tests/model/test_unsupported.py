from __future__ import annotations

from pathlib import Path

from virlet.model.domain import Domain
from virlet.model.unsupported import IGNORED, REASONS, check_supported
from virlet.xml import load
from virlet.xml.walk import bare

GOLDEN = Path(__file__).parent / "golden"


def _paths(name: str) -> set[str]:
    domain = load(Domain, (GOLDEN / f"{name}.xml").read_text()).value
    return {bare(problem.path) for problem in check_supported(domain)}


def test_everyday_domains_are_supported() -> None:
    assert _paths("everyday") == set()
    assert _paths("passt") == set()
    assert _paths("virt-install") == set()


def test_what_cannot_be_honoured_is_refused_by_name() -> None:
    found = _paths("machine")
    assert {"devices/hostdev", "devices/tpm", "numatune", "launchSecurity", "memoryBacking/hugepages"} <= found
    assert "devices/graphics/@type" in _paths("lines")


def test_the_problem_says_what_to_do() -> None:
    domain = load(Domain, (GOLDEN / "machine.xml").read_text()).value
    problem = next(one for one in check_supported(domain) if one.path == "devices/tpm[1]")
    assert problem.message == "element <tpm> is not supported: virlet cannot do this yet"
    assert problem.hint == "remove it to start 'machine'"


def test_nothing_is_both_refused_and_ignored() -> None:
    assert not set(REASONS) & set(IGNORED)


def test_every_reason_is_about_something_that_a_golden_file_says() -> None:
    said = set().union(*(_paths(path.stem) for path in GOLDEN.glob("*.xml")))
    assert set(REASONS) - said == {"throttlegroups", "qemu:capabilities", "qemu:deprecation", "qemu:override"}
