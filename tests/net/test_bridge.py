"""Bridges by qemu-bridge-helper, and vhost-user by a socket."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.net.bridge import Bridge
from virlet.net.choose import choose, registry
from virlet.net.vhostuser import VhostUser
from virlet.plan.base import BridgeTap, SocketChardev
from virlet.plan.facts import Link, Support

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]

HELPER = "/usr/lib/qemu/qemu-bridge-helper"
BR0 = Link("br0", 3, "bridge", "02:00:00:00:00:01", up=True, mtu=1500)
ON_BR0 = "<source bridge='br0'/><model type='virtio'/>"
NETDEVS = {"tap": frozenset({"fd"}), "vhost-user": frozenset({"chardev"})}


@pytest.fixture
def env(env_of: EnvOf) -> Env:
    may = Support(True, "it is set-user-ID")
    made = env_of(netdevs=NETDEVS, bridge_helper=HELPER, bridge_helper_may=may)
    return replace(made, facts=replace(made.facts, links={"br0": BR0}), shared_memory=True)


def test_the_helper_is_named_with_the_bridge_and_nothing_else(nic_of: NicOf, env: Env) -> None:
    nic = nic_of(ON_BR0, kind="bridge")
    assert list(Bridge().check(nic, env)) == []
    plan = Bridge().plan(nic, env)
    assert plan.fds == (BridgeTap("net0", "br0", HELPER, vnet_hdr=True),)
    assert list(plan.netdev) == ["type", "fd", "id"]
    assert choose(nic, env, registry()).backend is not None


def test_a_helper_without_rights_is_a_no_with_the_one_command(nic_of: NicOf, env: Env) -> None:
    may = Support(False, "no right", "let root run: chmod u+s it")
    facts = replace(env.facts, host=replace(env.facts.host, bridge_helper_may=may))
    choice = choose(nic_of(ON_BR0, kind="bridge"), replace(env, facts=facts), registry())
    assert [(problem.message, problem.hint) for problem in choice.problems] == [("no right", may.hint)]


@pytest.mark.parametrize(
    ("xml", "said"),
    [
        ("<source bridge='br9'/>", "No such device"),
        (ON_BR0 + "<driver queues='2'/>", "one queue"),
        (ON_BR0 + "<vlan><tag id='4'/></vlan>", "<vlan>"),
        (ON_BR0 + "<port isolated='yes'/>", "isolated by root"),
        (ON_BR0 + "<bandwidth><inbound average='1'/></bandwidth>", "bandwidth"),
    ],
)
def test_what_the_helper_cannot_do_is_refused(xml: str, said: str, nic_of: NicOf, env: Env) -> None:
    (problem,) = Bridge().check(nic_of(xml, kind="bridge"), env)
    assert said in problem.message
    assert problem.hint


@pytest.mark.parametrize("kind", ["veth", ""])
def test_what_is_no_bridge_is_refused(kind: str, nic_of: NicOf, env: Env) -> None:
    facts = replace(env.facts, links={"br0": replace(BR0, kind=kind)})
    (problem,) = Bridge().check(nic_of(ON_BR0, kind="bridge"), replace(env, facts=facts))
    assert "is no bridge" in problem.message


def switch(mode: str = "client", inside: str = "", driver: str = "") -> str:
    source = f"<source type='unix' path='/run/a,b.sock' mode='{mode}'>{inside}</source>"
    return f"{source}<model type='virtio'/>{driver}"


@pytest.mark.parametrize(
    ("xml", "word"),
    [
        (switch(), "socket,id=charnet0,path=/run/a,,b.sock"),
        (switch("server"), "socket,id=charnet0,path=/run/a,,b.sock,server=on"),
        (
            switch(inside="<reconnect enabled='yes' timeout='5'/>"),
            "socket,id=charnet0,path=/run/a,,b.sock,reconnect-ms=5000",
        ),
    ],
)
def test_the_chardev_is_libvirts(xml: str, word: str, nic_of: NicOf, env: Env) -> None:
    env = replace(env, qemu=replace(env.qemu, chardevs={"socket": frozenset({"reconnect-ms"})}))
    plan = VhostUser().plan(nic_of(xml, kind="vhostuser"), env)
    assert plan.chardev is not None
    assert plan.chardev.word == word
    assert list(plan.netdev.items()) == [("type", "vhost-user"), ("chardev", "charnet0"), ("id", "hostnet0")]
    assert "/run/a,b.sock" in plan.waits_for


def test_queues_are_named_and_an_old_qemu_counts_in_seconds(nic_of: NicOf, env: Env) -> None:
    xml = switch(inside="<reconnect enabled='yes' timeout='5'/>", driver="<driver queues='4'/>")
    plan = VhostUser().plan(nic_of(xml, kind="vhostuser"), env)
    assert plan.netdev == {"type": "vhost-user", "chardev": "charnet0", "queues": 4, "id": "hostnet0"}
    assert plan.chardev is not None
    assert plan.chardev.word.endswith(",reconnect=5")
    assert plan.chardev.backend == {
        "type": "socket",
        "data": {"addr": {"type": "unix", "data": {"path": "/run/a,b.sock"}}, "server": False, "reconnect": 5},
    }


def test_a_server_does_not_wait_at_run_time() -> None:
    data = SocketChardev("c", Path("/run/s"), server=True).backend["data"]
    assert data == {"addr": {"type": "unix", "data": {"path": "/run/s"}}, "server": True, "wait": False}


@pytest.mark.parametrize(
    ("path", "shared", "said"),
    [
        ("/run/s", False, "'interface' requires shared memory"),
        ("run/s", True, "absolute"),
        ("/" + "s" * 107, True, "107"),
    ],
)
def test_memory_that_is_not_shared_and_paths_that_no_socket_has_are_refused(
    path: str, shared: bool, said: str, nic_of: NicOf, env: Env
) -> None:
    nic = nic_of(f"<source type='unix' path='{path}' mode='client'/><model type='virtio'/>", kind="vhostuser")
    (problem,) = VhostUser().check(nic, replace(env, shared_memory=shared))
    assert said in problem.message
    assert problem.hint
