"""What security modules mean for passt, and the command that would allow it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virlet.net.passt_args import judge_passt
from virlet.plan.facts import Facts, SecurityFacts, Support
from virlet.plan.security import fetched_anew, judge_security, unlock_passt

NO = Support(False, "passt: cannot make a user namespace", "start it by hand")
UBUNTU = SecurityFacts(apparmor=True, userns_by_profile=True)
PROFILED = replace(UBUNTU, passt_profile="/etc/apparmor.d/usr.bin.passt")


def said(facts: SecurityFacts, passt: Support | None = None) -> dict[str, Support]:
    return dict(judge_security(facts, passt))


def test_a_host_without_any_is_all_yes() -> None:
    found = said(SecurityFacts())
    assert list(found) == ["user namespaces", "AppArmor", "SELinux", "Yama"]
    assert all(found.values())


@pytest.mark.parametrize(
    ("facts", "command"),
    [
        (SecurityFacts(userns_most=0), "sysctl -w user.max_user_namespaces=10000"),
        (SecurityFacts(userns_clone=False), "sysctl -w kernel.unprivileged_userns_clone=1"),
        (UBUNTU, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0"),
    ],
)
def test_what_forbids_user_namespaces_is_named_with_the_command(facts: SecurityFacts, command: str) -> None:
    verdict = said(facts)["user namespaces"]
    assert not verdict
    assert command in (verdict.hint or "")
    assert unlock_passt(facts) == verdict.hint


def test_a_profile_for_passt_makes_up_for_it_and_says_what_it_allows() -> None:
    found = said(PROFILED)
    assert found["user namespaces"]
    assert unlock_passt(PROFILED) is None
    assert "usr.bin.passt" in found["AppArmor"].reason
    assert "pcap-file" in found["AppArmor"].reason


@pytest.mark.parametrize(
    ("selinux", "passt", "ok"),
    [("enforcing", NO, False), ("enforcing", Support(True), True), ("permissive", NO, True), ("enforcing", None, True)],
)
def test_selinux_is_to_blame_only_when_it_enforces_and_passt_may_not_run(
    selinux: str, passt: Support | None, ok: bool
) -> None:
    verdict = said(SecurityFacts(selinux=selinux, passt_policy=True), passt)["SELinux"]
    assert verdict.ok is ok
    assert selinux in verdict.reason
    assert ok or "ausearch" in (verdict.hint or "")


def test_the_backend_hands_the_command_on(facts: Facts) -> None:
    assert facts.passt is not None
    locked = replace(facts, passt=replace(facts.passt, may_run=NO))
    assert judge_passt(locked).hint == "start it by hand"
    assert "apparmor_restrict" in (judge_passt(replace(locked, security=UBUNTU)).hint or "")


@pytest.mark.parametrize(
    ("scope", "own", "other"), [(0, True, True), (1, True, False), (2, False, False), (3, False, False)]
)
def test_who_lets_a_later_daemon_fetch_its_descriptors(scope: int, own: bool, other: bool) -> None:
    facts = SecurityFacts(ptrace_scope=scope)
    assert fetched_anew(facts, grants=True) is own
    assert fetched_anew(facts, grants=False) is other
    verdict = said(facts)["Yama"]
    assert bool(verdict) is own
    assert scope == 0 or f"ptrace_scope is {scope}" in verdict.reason
    assert own or "ptrace_scope=1" in (verdict.hint or "")
