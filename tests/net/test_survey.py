"""Every backend's yes or no to an interface."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virlet.model.interface import ForcedBackend, Interface, InterfaceType
from virlet.net.base import Env
from virlet.net.choose import choose, registry
from virlet.net.survey import Verdict, survey
from virlet.plan.facts import PasstFacts, Support
from virlet.xml.declare import replace

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]
FORBIDDEN = PasstFacts("/usr/bin/passt", frozenset({"fd", "foreground"}), Support(False, "no user namespaces", "allow"))


def verdicts(nic: Interface, env: Env) -> dict[str, Verdict]:
    found = survey(nic, env, registry())
    assert [each.name for each in found] == [each.name for each in registry().backends]
    return {each.name: each for each in found}


def test_every_backend_answers_also_those_that_come_after_the_choice(nic_of: NicOf, env_of: EnvOf) -> None:
    found = verdicts(nic_of(), env_of())
    assert found["passt"].chosen
    assert found["passt"].support
    assert found["slirp"].support
    assert not found["slirp"].chosen
    assert not found["slirp-helper"].support  # Nobody has looked for it in these facts.
    assert found["slirp-helper"].support.hint
    assert found["qemu-passt"].concerned
    assert "has no -netdev" in found["qemu-passt"].support.reason
    assert {name for name, each in found.items() if not each.concerned} >= {"bridge", "ethernet", "vhostuser", "null"}
    assert all(each.support.reason for each in found.values())


def test_what_a_backend_cannot_do_is_its_reason_with_what_helps(nic_of: NicOf, env_of: EnvOf) -> None:
    found = verdicts(nic_of("<portForward proto='tcp'/>"), env_of())["slirp"]
    assert not found.support
    assert "cannot forward all ports" in found.support.reason
    assert found.support.hint


def test_where_nobody_can_carry_it_each_one_has_its_reason(nic_of: NicOf, env_of: EnvOf) -> None:
    found = verdicts(nic_of("<portForward proto='tcp'/>"), env_of(passt=FORBIDDEN))
    assert not any(each.chosen or each.support for each in found.values())
    assert "no user namespaces" in found["passt"].support.reason


@pytest.mark.parametrize(("passt", "forced", "said"), [(True, None, "passt"), (False, "slirp", "slirp")])
def test_one_that_is_named_is_the_reason_of_the_others(
    passt: bool, forced: str | None, said: str, nic_of: NicOf, env_of: EnvOf
) -> None:
    nic = replace(nic_of(passt=passt), forced=ForcedBackend(name=forced) if forced else None)
    found = verdicts(nic, env_of())
    assert found[said].chosen
    other = "slirp" if passt else "passt"
    assert found[other].support.reason == f"the interface asks for {said}"


def test_one_that_is_never_chosen_by_itself_says_how_it_is_asked_for(nic_of: NicOf, env_of: EnvOf) -> None:
    netdevs = dict.fromkeys(("passt", "hubport", "stream", "socket", "user"), frozenset({"fd"}))
    found = verdicts(nic_of(), env_of(netdevs=netdevs))["qemu-passt"]
    assert not found.support
    assert "<virlet:backend name='qemu-passt'/>" in (found.support.hint or "")


def test_types_that_nobody_carries_concern_nobody(nic_of: NicOf, env_of: EnvOf) -> None:
    found = verdicts(replace(nic_of(), type=InterfaceType.NETWORK), env_of())
    assert not any(each.concerned for each in found.values())


@pytest.mark.parametrize("inside", ["", "<source dev='eth0'/>", "<portForward proto='tcp'/>"])
@pytest.mark.parametrize("passt", [True, False])
def test_it_says_what_the_choice_does(inside: str, passt: bool, nic_of: NicOf, env_of: EnvOf) -> None:
    nic, env = nic_of(inside, passt=passt), env_of()
    chosen = choose(nic, env, registry()).backend
    assert [each.name for each in survey(nic, env, registry()) if each.chosen] == ([chosen.name] if chosen else [])
