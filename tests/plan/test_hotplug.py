"""Hot and cold are one: what a running QEMU is told is what it would have been told at its start."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from virlet.errors import BadConfig, InternalError, XmlError
from virlet.model.domain import Domain, parse_domain, parse_interface
from virlet.model.interface import Interface
from virlet.net.choose import Registry, registry
from virlet.plan.assign import assign_aliases, assign_defaults
from virlet.plan.base import (
    FdSource,
    GuestDirs,
    Joined,
    Json,
    LaunchPlan,
    Listener,
    NetPlan,
    OpenTap,
    PairEnd,
    SocketChardev,
    render_json,
)
from virlet.plan.facts import Facts, Link, SlirpHelperFacts, Support
from virlet.plan.hotplug import SendFd, heat, new_problems, plan_attach, with_interface, without_interface
from virlet.plan.launch import plan_launch
from virlet.slirp.options import FEATURES

GOLDEN = Path(__file__).parent / "golden"
NAMES = sorted(path.stem for path in GOLDEN.glob("*.xml") if not path.stem.endswith(".defined"))
NIC = "<interface type='user'><mac address='52:54:00:00:00:09'/><model type='virtio'/>{more}</interface>"


def cold(plan: LaunchPlan, option: str, number: Callable[[FdSource], int | str]) -> dict[str, object]:
    """Id → the JSON of each network word of the command line."""
    found: dict[str, object] = {}
    aliases = {net.alias for net in plan.nets}
    for name, word in zip(plan.argv, plan.argv[1:], strict=False):
        if name == option and isinstance(word, Json):
            ident = str(word.value.get("id"))
            if option == "-netdev" or ident in aliases:
                found[ident] = render_json(word.value, number)
    return found


def same_hot_and_cold(plan: LaunchPlan) -> None:
    """What QEMU is told of each interface by QMP is what its command line says."""
    for net in plan.nets:
        hot = heat(net)
        names = {send.source: send.name for send in hot.sends}

        def number(source: FdSource, names: dict[FdSource, str] = names) -> str:
            return str(source.path) if isinstance(source, Listener) else names[source]

        netdev = cold(plan, "-netdev", number)[hot.netdev]
        assert isinstance(netdev, dict)
        if hot.listens is not None:
            # The one difference: the socket is QEMU's to bind, at the path where we would have bound it.
            assert netdev["addr"] == {"type": "fd", "str": str(hot.listens)}
            netdev = {**netdev, "addr": {"type": "unix", "path": str(hot.listens)}}
        assert hot.netdev_add.arguments == netdev
        assert hot.then == (net.helper.forked.adds if net.helper is not None and net.helper.forked is not None else ())
        if net.chardev is None:
            assert hot.chardev_add is None
        else:
            assert hot.chardev_add is not None
            assert hot.chardev_add.arguments["id"] == net.chardev.id
            assert net.chardev.word in plan.argv
            assert f"path={net.chardev.path}" in net.chardev.word
            assert str(net.chardev.path) in json.dumps(hot.chardev_add.arguments)
        assert hot.device_add.arguments == cold(plan, "-device", number)[net.alias]
        assert [(each.name, each.arguments) for each in hot.after] == [
            (each.name, each.arguments)
            for each in plan.before_cont
            if each.name == "set_link" and each.arguments["name"] == net.alias
        ]
        json.dumps([dict(hot.netdev_add.arguments), dict(hot.device_add.arguments)])
        if net.helper is None:
            assert hot.net.helper is None
        else:
            assert hot.net.helper is not None
            assert hot.net.helper.argv == net.helper.argv
            assert hot.net.helper.leaves == net.helper.leaves
            assert hot.listens is None or hot.listens in net.helper.leaves


@pytest.mark.parametrize("name", NAMES)
def test_every_recorded_interface_is_the_same_hot_and_cold(
    name: str, facts: Facts, plan_of: Callable[[str, Facts], LaunchPlan]
) -> None:
    same_hot_and_cold(plan_of((GOLDEN / f"{name}.xml").read_text(), facts))


LINKS = (
    Link("tap0", 7, "tun", "fe:00:00:00:00:01", up=True, mtu=1500, tap=True, owner=1000, multi_queue=False),
    Link("tap1", 8, "tun", "fe:00:00:00:00:02", up=True, mtu=1500, tap=True, owner=1000, multi_queue=True),
    Link("mac0", 9, "macvtap", "52:54:00:00:00:09", up=True, mtu=1500, node="/dev/tap9", device="246:1"),
    Link("br0", 3, "bridge", "02:00:00:00:00:01", up=True, mtu=1500),
)
HELPER = SlirpHelperFacts(("/usr/bin/virlet-slirp-helper",), Support(True), frozenset(FEATURES), "4.8.0")
VIRTIO, MAC = "<model type='virtio'/>", "<mac address='52:54:00:00:00:09'/>"
BY_NAME = "<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='{}'/>"
KINDS = {
    "passt": f"<interface type='user'>{MAC}{VIRTIO}<backend type='passt'/></interface>",
    "passt-vhostuser": f"<interface type='vhostuser'>{MAC}{VIRTIO}<backend type='passt'/></interface>",
    "qemu-passt": f"<interface type='user'>{MAC}{VIRTIO}{BY_NAME.format('qemu-passt')}</interface>",
    "slirp": f"<interface type='user'>{MAC}{VIRTIO}{BY_NAME.format('slirp')}</interface>",
    "slirp-helper": f"<interface type='user'>{MAC}{VIRTIO}{BY_NAME.format('slirp-helper')}</interface>",
    "tap": f"<interface type='ethernet'>{MAC}<target dev='tap0' managed='no'/>{VIRTIO}<link state='down'/></interface>",
    "queues": (
        f"<interface type='ethernet'>{MAC}<target dev='tap1' managed='no'/>{VIRTIO}<driver queues='2'/></interface>"
    ),
    "macvtap": f"<interface type='ethernet'>{MAC}<target dev='mac0' managed='no'/>{VIRTIO}</interface>",
    "bridge": f"<interface type='bridge'>{MAC}<source bridge='br0'/>{VIRTIO}</interface>",
    "vhostuser": (
        f"<interface type='vhostuser'>{MAC}{VIRTIO}"
        "<source type='unix' path='/run/other.sock' mode='client'/></interface>"
    ),
    "given": (
        f"<interface type='user'>{MAC}{VIRTIO}"
        "<virlet:backend xmlns:virlet='https://virlet.dev/schemas/domain/1' name='socket' fdgroup='mine'/></interface>"
    ),
}
MACHINE = """<domain type='qemu'><name>one</name><memory unit='MiB'>64</memory>
<memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
<os><type arch='x86_64' machine='q35'>hvm</type></os><devices>{}</devices></domain>"""


@pytest.mark.parametrize("kind", KINDS)
def test_an_interface_of_every_backend_is_the_same_hot_and_cold(
    kind: str, newest_facts: Facts, dirs: GuestDirs
) -> None:
    host = replace(
        newest_facts.host,
        bridge_helper="/usr/lib/qemu/qemu-bridge-helper",
        bridge_helper_may=Support(True, "it is set-user-ID"),
    )
    facts = replace(
        newest_facts,
        host=host,
        links={link.name: link for link in LINKS},
        slirp_helper=HELPER,
        given={"mine": ("stream",)},
    )
    domain, _ = parse_domain(MACHINE.format(KINDS[kind]))
    domain = assign_aliases(assign_defaults(domain, next(iter(facts.qemu.values()))), dirs)
    plan = plan_launch(domain, facts, dirs, registry())
    assert [net.alias for net in plan.nets] == ["net0"]
    same_hot_and_cold(plan)


def test_descriptors_are_sent_under_a_name() -> None:
    pair = PairEnd("net3", 0, datagram=True)
    net = NetPlan(
        alias="net3",
        backend="helper",
        mac="",
        netdev={"type": "dgram", "id": "hostnet3", "local": {"type": "fd", "str": pair}},
        device={"driver": "virtio-net-pci", "id": "net3"},
        helper=None,
        fds=(pair,),
    )
    hot = heat(net)
    assert hot.sends == (SendFd("fd-net3-0", pair),)
    assert hot.netdev_add.arguments["local"] == {"type": "fd", "str": "fd-net3-0"}
    assert hot.listens is None


def test_the_queues_of_a_tap_are_named_in_one_word_and_what_is_only_held_comes_last() -> None:
    taps = tuple(OpenTap("net2", "tap0", queue, multi_queue=True) for queue in range(2))
    held = PairEnd("net2", 1, datagram=True)
    net = NetPlan(
        alias="net2",
        backend="tap",
        mac="",
        netdev={"type": "tap", "fds": Joined((taps[0], ":", taps[1])), "id": "hostnet2"},
        device={"driver": "virtio-net-pci", "id": "net2"},
        helper=None,
        fds=taps,
        keeps=(held,),
    )
    hot = heat(net)
    assert hot.netdev_add.arguments["fds"] == "fd-net2-0:fd-net2-1"
    assert hot.sends == (*(SendFd(f"fd-net2-{n}", tap) for n, tap in enumerate(taps)), SendFd("keep-net2-0", held))


def test_a_socket_of_somebody_elses_is_a_chardev_before_it_is_a_netdev() -> None:
    chardev = SocketChardev("charnet4", Path("/run/switch.sock"), reconnect_ms=2000)
    net = NetPlan(
        alias="net4",
        backend="vhostuser",
        mac="",
        netdev={"type": "vhost-user", "chardev": "charnet4", "id": "hostnet4"},
        device={"driver": "virtio-net-pci", "id": "net4"},
        helper=None,
        fds=(),
        chardev=chardev,
    )
    hot = heat(net)
    assert hot.chardev_add is not None
    assert hot.chardev_add.arguments == {"id": "charnet4", "backend": chardev.backend}
    assert hot.netdev_add.arguments == net.netdev


# Where it goes


@pytest.fixture
def live(facts: Facts, dirs: GuestDirs) -> Callable[..., Domain]:
    """A running guest: ``live("q35", devices)``."""

    def made(machine: str, devices: str = "") -> Domain:
        domain, _ = parse_domain(
            f"<domain type='qemu'><name>x</name><memory>65536</memory><os><type arch='x86_64' machine='{machine}'>hvm"
            f"</type></os><devices>{devices}</devices></domain>"
        )
        return assign_aliases(assign_defaults(domain, next(iter(facts.qemu.values()))), dirs)

    return made


def card(more: str = "") -> Interface:
    return parse_interface(NIC.format(more=more))[0]


def test_a_new_interface_gets_the_lowest_free_alias_and_slot_on_pc(
    live: Callable[..., Domain], facts: Facts, dirs: GuestDirs, registry: Registry
) -> None:
    domain = live("pc", NIC.format(more=""))
    nic, hot = plan_attach(domain, card(), facts, dirs, registry)
    assert nic.alias == "net1"
    taken = domain.devices.interfaces[0].address
    assert nic.address is not None
    assert nic.address != taken
    assert hot.device_add.arguments["bus"] == "pci.0"
    with_it = with_interface(domain, nic)
    assert without_interface(with_it, "net1") == domain
    again, _ = plan_attach(without_interface(with_it, "net0"), card(), facts, dirs, registry)
    assert again.alias == "net0"


def test_q35_has_one_spare_port_and_says_what_to_do_when_it_is_taken(
    live: Callable[..., Domain], facts: Facts, dirs: GuestDirs, registry: Registry
) -> None:
    domain = live("q35", NIC.format(more=""))
    nic, hot = plan_attach(domain, card(), facts, dirs, registry)
    assert str(hot.device_add.arguments["bus"]).startswith("pci.")
    with pytest.raises(InternalError, match="No more available PCI slots") as caught:
        plan_attach(with_interface(domain, nic), card(), facts, dirs, registry)
    assert "pcie-root-port" in str(caught.value.hint)


def test_more_ports_in_the_definition_are_room_for_more(
    live: Callable[..., Domain], facts: Facts, dirs: GuestDirs, registry: Registry
) -> None:
    ports = "<controller type='pci' index='0' model='pcie-root'/>" + "".join(
        f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 9)
    )
    domain = live("q35", ports)
    before = len(domain.devices.controllers)
    for _ in range(6):
        nic, _ = plan_attach(domain, card(), facts, dirs, registry)
        domain = with_interface(domain, nic)
    assert len(domain.devices.controllers) == before


def test_an_address_that_is_taken_is_refused(
    live: Callable[..., Domain], facts: Facts, dirs: GuestDirs, registry: Registry
) -> None:
    domain = live("pc", NIC.format(more=""))
    taken = domain.devices.interfaces[0].address
    with pytest.raises(XmlError, match="double use of PCI Address"):
        plan_attach(domain, replace(card(), address=taken), facts, dirs, registry)


def test_only_what_the_new_interface_brings_is_its_fault(
    live: Callable[..., Domain], facts: Facts, dirs: GuestDirs, registry: Registry
) -> None:
    forward = "<portForward proto='tcp'><range start='{port}' to='22'/></portForward>"
    broken = live("pc", NIC.format(more=forward.format(port=5022)) * 2)
    plan_attach(broken, card(forward.format(port=5023)), facts, dirs, registry)
    with pytest.raises(BadConfig) as caught:
        plan_attach(broken, card(forward.format(port=5022)), facts, dirs, registry)
    assert {problem.path.split("/portForward")[0] for problem in caught.value.problems} == {"devices/interface[3]"}
    assert new_problems(broken, broken) == []


def test_the_backends_of_this_installation_are_asked() -> None:
    assert {"passt", "slirp"} <= {backend.name for backend in registry().backends}
