"""A connection that a client has given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from virlet.errors import BadConfig, ErrorCode
from virlet.model.domain import parse_interface
from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.net.choose import Registry, choose
from virlet.net.passt import Passt
from virlet.net.sockets import Sockets
from virlet.plan.base import Given
from virlet.plan.hotplug import heat

EnvOf = Callable[..., Env]
AMONG = Registry((Passt(), Sockets()))
XML = """<interface type='{kind}' xmlns:virlet='https://virlet.dev/schemas/domain/1'>{more}
<mac address='52:54:00:00:00:09'/><model type='virtio'/><virlet:backend name='{name}' fdgroup='g'/></interface>"""


def nic(more: str = "", *, kind: str = "user", name: str = "socket") -> Interface:
    made, _ = parse_interface(XML.format(kind=kind, more=more, name=name))
    return replace(made, alias="net0")


def env(env_of: EnvOf, *kinds: str, netdevs: Any = None) -> Env:
    made = env_of(netdevs=netdevs or {"socket": frozenset({"fd"}), "stream": frozenset()})
    return replace(made, facts=replace(made.facts, given={"g": kinds} if kinds else {}))


@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_qemu_gets_the_descriptor_cold_and_hot(env_of: EnvOf, kind: str) -> None:
    here = env(env_of, kind)
    choice = choose(nic(), here, AMONG)
    assert choice.backend is AMONG.backends[1]
    plan = choice.backend.plan(nic(), here)
    assert plan.netdev == {"type": "socket", "fd": Given("g"), "id": "hostnet0"}
    assert (plan.helper, plan.fds) == (None, (Given("g"),))
    hot = heat(plan)
    assert [send.source for send in hot.sends] == [Given("g")]
    assert hot.netdev_add.arguments["fd"] == hot.sends[0].name


@pytest.mark.parametrize(
    ("kinds", "said"),
    [
        ((), "file descriptor group 'g' was not associated with the domain"),
        (("stream", "stream"), "file descriptor group 'g' has 2 descriptors"),
        (("it listens",), "the descriptor of group 'g' cannot carry a network: it listens"),
    ],
)
def test_what_was_not_given_or_cannot_carry_is_refused(env_of: EnvOf, kinds: tuple[str, ...], said: str) -> None:
    (problem,) = choose(nic(), env(env_of, *kinds), AMONG).problems
    assert (problem.path, problem.message) == ("devices/interface[1]/virlet:backend/@fdgroup", said)
    assert problem.code == ErrorCode.INVALID_ARG
    assert problem.hint


@pytest.mark.parametrize(
    "more",
    [
        "<ip address='10.0.0.1'/>",
        "<portForward proto='tcp'><range start='2022' to='22'/></portForward>",
    ],
)
def test_what_nobody_would_hear_is_refused(env_of: EnvOf, more: str) -> None:
    (problem,) = choose(nic(more), env(env_of, "stream"), AMONG).problems
    assert problem.message == "a connection that was given decides this at its other end"


def test_a_qemu_without_socket_cannot(env_of: EnvOf) -> None:
    here = env(env_of, "stream", netdevs={"stream": frozenset(), "dgram": frozenset()})
    (problem,) = choose(nic(), here, AMONG).problems
    assert "-netdev socket" in problem.message


@pytest.mark.parametrize(
    ("more", "kind", "name", "said"),
    [
        ("", "user", "passt", "the backend 'passt' takes no file descriptor group"),
        ("", "null", "socket", "can only be used with interface type='user', without passt"),
        ("<backend type='passt'/>", "user", "socket", "can only be used with interface type='user', without passt"),
    ],
)
def test_a_group_is_for_one_backend_on_one_type(more: str, kind: str, name: str, said: str) -> None:
    with pytest.raises(BadConfig, match=said):
        nic(more, kind=kind, name=name)


def test_an_interface_without_a_group_is_not_theirs() -> None:
    plain, _ = parse_interface("<interface type='user'><mac address='52:54:00:00:00:09'/></interface>")
    assert not Sockets().handles(plain)
