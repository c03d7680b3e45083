"""What QEMU's own user network is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virlet.model.interface import Interface
from virlet.net.base import Env, NetBackend
from virlet.net.slirp import Slirp

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]


def test_it_is_a_backend_for_interfaces_that_name_none(nic_of: NicOf) -> None:
    assert isinstance(Slirp(), NetBackend)
    assert Slirp().handles(nic_of())
    assert not Slirp().handles(nic_of(passt=True))


@pytest.mark.parametrize(
    ("inside", "netdev"),
    [
        ("", {"type": "user", "id": "hostnet0"}),
        ("<ip address='172.17.2.0' prefix='24'/>", {"type": "user", "net": "172.17.2.0/24", "id": "hostnet0"}),
        ("<ip address='172.17.2.0'/>", {"type": "user", "net": "172.17.2.0", "id": "hostnet0"}),
        ("<ip address='2001:db8::'/>", {"type": "user", "ipv6-prefix": "2001:db8::", "id": "hostnet0"}),
        (
            "<ip address='172.17.2.0' prefix='24'/><ip address='2001:db8::' family='ipv6' prefix='64'/>",
            {
                "type": "user",
                "net": "172.17.2.0/24",
                "ipv6-prefix": "2001:db8::",
                "ipv6-prefixlen": 64,
                "id": "hostnet0",
            },
        ),
    ],
)
def test_the_netdev_is_libvirts(inside: str, netdev: dict[str, object], nic_of: NicOf, env_of: EnvOf) -> None:
    plan = Slirp().plan(nic_of(inside), env_of())
    assert list(plan.netdev.items()) == list(netdev.items())
    assert plan.helper is None
    assert plan.fds == ()


def test_a_range_is_one_forward_for_each_port_without_those_that_are_excluded(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(
        "<portForward proto='tcp' address='127.0.0.1'><range start='8022' end='8024' to='22'/>"
        "<range start='8023' exclude='yes'/></portForward><portForward proto='udp'><range start='9000'/></portForward>"
    )
    assert Slirp().plan(nic, env_of()).netdev["hostfwd"] == (
        {"str": "tcp:127.0.0.1:8022-:22"},
        {"str": "tcp:127.0.0.1:8024-:24"},
        {"str": "udp::9000-:9000"},
    )


@pytest.mark.parametrize(
    ("inside", "path", "said"),
    [
        ("<portForward proto='tcp'/>", "portForward[1]", "all ports"),
        ("<portForward proto='tcp'><range start='9' exclude='yes'/></portForward>", "portForward[1]", "all ports"),
        (
            "<portForward proto='tcp' dev='lo'><range start='8022'/></portForward>",
            "portForward[1]/@dev",
            "one host interface",
        ),
        (
            "<portForward proto='tcp' address='::1'><range start='8022'/></portForward>",
            "portForward[1]/@address",
            "an IPv6 address",
        ),
        (
            "<portForward proto='tcp'><range start='2000' end='60000'/></portForward>",
            "portForward[1]",
            "more than 4096 ports",
        ),
        ("<portForward proto='tcp'><range start='22'/></portForward>", "portForward[1]/range[1]", "only root"),
    ],
)
def test_what_slirp_cannot_forward_is_refused_by_name(
    inside: str, path: str, said: str, nic_of: NicOf, env_of: EnvOf
) -> None:
    (problem,) = Slirp().check(nic_of(inside), env_of())
    assert problem.path == f"devices/interface[1]/{path}"
    assert said in problem.message
    assert problem.hint


def test_a_qemu_without_slirp_is_a_no(env_of: EnvOf) -> None:
    env = env_of(netdevs={"stream": frozenset()})
    assert "without -netdev user" in Slirp().judge(env.facts, env.qemu).reason


def test_a_host_device_that_is_named_is_not_ignored(nic_of: NicOf, env_of: EnvOf) -> None:
    (problem,) = Slirp().check(nic_of("<source dev='eth0'/>"), env_of())
    assert problem.path.endswith("/source/@dev")
