"""What is said of, and done with, devices that an administrator has prepared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from virlet.enums import ErrorCode
from virlet.model.interface import Interface
from virlet.net.base import Env, NetBackend
from virlet.net.choose import choose, registry
from virlet.net.ethernet import Ethernet
from virlet.plan.base import Joined, OpenMacvtap, OpenTap, OpenVhost, render_json
from virlet.plan.facts import Link

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]

TAP = Link("tap7", 7, "tun", "fe:00:00:00:00:01", up=True, mtu=1500, tap=True, owner=1000, multi_queue=False)
MACVTAP = Link("mac8", 8, "macvtap", "52:54:00:12:34:56", up=True, mtu=1500, node="/dev/tap8", device="246:1")
VIRTIO = "<model type='virtio'/>"
NETDEVS = {"tap": frozenset({"fd", "fds"})}


def mine(name: str = "tap7", more: str = VIRTIO) -> str:
    return f"<target dev='{name}' managed='no'/>{more}"


@pytest.fixture
def with_links(env_of: EnvOf) -> Callable[..., Env]:
    """An environment in which those links exist."""

    def make(*links: Link, kvm: bool = False, **host: object) -> Env:
        env = env_of(netdevs=NETDEVS, **host)
        facts = replace(env.facts, links={link.name: link for link in links})
        return replace(env, facts=facts, kvm=kvm)

    return make


def told(nic: Interface, env: Env) -> list[tuple[str, object]]:
    """The netdev, descriptors numbered from 19 on."""
    plan = Ethernet().plan(nic, env)
    numbers = {source: 19 + place for place, source in enumerate(plan.fds)}
    rendered = render_json(plan.netdev, numbers.__getitem__)
    assert isinstance(rendered, dict)
    return list(rendered.items())


def test_one_queue_is_one_descriptor(nic_of: NicOf, with_links: Callable[..., Env]) -> None:
    nic, env = nic_of(mine(), kind="ethernet"), with_links(TAP)
    assert list(Ethernet().check(nic, env)) == []
    assert told(nic, env) == [("type", "tap"), ("fd", "19"), ("id", "hostnet0")]
    assert Ethernet().plan(nic, env).fds == (OpenTap("net0", "tap7", vnet_hdr=True),)


def test_several_queues_are_several_descriptors_and_the_card_says_so(
    nic_of: NicOf, with_links: Callable[..., Env]
) -> None:
    nic = nic_of(mine(more=f"{VIRTIO}<driver queues='3'/><tune><sndbuf>1600</sndbuf></tune>"), kind="ethernet")
    env = with_links(replace(TAP, multi_queue=True))
    assert list(Ethernet().check(nic, env)) == []
    assert told(nic, env) == [("type", "tap"), ("fds", "19:20:21"), ("sndbuf", 1600), ("id", "hostnet0")]
    plan = Ethernet().plan(nic, env)
    assert [source.queue for source in plan.fds if isinstance(source, OpenTap)] == [0, 1, 2]
    assert all(source.multi_queue for source in plan.fds if isinstance(source, OpenTap))
    assert (plan.device["mq"], plan.device["vectors"]) == (True, 8)


def test_a_macvtap_is_known_by_its_links_kind(nic_of: NicOf, with_links: Callable[..., Env]) -> None:
    nic, env = nic_of(mine("mac8"), kind="ethernet"), with_links(MACVTAP)
    assert list(Ethernet().check(nic, env)) == []
    plan = Ethernet().plan(nic, env)
    assert plan.fds == (OpenMacvtap("mac8", "/dev/tap8", "52:54:00:12:34:56", "246:1", vnet_hdr=True),)
    assert plan.put_back == ()


@pytest.mark.parametrize(("vnet_hdr", "model", "puts_back"), [(True, VIRTIO, 0), (False, VIRTIO, 1), (False, "", 0)])
def test_a_setting_that_the_use_changes_is_put_back(
    vnet_hdr: bool, model: str, puts_back: int, nic_of: NicOf, with_links: Callable[..., Env]
) -> None:
    env = with_links(replace(TAP, vnet_hdr=vnet_hdr))
    plan = Ethernet().plan(nic_of(mine(more=model), kind="ethernet"), env)
    assert len(plan.put_back) == puts_back
    assert all(tap.vnet_hdr == vnet_hdr for tap in plan.put_back)


@pytest.mark.parametrize(
    ("driver", "vhost_net", "kvm", "workers"),
    [
        ("", True, True, 1),
        ("<driver name='vhost'/>", True, True, 1),
        ("<driver name='vhost' queues='2'/>", True, True, 2),
        ("<driver name='qemu'/>", True, True, 0),
        ("", False, True, 0),
        ("", True, False, 0),
        ("<driver name='vhost'/>", True, False, 0),
    ],
)
def test_the_kernels_worker_is_used_where_libvirt_uses_it(
    driver: str, vhost_net: bool, kvm: bool, workers: int, nic_of: NicOf, with_links: Callable[..., Env]
) -> None:
    env = with_links(replace(TAP, multi_queue="queues" in driver), kvm=kvm, vhost_net=vhost_net)
    nic = nic_of(mine(more=VIRTIO + driver), kind="ethernet")
    assert list(Ethernet().check(nic, env)) == []
    plan = Ethernet().plan(nic, env)
    assert sum(isinstance(source, OpenVhost) for source in plan.fds) == workers
    said = told(nic, env)
    names = [name for name, _ in said]
    if workers == 1:
        assert names == ["type", "fd", "vhost", "vhostfd", "id"]
    elif workers == 2:
        assert said[1:4] == [("fds", "19:20"), ("vhost", True), ("vhostfds", "21:22")]
    else:
        assert "vhost" not in names


def test_a_worker_that_is_asked_for_and_not_there_is_an_error(nic_of: NicOf, with_links: Callable[..., Env]) -> None:
    nic = nic_of(mine(more=f"{VIRTIO}<driver name='vhost'/>"), kind="ethernet")
    (problem,) = Ethernet().check(nic, with_links(TAP, kvm=True))
    assert problem.message == "vhost-net was requested for an interface, but is unavailable"
    assert problem.code is ErrorCode.CONFIG_UNSUPPORTED
    stand_in = nic_of(mine(more=f"{VIRTIO}<driver name='vhost'/><backend vhost='/dev/other'/>"), kind="ethernet")
    env = with_links(TAP, kvm=True)
    assert list(Ethernet().check(stand_in, env)) == []
    assert OpenVhost("net0", 0, "/dev/other") in Ethernet().plan(stand_in, env).fds


OTHER = replace(TAP, owner=0)
SAME = replace(TAP, mac="52:54:00:12:34:56")


@pytest.mark.parametrize(
    ("xml", "link", "code", "said", "help_"),
    [
        ("<target managed='no'/>", TAP, 1, "target dev must be supplied", "dev="),
        (mine("nope"), TAP, 1, "specified dev doesn't exist", "ip tuntap add dev nope mode tap user 1000 vnet_hdr"),
        (mine("n" * 16), TAP, 27, "too long", None),
        (mine(), OTHER, 38, "Unable to set tap device tap7", "ip link delete dev tap7; ip tuntap add dev tap7"),
        (mine(), replace(TAP, owner=None, group=5), 38, "belongs to group 5", "ip tuntap"),
        (mine(), replace(TAP, multi_queue=True), 38, "with multi_queue flag", "ip tuntap"),
        (mine(more=f"{VIRTIO}<driver queues='2'/>"), TAP, 38, "Unable to create multiple fds", "multi_queue"),
        (mine(), SAME, 67, "the guest's own address", "ip link set dev tap7 address fe:54:00:12:34:56"),
        (mine(), replace(TAP, up=False), 67, "is down", "ip link set dev tap7 up"),
        (mine(), replace(TAP, tap=False), 67, "carries packets and no frames", "ip tuntap add"),
        (mine(), replace(TAP, kind="veth"), 67, "is a veth device", "type macvtap"),
        (mine(), replace(TAP, kind=""), 67, "is a hardware device", "type macvtap"),
        (mine(), replace(TAP, kind="bridge"), 67, "is a bridge device", "<interface type='bridge'>"),
        (
            mine("mac8"),
            replace(MACVTAP, mac="02:00:00:00:00:09"),
            67,
            "passes on no frame",
            "address 52:54:00:12:34:56",
        ),
        (mine("mac8"), replace(MACVTAP, up=False), 67, "is down", "ip link set dev mac8 up"),
        (mine("mac8"), replace(MACVTAP, node_errno=13), 38, "/dev/tap8", "chown 1000 /dev/tap8"),
        ("<target dev='tap7'/>", TAP, 55, "The tap7 interface already exists", "managed='no'"),
        (mine(more="<bandwidth><inbound average='1'/></bandwidth>"), TAP, 84, "bandwidth tuning", "tc"),
        (mine(more="<filterref filter='x'/>"), TAP, 5, "nwfilter:///session", "nft"),
        (mine(more="<source><ip address='10.0.0.1' prefix='24'/></source>"), TAP, 67, "host's end", "ip address add"),
    ],
)
def test_what_would_carry_nothing_is_refused_with_the_commands_that_help(
    xml: str, link: Link, code: int, said: str, help_: str | None, nic_of: NicOf, with_links: Callable[..., Env]
) -> None:
    (problem,) = Ethernet().check(nic_of(xml, kind="ethernet"), with_links(link))
    assert problem.path.startswith("devices/interface[1]/")
    assert said in problem.message
    assert problem.code == code
    assert help_ is None or help_ in (problem.hint or "")


def test_a_tap_of_ours_is_made_with_a_name_of_the_kernels_or_of_the_xml(
    nic_of: NicOf, with_links: Callable[..., Env]
) -> None:
    env = with_links()
    for xml, name in (("", "vnet%d"), ("<target dev='vnet3'/>", "vnet%d"), ("<target dev='mine'/>", "mine")):
        nic = nic_of(xml + VIRTIO, kind="ethernet")
        assert list(Ethernet().check(nic, env)) == []
        (tap,) = Ethernet().plan(nic, env).fds
        assert tap == OpenTap("net0", name, vnet_hdr=True, create=True, mac="fe:54:00:12:34:56")
        assert Ethernet().plan(nic, env).put_back == ()


def test_scripts_are_looked_at_before_the_start(nic_of: NicOf, with_links: Callable[..., Env]) -> None:
    nic = nic_of(mine(more="<script path='/bin/up'/><downscript path='/bin/down'/>"), kind="ethernet")
    plan = Ethernet().plan(nic, with_links(TAP))
    assert plan.script == "/bin/up"
    assert [str(need.path) for need in plan.files] == ["/bin/up", "/bin/down"]


def test_it_is_found_by_entry_point(nic_of: NicOf, with_links: Callable[..., Env]) -> None:
    choice = choose(nic_of(mine(), kind="ethernet"), with_links(TAP), registry())
    assert isinstance(choice.backend, Ethernet)
    assert isinstance(choice.backend, NetBackend)


def test_a_joined_word_is_rendered_in_json() -> None:
    one, two = OpenTap("net0", "a"), OpenTap("net0", "a", 1)
    numbers = {one: 3, two: 4}
    assert render_json({"fds": Joined((one, ":", two))}, lambda source: numbers[source]) == {"fds": "3:4"}  # type: ignore[index]
