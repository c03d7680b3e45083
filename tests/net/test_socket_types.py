"""Guests wired to each other, and to nothing."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from virlet.model.interface import Interface
from virlet.net.base import Env, NetBackend
from virlet.net.choose import choose, registry
from virlet.net.internal import Internal
from virlet.net.null import Null
from virlet.net.sockets import Sockets

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]
NONE: frozenset[str] = frozenset()
ALL = {"socket": NONE, "stream": NONE, "dgram": NONE, "user": NONE, "hubport": NONE}
NEW = {"stream": NONE, "dgram": NONE}
UDP = "<source address='127.0.0.1' port='5558'><local address='127.0.0.2' port='5559'/></source>"


@pytest.mark.parametrize(
    ("kind", "source", "netdev"),
    [
        ("udp", UDP, {"type": "socket", "udp": "127.0.0.1:5558", "localaddr": "127.0.0.2:5559"}),
        ("mcast", "<source address='230.0.0.1' port='5558'/>", {"type": "socket", "mcast": "230.0.0.1:5558"}),
        ("client", "<source address='192.168.0.1' port='5558'/>", {"type": "socket", "connect": "192.168.0.1:5558"}),
        ("server", "<source address='192.168.0.1' port='5558'/>", {"type": "socket", "listen": "192.168.0.1:5558"}),
        ("server", "<source port='2015'/>", {"type": "socket", "listen": ":2015"}),
    ],
)
def test_the_netdev_is_libvirts(
    kind: str, source: str, netdev: dict[str, object], nic_of: NicOf, env_of: EnvOf
) -> None:
    plan = Sockets().plan(nic_of(source, kind=kind), env_of(netdevs=ALL))
    assert list(plan.netdev.items()) == [*netdev.items(), ("id", "hostnet0")]
    assert (plan.helper, plan.fds, plan.refusals) == (None, (), ())


def _inet(host: str, port: int) -> dict[str, str]:
    return {"type": "inet", "host": host, "port": str(port)}


@pytest.mark.parametrize("netdevs", [ALL, NEW])
def test_an_ipv6_address_needs_the_newer_netdevs(netdevs: object, nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of(netdevs=netdevs)
    client = nic_of("<source address='::1' port='5558'/>", kind="client")
    assert Sockets().plan(client, env).netdev == {
        "type": "stream",
        "addr": _inet("::1", 5558),
        "server": False,
        "id": "hostnet0",
    }
    udp = nic_of("<source address='::1' port='5558'><local address='::1' port='5559'/></source>", kind="udp")
    assert Sockets().plan(udp, env).netdev == {
        "type": "dgram",
        "local": _inet("::1", 5559),
        "remote": _inet("::1", 5558),
        "id": "hostnet0",
    }


def test_a_qemu_without_the_old_netdev_gets_the_newer_ones(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of(netdevs=NEW)
    nic = nic_of("<source address='230.0.0.1' port='5558'/>", kind="mcast")
    assert Sockets().judge(env.facts, env.qemu)
    assert Sockets().plan(nic, env).netdev == {"type": "dgram", "remote": _inet("230.0.0.1", 5558), "id": "hostnet0"}
    env = env_of(netdevs={})
    assert not Sockets().judge(env.facts, env.qemu)


@pytest.mark.parametrize(
    ("kind", "source", "below", "said"),
    [
        ("server", "<source port='70000'/>", "source/@port", "no port 70000"),
        ("client", "<source address='h' port='0'/>", "source/@port", "no port 0"),
        ("udp", UDP.replace("5559", "-1"), "source/local/@port", "no port -1"),
        ("mcast", "<source address='ff02::1' port='5558'/>", "source/@address", "no IPv6"),
    ],
)
def test_what_no_socket_can_be_is_refused(
    kind: str, source: str, below: str, said: str, nic_of: NicOf, env_of: EnvOf
) -> None:
    (problem,) = Sockets().check(nic_of(source, kind=kind), env_of(netdevs=ALL))
    assert problem.path == f"devices/interface[1]/{below}"
    assert said in problem.message


def test_a_group_that_is_none_can_be_shown_but_not_started(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of("<source address='192.0.0.1' port='5558'/>", kind="mcast")
    (problem,) = Sockets().plan(nic, env_of(netdevs=ALL)).refusals
    assert "not a multicast address" in problem.message
    assert "239.192" in (problem.hint or "")


def test_a_card_wired_to_nothing_is_alone_on_its_hub(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of(netdevs=ALL)
    netdev = Null().plan(nic_of(kind="null"), env).netdev
    assert (netdev["type"], netdev["id"]) == ("hubport", "hostnet0")
    assert isinstance(netdev["hubid"], int)
    assert 0 <= netdev["hubid"] < 1 << 31
    assert list(Null().check(nic_of(kind="null"), env)) == []


def test_internal_is_a_user_network_as_with_libvirt(nic_of: NicOf, env_of: EnvOf) -> None:
    netdev = Internal().plan(nic_of("<source name='x'/>", kind="internal"), env_of(netdevs=ALL)).netdev
    assert netdev == {"type": "user", "id": "hostnet0"}


@pytest.mark.parametrize(
    ("kind", "source", "name"),
    [("null", "", "null"), ("internal", "<source name='x'/>", "internal"), ("server", "<source port='9'/>", "socket")],
)
def test_they_are_found_by_entry_point(kind: str, source: str, name: str, nic_of: NicOf, env_of: EnvOf) -> None:
    choice = choose(nic_of(source, kind=kind), env_of(netdevs=ALL), registry())
    assert choice.backend is not None
    assert choice.backend.name == name
    assert isinstance(choice.backend, NetBackend)


@pytest.mark.parametrize(
    ("kind", "source", "binds"),
    [
        ("server", "<source address='127.0.0.1' port='5558'/>", ("tcp", "127.0.0.1", 5558, "source")),
        ("server", "<source port='2015'/>", ("tcp", "0.0.0.0", 2015, "source")),
        ("udp", UDP, ("udp", "127.0.0.2", 5559, "source/local")),
    ],
)
def test_the_port_of_its_own_socket_has_to_be_free(
    kind: str, source: str, binds: tuple[str, str, int, str], nic_of: NicOf, env_of: EnvOf
) -> None:
    env = env_of(netdevs=ALL)
    (bound,) = Sockets().plan(nic_of(source, kind=kind), env).binds
    assert (bound.proto, bound.address, bound.start, bound.path.removeprefix(f"{env.path}/")) == binds


@pytest.mark.parametrize("kind", ["client", "mcast"])
def test_who_calls_others_or_joins_a_group_needs_no_port_of_its_own(kind: str, nic_of: NicOf, env_of: EnvOf) -> None:
    source = "<source address='239.192.0.1' port='5558'/>"
    assert not Sockets().plan(nic_of(source, kind=kind), env_of(netdevs=ALL)).binds
