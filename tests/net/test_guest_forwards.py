"""Addresses of the guest's network that lead to the host: who is told what, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from virlet.enums import ErrorCode
from virlet.errors import BadConfig
from virlet.model.domain import parse_domain, parse_interface
from virlet.net.choose import choose, registry
from virlet.net.passt import Passt
from virlet.net.slirp import Slirp
from virlet.net.slirp_helper import SlirpHelper
from virlet.plan.base import Access, Forward, render
from virlet.plan.facts import SlirpHelperFacts, Support
from virlet.slirp.options import GuestForward, parse_options
from virlet.testing.scene import example_env

NAMESPACE = "xmlns:virlet='https://virlet.dev/schemas/domain/1'"
THREE = (
    "<virlet:guestForward address='10.0.2.100' port='7' command='/usr/bin/cat -u'/>"
    "<virlet:guestForward address='10.0.2.100' port='80' socket='/run/web.sock'/>"
    "<virlet:guestForward address='10.0.2.101' port='80' host='2001:db8::9'/>"
    "<virlet:guestForward address='10.0.2.101' port='81' host='192.0.2.9' hostPort='8081'/>"
)


def nic(inside: str):  # type: ignore[no-untyped-def]
    found, _ = parse_interface(
        f"<interface type='user' {NAMESPACE}><mac address='52:54:00:12:34:56'/>{inside}</interface>"
    )
    return replace(found, alias="net0")


def test_the_helper_is_told_and_understands() -> None:
    plan = SlirpHelper().plan(nic(THREE), example_env())
    assert plan.helper is not None
    options = parse_options(render(plan.helper.argv, lambda _source: 7)[1:])
    assert options is not None
    assert [(str(each.address), each.port, each.kind, each.target) for each in options.guest_forwards] == [
        ("10.0.2.100", 7, "cmd", "/usr/bin/cat -u"),
        ("10.0.2.100", 80, "unix", "/run/web.sock"),
        ("10.0.2.101", 80, "tcp", "[2001:db8::9]:80"),
        ("10.0.2.101", 81, "tcp", "192.0.2.9:8081"),
    ]
    assert isinstance(options.guest_forwards[0], GuestForward)


def test_qemus_own_is_told_but_for_commands_and_needs_the_socket_at_its_start() -> None:
    without = nic(THREE.partition("/>")[2])
    plan = Slirp().plan(without, example_env())
    assert plan.netdev["guestfwd"] == (
        {"str": "tcp:10.0.2.100:80-unix:/run/web.sock"},
        {"str": "tcp:10.0.2.101:80-tcp:[2001:db8::9]:80"},
        {"str": "tcp:10.0.2.101:81-tcp:192.0.2.9:8081"},
    )
    assert [(need.path, need.access) for need in plan.files] == [(Path("/run/web.sock"), Access.SOCKET)]
    assert list(Slirp().check(without, example_env())) == []
    (problem,) = Slirp().check(nic(THREE), example_env())
    assert (problem.path, "starts no programs" in problem.message) == (
        "devices/interface[1]/virlet:guestForward[1]/@command",
        True,
    )


def test_the_helper_is_chosen_for_them_where_passt_would_be() -> None:
    choice = choose(nic(THREE), replace(example_env(), shared_memory=False), registry())
    assert choice.backend is not None
    assert choice.backend.name == "slirp-helper"
    assert any(each.path.endswith("virlet:guestForward[1]") for each in Passt().check(nic(THREE), example_env()))


def test_another_helper_that_does_not_know_them_is_a_no() -> None:
    env = example_env()
    other = SlirpHelperFacts(("/opt/slirp",), Support(True), frozenset({"ipv4"}))
    env = replace(env, facts=replace(env.facts, slirp_helper=other))
    (problem,) = SlirpHelper().check(nic(THREE), env)
    assert "/opt/slirp leads no address" in problem.message


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("10.0.2.2", "the host's own"),
        ("10.0.2.3", "the nameserver's own"),
        ("10.0.2.15", "the guest's own"),
        ("10.0.3.1", "no address of the guest's network 10.0.2.0/24"),
        ("10.0.2.255", "no address"),
    ],
)
def test_an_address_that_is_somebodys_or_outside_is_refused(address: str, said: str) -> None:
    forward = f"<virlet:guestForward address='{address}' port='7' host='192.0.2.9'/>"
    for backend in (Slirp(), SlirpHelper()):
        (problem,) = backend.check(nic(forward), example_env())
        assert said in problem.message
        assert problem.hint


@pytest.mark.parametrize(
    ("kind", "attributes", "code", "said"),
    [
        ("user", "address='10.0.2.100' port='7'", ErrorCode.XML_ERROR, "leads nowhere"),
        ("user", "address='10.0.2.100' port='7' host='::1' command='x'", ErrorCode.XML_ERROR, "one place"),
        ("user", "address='fec0::9' port='7' host='::1'", ErrorCode.CONFIG_UNSUPPORTED, "IPv4"),
        ("user", "address='10.0.2.100' port='70000' host='::1'", ErrorCode.XML_ERROR, "70000"),
        ("user", "address='10.0.2.100' port='7' socket='/s' hostPort='7'", ErrorCode.XML_ERROR, "no host"),
        ("user", "address='10.0.2.100' port='7' socket='s'", ErrorCode.XML_ERROR, "absolute"),
        ("null", "address='10.0.2.100' port='7' host='::1'", ErrorCode.CONFIG_UNSUPPORTED, "type='user'"),
        ("user", "address='10.0.2.100' port='9' host='::1'", ErrorCode.XML_ERROR, "two places"),
    ],
)
def test_what_means_nothing_is_refused_with_its_line(kind: str, attributes: str, code: ErrorCode, said: str) -> None:
    second = "<virlet:guestForward address='10.0.2.100' port='9' host='::1'/>" if kind == "user" else ""
    with pytest.raises(BadConfig) as caught:
        parse_domain(
            f"<domain type='qemu' {NAMESPACE}><name>g</name><memory>65536</memory><os><type>hvm</type></os><devices>\n"
            f"<interface type='{kind}'>{second}\n<virlet:guestForward {attributes}/></interface></devices></domain>"
        )
    assert caught.value.code == code
    assert said in str(caught.value)
    assert "line 3" in str(caught.value)


def test_ports_that_qemu_listens_on_are_known_before_it_starts() -> None:
    forwards = "<portForward proto='tcp'><range start='2022' end='2023' to='22'/></portForward>"
    plan = Slirp().plan(nic(forwards), example_env())
    path = "devices/interface[1]/portForward[1]/range[1]"
    assert plan.listens_on == (Forward("tcp", "0.0.0.0", None, 2022, 2023, 22, path),)
    helper = SlirpHelper().plan(nic(forwards), example_env())
    assert helper.forwards == ()
    assert [(each.start, each.end) for each in helper.listens_on] == [(2022, 2023)]
