"""The helper beside QEMU: who may use it, what it is told, and what it cannot do."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from virlet.model.domain import format_device, parse_interface
from virlet.net.choose import Registry, choose
from virlet.net.passt import Passt
from virlet.net.slirp import Slirp
from virlet.net.slirp_helper import SlirpHelper
from virlet.plan.base import OnLoss, PairEnd, Ready, render, render_json
from virlet.plan.facts import SlirpHelperFacts, Support
from virlet.slirp.options import FEATURES, parse_options

HELPER = SlirpHelperFacts(("/usr/bin/virlet-slirp-helper",), Support(True), frozenset(FEATURES), "4.7.0")
NETDEVS = {"dgram": frozenset({"local"}), "user": frozenset({"net"}), "stream": frozenset({"addr"})}
OURS = Registry((Passt(), SlirpHelper(), Slirp()))


@pytest.fixture
def env(env_of) -> Any:  # type: ignore[no-untyped-def]
    made = env_of(netdevs=NETDEVS)
    return replace(made, facts=replace(made.facts, slirp_helper=HELPER))


def number(source: object) -> int:
    return {PairEnd("net0", 0, True): 10, PairEnd("net0", 1, True): 11, PairEnd("net0-life", 1): 12}[source]  # type: ignore[index]


def words(plan: Any) -> list[str]:
    return render(plan.helper.argv, number)


def test_what_it_is_told_it_understands_and_means_qemus_network(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    plan = SlirpHelper().plan(nic_of("<model type='virtio'/>"), env)
    said = words(plan)
    assert said[0] == "/usr/bin/virlet-slirp-helper"
    options = parse_options(said[1:])
    assert options is not None
    assert (options.fd, options.exit_with_fd, options.mtu) == (11, 12, 65520)
    assert str(options.network.net) == "10.0.2.0/24"
    assert str(options.network.dhcp_start) == "10.0.2.15"
    assert str(options.network.host) == "10.0.2.2"
    assert str(options.network.dns) == "10.0.2.3"
    assert str(options.network.prefix6) == "fec0::"


def test_qemu_gets_the_other_end_and_holds_what_a_successor_needs(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    plan = SlirpHelper().plan(nic_of("<model type='virtio'/>"), env)
    assert render_json(plan.netdev, number) == {
        "type": "dgram",
        "local": {"type": "fd", "str": "10"},
        "id": "hostnet0",
    }
    assert plan.fds == (PairEnd("net0", 0, True),)
    assert set(plan.keeps) == {PairEnd("net0", 1, True), PairEnd("net0-life", 0), PairEnd("net0-life", 1)}
    assert plan.helper.on_loss is OnLoss.REUSE


def test_a_virtio_card_is_told_the_mtu_and_another_stays_at_ethernets(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    assert SlirpHelper().plan(nic_of("<model type='virtio'/>"), env).device["host_mtu"] == 65520
    plan = SlirpHelper().plan(nic_of("<model type='e1000'/>"), env)
    assert "host_mtu" not in plan.device
    assert words(plan)[words(plan).index("--mtu") + 1] == "1500"


def test_an_address_names_the_network(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    options = parse_options(words(SlirpHelper().plan(nic_of("<ip address='172.17.1.1' prefix='16'/>"), env))[1:])
    assert options is not None
    assert str(options.network.net) == "172.17.0.0/16"
    assert str(options.network.dhcp_start) == "172.17.2.15"


def test_each_port_is_one_word_and_awaited(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    inside = (
        "<portForward proto='tcp' address='127.0.0.1'><range start='2022' end='2023' to='22'/></portForward>"
        "<portForward proto='udp' address='::1'><range start='5353'/></portForward>"
    )
    plan = SlirpHelper().plan(nic_of(inside), env)
    said = words(plan)
    assert [said[n + 1] for n, word in enumerate(said) if word == "--hostfwd"] == [
        "tcp:127.0.0.1:2022-:22",
        "tcp:127.0.0.1:2023-:23",
        "udp:[::1]:5353-:5353",
    ]
    assert plan.helper.ready is Ready.PORTS_LISTEN


def test_another_program_is_told_only_what_it_says_it_knows(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    other = SlirpHelperFacts(("/opt/slirp",), Support(True), frozenset({"ipv4", "ipv6"}))
    env = replace(env, facts=replace(env.facts, slirp_helper=other))
    plan = SlirpHelper().plan(nic_of("<model type='virtio'/>"), env)
    assert not {"--mtu", "--guest-mac", "--exit-with-fd", "--hostfwd"} & set(words(plan))
    assert "host_mtu" not in plan.device
    forward = nic_of("<portForward proto='tcp'><range start='2022'/></portForward>")
    assert [each.message for each in SlirpHelper().check(forward, env)] == ["/opt/slirp cannot forward ports"]


@pytest.mark.parametrize(
    ("inside", "text"),
    [
        ("<portForward proto='tcp'/>", "all ports"),
        ("<portForward proto='tcp' dev='lo'><range start='2022'/></portForward>", "one host interface"),
        ("<portForward proto='tcp'><range start='2000' end='9000'/></portForward>", "more than 4096"),
        ("<portForward proto='tcp'><range start='22'/></portForward>", "below 1024"),
    ],
)
def test_what_it_cannot_do_is_said_by_name(nic_of, env, inside: str, text: str) -> None:  # type: ignore[no-untyped-def]
    assert any(text in problem.message for problem in SlirpHelper().check(nic_of(inside), env))


def test_without_libslirp_it_is_a_no_with_the_packages_name(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    no = replace(HELPER, may_run=Support(False, "libslirp cannot be loaded", "install the package 'libslirp0'"))
    env = replace(env, facts=replace(env.facts, slirp_helper=no))
    said = SlirpHelper().judge(env.facts, env.qemu)
    assert not said
    assert "libslirp0" in (said.hint or "")


def test_a_qemu_without_dgram_cannot_talk_to_it_and_one_without_slirp_can(env) -> None:  # type: ignore[no-untyped-def]
    assert not SlirpHelper().judge(env.facts, replace(env.qemu, netdevs={"user": frozenset()}))
    assert SlirpHelper().judge(env.facts, replace(env.qemu, netdevs={"dgram": frozenset()}))


def test_it_comes_after_passt_and_before_the_built_in_one(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    assert choose(nic_of(), env, OURS).backend.name == "passt"
    without = replace(env, facts=replace(env.facts, passt=None))
    assert choose(nic_of(), without, OURS).backend.name == "slirp-helper"
    neither = replace(env, facts=replace(env.facts, passt=None, slirp_helper=None))
    assert choose(nic_of(), neither, OURS).backend.name == "slirp"


def forced(nic_of: Any, name: str, **options: Any) -> Any:
    return nic_of(f"<v:backend xmlns:v='https://virlet.dev/schemas/domain/1' name='{name}'/>", **options)


@pytest.mark.parametrize("name", ["passt", "slirp-helper", "slirp"])
def test_a_backend_that_the_xml_forces_is_the_one(nic_of, env, name: str) -> None:  # type: ignore[no-untyped-def]
    choice = choose(forced(nic_of, name), env, OURS)
    assert choice.backend is not None
    assert choice.backend.name == name
    assert "asks for it" in choice.why[0]


def test_no_other_backend_is_tried_when_one_is_forced(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    env = replace(env, facts=replace(env.facts, slirp_helper=None))
    choice = choose(forced(nic_of, "slirp-helper"), env, OURS)
    assert choice.backend is None
    assert len(choice.problems) == 1


@pytest.mark.parametrize(
    ("name", "passt", "text"), [("slurp", False, "no backend 'slurp'"), ("slirp", True, "does not")]
)
def test_a_name_that_cannot_be_is_refused_with_those_that_can(nic_of, env, name: str, passt: bool, text: str) -> None:  # type: ignore[no-untyped-def]
    choice = choose(forced(nic_of, name, passt=passt), env, OURS)
    assert choice.backend is None
    assert text in choice.problems[0].message
    assert "passt" in (choice.problems[0].hint or "")


def test_the_element_is_read_printed_and_read_again() -> None:
    text = (
        "<interface type='user'><mac address='52:54:00:12:34:56'/>"
        "<v:backend xmlns:v='https://virlet.dev/schemas/domain/1' name='slirp-helper'/></interface>"
    )
    nic, _ = parse_interface(text)
    assert nic.forced_backend == "slirp-helper"
    printed = format_device(nic, secure=True)
    assert "<virlet:backend name='slirp-helper'/>" in printed
    assert parse_interface(printed)[0] == nic


def test_the_plan_is_json_for_qemu(nic_of, env) -> None:  # type: ignore[no-untyped-def]
    json.dumps(render_json(SlirpHelper().plan(nic_of(), env).netdev, number))


@pytest.mark.parametrize(
    ("scope", "grants", "told"), [(0, False, False), (1, True, False), (1, False, True), (2, True, True)]
)
def test_what_a_kernel_that_forbids_tracing_costs_is_told(scope: int, grants: bool, told: bool, env) -> None:  # type: ignore[no-untyped-def]
    features = HELPER.features - (frozenset() if grants else {"set-ptracer"})
    facts = replace(
        env.facts,
        slirp_helper=replace(HELPER, features=features),
        security=replace(env.facts.security, ptrace_scope=scope),
    )
    support = SlirpHelper().judge(facts, env.qemu)
    assert support
    assert ("ptrace_scope" in support.reason) is told
