"""Which backend carries an interface."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virlet.model.interface import Interface, InterfaceType
from virlet.net.base import Env, NetBackend
from virlet.net.choose import REFUSED, Registry, choose, registry, verdicts
from virlet.net.passt import Passt
from virlet.net.slirp import Slirp
from virlet.plan.facts import Facts, PasstFacts, QemuFacts, Support
from virlet.plan.follow import Uplinks
from virlet.plan.hotplug import heat

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]
BOTH = Registry((Passt(), Slirp()))
FORBIDDEN = PasstFacts("/usr/bin/passt", frozenset({"fd", "foreground"}), Support(False, "no user namespaces", "allow"))


def test_our_own_backends_are_found_by_entry_point_the_best_first() -> None:
    found = registry()
    assert [backend.name for backend in found.backends][:4] == ["passt-vhost-user", "passt", "slirp-helper", "slirp"]
    assert registry() is found
    assert isinstance(found.get("slirp"), Slirp)
    assert found.get("nope") is None


def test_passt_is_preferred_and_the_reason_is_said(nic_of: NicOf, env_of: EnvOf) -> None:
    choice = choose(nic_of(), env_of(), BOTH)
    assert choice.backend is BOTH.backends[0]
    assert choice.why == ("passt: the best that can carry it here (/usr/bin/passt was tried and runs)",)


def test_where_passt_may_not_run_built_in_slirp_takes_over_with_its_forwards(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of("<portForward proto='tcp'><range start='8022' to='22'/></portForward>")
    choice = choose(nic, env_of(passt=FORBIDDEN), BOTH)
    assert choice.backend is BOTH.backends[1]
    assert choice.why[0] == "passt is not possible: passt may not run here: no user namespaces"


def test_passt_asked_for_by_name_is_passt_or_nothing(nic_of: NicOf, env_of: EnvOf) -> None:
    choice = choose(nic_of(passt=True), env_of(passt=None), BOTH)
    assert choice.backend is None
    assert [(problem.message, problem.hint) for problem in choice.problems] == [
        ("passt is not installed", "install the package 'passt'")
    ]


def test_what_nobody_can_forward_names_both_reasons(nic_of: NicOf, env_of: EnvOf) -> None:
    choice = choose(nic_of("<portForward proto='tcp'/>"), env_of(passt=None), BOTH)
    assert [problem.message for problem in choice.problems] == [
        "passt is not installed",
        "built-in slirp cannot forward all ports",
    ]


@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_what_needs_root_is_refused_by_name_with_what_to_use_instead(kind: InterfaceType, env_of: EnvOf) -> None:
    choice = choose(Interface(type=kind), env_of(), BOTH)
    (problem,) = choice.problems
    assert problem.path == "devices/interface[1]/@type"
    assert f"'{kind}'" in problem.message
    assert REFUSED[kind][0] in problem.message
    assert problem.hint
    assert problem.code == {"network": 5, "direct": 38, "vdpa": 38}.get(kind, 67)


def test_verdicts_name_every_backend(env_of: EnvOf) -> None:
    env = env_of(passt=FORBIDDEN)
    assert [(name, support.ok) for name, support in verdicts(env.facts, env.qemu, BOTH)] == [
        ("passt", False),
        ("slirp", True),
    ]


OLD = PasstFacts("/usr/bin/passt", frozenset({"fd", "foreground"}), Support(True), needs_route=True)


def test_without_a_route_an_old_passt_that_is_named_waits_for_one(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of(passt=OLD, uplinks=Uplinks())
    choice = choose(nic_of(passt=True), env, BOTH)
    assert choice.backend is BOTH.backends[0]
    assert choice.why[-1] == "passt: nobody else can carry it, so it waits for a default route"
    plan = choice.backend.plan(nic_of(passt=True), env)
    assert plan.helper is not None
    assert plan.helper.waits_for == "a default route"
    assert (plan.link_up, plan.starts_up) == (True, False)
    (link,) = heat(plan).after
    assert (link.name, link.arguments) == ("set_link", {"name": "net0", "up": False})


def test_without_a_route_an_interface_that_names_nobody_does_not_wait(nic_of: NicOf, env_of: EnvOf) -> None:
    choice = choose(nic_of(), env_of(passt=OLD, uplinks=Uplinks()), BOTH)
    assert choice.backend is BOTH.backends[1]
    assert choice.why[0].startswith("passt is not possible yet: this passt refuses to start")


def test_a_route_that_is_there_keeps_nobody_waiting(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of(passt=OLD)
    plan = BOTH.backends[0].plan(nic_of(passt=True), env)
    assert plan.helper is not None
    assert (plan.helper.waits_for, plan.starts_up) == ("", True)


class Foreign(Slirp):
    """A stranger's backend."""

    name = "aardvark"

    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        return Support(True)


def test_a_strangers_backend_is_asked_after_ours(nic_of: NicOf, env_of: EnvOf) -> None:
    foreign: NetBackend = Foreign()
    among = Registry((Passt(), Slirp(), foreign))
    choice = choose(nic_of(), env_of(passt=None, netdevs={"stream": frozenset()}), among)
    assert choice.backend is foreign


def test_a_host_device_that_is_named_is_passts_or_nobodys(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of("<source dev='eth0'/>")
    env = env_of()
    choice = choose(nic, env, BOTH)
    assert choice.backend is BOTH.backends[0]
    helper = BOTH.backends[0].plan(nic, env).helper
    assert helper is not None
    assert "--interface" in helper.argv
    refused = choose(nic, env_of(passt=FORBIDDEN), BOTH)
    assert refused.backend is None
    assert any("cannot choose a host interface" in problem.message for problem in refused.problems)


def test_what_root_has_to_run_for_a_macvtap_can_be_pasted(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of("<source dev='eth0' mode='bridge'/>", kind="direct")
    (problem,) = choose(nic, env_of(), registry()).problems
    assert (
        "ip link add link eth0 name macvtap0 address 52:54:00:12:34:56 type macvtap mode bridge;"
        " ip link set dev macvtap0 up; chown 1000 /dev/tap$(cat /sys/class/net/macvtap0/ifindex)"
    ) in (problem.hint or "")
