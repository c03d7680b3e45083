"""Memory that is shared because the user's configuration says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from virlet.model.domain import Domain, parse_domain
from virlet.model.machine import MemorySource
from virlet.net.choose import registry
from virlet.plan.facts import Facts
from virlet.plan.share import with_shared_memory
from virlet.testing.scene import example_facts

VIRTIO = "<interface type='user'><model type='virtio'/></interface>"


def domain(devices: str = VIRTIO, memory: str = "") -> Domain:
    text = f"""<domain type='qemu'><name>one</name><memory unit='MiB'>64</memory>{memory}
      <os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{devices}</devices></domain>"""
    return parse_domain(text)[0]


@pytest.fixture
def wanted() -> Facts:
    facts = example_facts()
    return replace(facts, host=replace(facts.host, share_memory=True))


def test_a_guest_with_a_network_that_gains_shares_its_memory(wanted: Facts) -> None:
    made = with_shared_memory(domain(), wanted, registry())
    assert made.shares_memory
    assert made.memory_backing is not None
    assert made.memory_backing.source is MemorySource.MEMFD
    assert with_shared_memory(made, wanted, registry()) is made


def test_it_is_only_done_where_the_configuration_wants_it() -> None:
    one = domain()
    assert with_shared_memory(one, example_facts(), registry()) is one


@pytest.mark.parametrize(
    "devices",
    [
        "",
        "<interface type='user'><model type='e1000'/></interface>",
        "<interface type='null'><model type='virtio'/></interface>",
        "<interface type='user' xmlns:virlet='https://virlet.dev/schemas/domain/1'><model type='virtio'/>"
        "<virlet:backend name='slirp'/></interface>",
    ],
    ids=["none", "another card", "another type", "another backend"],
)
def test_whoever_gains_nothing_keeps_its_memory_to_itself(wanted: Facts, devices: str) -> None:
    one = domain(devices)
    assert with_shared_memory(one, wanted, registry()) is one


@pytest.mark.parametrize(
    "inside", ["<access mode='private'/>", "<source type='anonymous'/>", "<source type='memfd'/>", "<hugepages/>"]
)
def test_a_domain_that_says_how_its_memory_is_made_is_obeyed(wanted: Facts, inside: str) -> None:
    one = domain(memory=f"<memoryBacking>{inside}</memoryBacking>")
    assert with_shared_memory(one, wanted, registry()) is one


def test_other_wishes_for_the_memory_are_kept(wanted: Facts) -> None:
    made = with_shared_memory(domain(memory="<memoryBacking><nosharepages/></memoryBacking>"), wanted, registry())
    assert made.shares_memory
    assert made.memory_backing is not None
    assert made.memory_backing.nosharepages


def test_a_passt_that_knows_no_vhost_user_gets_no_memory(wanted: Facts) -> None:
    assert wanted.passt is not None
    old = replace(wanted, passt=replace(wanted.passt, options=wanted.passt.options - {"vhost-user"}))
    one = domain()
    assert with_shared_memory(one, old, registry()) is one


def test_anonymous_memory_cannot_be_handed_over_whatever_its_access() -> None:
    inside = "<source type='anonymous'/><access mode='shared'/>"
    assert not domain(memory=f"<memoryBacking>{inside}</memoryBacking>").shares_memory
