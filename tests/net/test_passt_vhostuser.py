"""passt over vhost-user: who gets it, what is refused, what is told to whom."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from virlet.errors import Problem
from virlet.model.interface import ForcedBackend, Interface
from virlet.net.base import Env, Upgrade
from virlet.net.choose import choose, registry
from virlet.net.passt_vhostuser import PasstVhostUser
from virlet.plan.base import Accept, Need, OnLoss
from virlet.plan.facts import Facts
from virlet.plan.hotplug import heat
from virlet.testing.scene import example_env, example_facts

NicOf = Callable[..., Interface]
VIRTIO = "<model type='virtio'/>"


def without(facts: Facts, *, option: str = "", event: bool = True, **changed: object) -> Facts:
    """The host with a passt or a QEMU that lacks something."""
    passt, (qemu,) = facts.passt, facts.qemu.values()
    assert passt is not None
    other = replace(qemu, events=qemu.events if event else frozenset(), **changed)  # type: ignore[arg-type]
    return replace(facts, passt=replace(passt, options=passt.options - {option}), qemu={other.path: other})


def problems(nic: Interface, env: Env) -> list[Problem]:
    return list(PasstVhostUser().check(nic, env))


@pytest.fixture
def private() -> Env:
    """A domain whose memory is its own."""
    return replace(example_env(), shared_memory=False)


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        (replace(example_facts(), passt=None), "not installed"),
        (without(example_facts(), option="vhost-user"), "has no --vhost-user"),
        (without(example_facts(), netdevs={}), "without -netdev vhost-user"),
        (without(example_facts(), event=False), "does not dial"),
        (without(example_facts(), chardevs={"socket": frozenset({"reconnect"})}), "does not dial"),
    ],
    ids=["no passt", "old passt", "no netdev", "no event", "seconds"],
)
def test_what_lacks_something_is_a_no_with_a_way_out(facts: Facts, reason: str) -> None:
    (qemu,) = facts.qemu.values()
    support = PasstVhostUser().judge(facts, qemu)
    assert not support
    assert reason in support.reason
    assert support.hint


def test_it_is_chosen_for_a_vhost_user_interface_that_names_passt(nic_of: NicOf) -> None:
    choice = choose(nic_of(VIRTIO, passt=True, kind="vhostuser"), example_env(), registry())
    assert choice.why == ("passt-vhost-user: the interface asks for it (/usr/bin/passt was tried and runs)",)


def test_a_user_network_gets_it_only_where_memory_is_shared_and_is_told_gain_and_price(
    nic_of: NicOf, private: Env
) -> None:
    nic = nic_of(VIRTIO)
    shared = choose(nic, example_env(), registry())
    assert shared.backend is not None
    assert shared.backend.name == "passt-vhost-user"
    assert "several times the throughput" in shared.why[-1]
    assert "can read and write all of the guest's memory" in shared.why[-1]
    own = choose(nic, private, registry())
    assert own.backend is not None
    assert own.backend.name == "passt"
    assert own.why[0].startswith("passt-vhost-user is not chosen: it gives several times the throughput")
    assert "<access mode='shared'/>" in own.why[0]


def test_an_upgrade_that_cannot_be_had_is_no_problem_of_who_did_not_ask_for_it(nic_of: NicOf, private: Env) -> None:
    nic = nic_of(f"{VIRTIO}<mtu size='70000'/>", passt=True)
    for env in (private, example_env()):
        choice = choose(nic, env, registry())
        assert [problem.message for problem in choice.problems] == ["passt cannot carry an MTU of 70000"]


def test_whoever_forces_it_is_told_what_is_missing(nic_of: NicOf, private: Env) -> None:
    nic = replace(nic_of(VIRTIO), forced=ForcedBackend(name="passt-vhost-user"))
    choice = choose(nic, private, registry())
    assert [problem.message for problem in choice.problems] == ["'interface' requires shared memory"]
    assert choose(nic, example_env(), registry()).backend is not None


def test_another_card_and_more_than_one_queue_are_refused(nic_of: NicOf) -> None:
    (card,) = problems(nic_of("<model type='e1000'/>"), example_env())
    assert "needs a virtio card, not 'e1000'" in card.message
    many = nic_of(f"{VIRTIO}<driver queues='4'/>", passt=True, kind="vhostuser")
    (queues,) = problems(many, example_env())
    assert queues.code == 67
    assert "multiqueue is not supported" in queues.message
    choice = choose(nic_of("<model type='e1000'/>"), example_env(), registry())
    assert choice.backend is not None
    assert choice.backend.name == "passt"


def test_qemu_dials_where_we_listen_and_passt_gets_the_connection(nic_of: NicOf) -> None:
    plan = PasstVhostUser().plan(nic_of(VIRTIO, passt=True, kind="vhostuser"), example_env())
    helper, chardev = plan.helper, plan.chardev
    assert helper is not None
    assert chardev is not None
    accept = Accept(chardev.path)
    assert helper.argv[:5] == ("/usr/bin/passt", "--foreground", "--vhost-user", "--fd", accept)
    assert (helper.fds, helper.on_loss, helper.leaves) == ((accept,), OnLoss.ACCEPT, (chardev.path,))
    assert chardev.word == f"socket,id=charnet0,path={chardev.path},reconnect-ms=10"
    assert plan.netdev == {"type": "vhost-user", "chardev": "charnet0", "id": "hostnet0"}
    assert (plan.fds, plan.needs) == ((), {Need.SHARED_MEMORY})


def test_what_a_plain_user_network_shows_its_guest_is_the_same(nic_of: NicOf) -> None:
    plan = PasstVhostUser().plan(nic_of(VIRTIO), example_env())
    assert plan.helper is not None
    assert "10.0.2.15" in plan.helper.argv


def test_hot_is_the_same_as_cold(nic_of: NicOf) -> None:
    plan = PasstVhostUser().plan(nic_of(VIRTIO), example_env())
    hot = heat(plan)
    assert hot.chardev_add is not None
    assert plan.chardev is not None
    assert hot.chardev_add.arguments == {"id": "charnet0", "backend": plan.chardev.backend}
    assert hot.netdev_add.arguments == plan.netdev
    assert (hot.net.helper, hot.sends, hot.listens) == (plan.helper, (), None)


def test_it_is_an_upgrade_and_the_others_are_not() -> None:
    assert [each.name for each in registry().backends if isinstance(each, Upgrade)] == ["passt-vhost-user"]
