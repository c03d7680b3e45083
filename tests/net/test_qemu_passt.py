"""What QEMU is told of the passt that it starts itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.model.domain import parse_interface
from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.net.base import Env, NetBackend
from virlet.net.choose import Registry, choose
from virlet.net.passt import Passt
from virlet.net.passt_args import passt_argv
from virlet.net.qemu_passt import MTU, QemuPasst, members
from virlet.plan.base import Need, OnLoss, QmpCommand, Ready
from virlet.plan.facts import Facts, HostFacts, PasstFacts, QemuFacts, Support

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]

_MEMBERS = """
id type path quiet vhost-user mtu address netmask mac gateway interface outbound outbound-if4 outbound-if6 dns search
fqdn dhcp-dns dhcp-search map-host-loopback map-guest-addr dns-forward dns-host tcp udp icmp dhcp ndp dhcpv6 ra freebind
ipv4 ipv6 tcp-ports udp-ports param
"""
NETDEVS = {"passt": frozenset(_MEMBERS.split()), "hubport": frozenset({"hubid", "id", "netdev"}), "stream": frozenset()}
NEW = frozenset(
    {"fd", "foreground", "dns-host", "freebind", "hostname", "fqdn", "map-host-loopback", "map-guest-addr", "pcap"}
    | {
        "debug",
        "trace",
        "quiet",
        "mac-addr",
        "outbound",
        "outbound-if4",
        "outbound-if6",
        "dns",
        "search",
        "dns-forward",
    }
    | {f"no-{name}" for name in ("dhcp-dns", "dhcp-search", "tcp", "udp", "icmp", "dhcp", "ndp", "dhcpv6", "ra")}
    | {"ipv4-only", "ipv6-only", "stats"}
)
FORCED = f"<virlet:backend xmlns:virlet='{VIRLET}' name='qemu-passt'/>"


def options(inside: str = "", attributes: str = "") -> str:
    return f"<virlet:passt xmlns:virlet='{VIRLET}' {attributes}>{inside}</virlet:passt>{FORCED}"


@pytest.fixture
def env(env_of: EnvOf) -> Env:
    found = env_of(netdevs=NETDEVS)
    assert found.facts.passt is not None
    return replace(found, facts=replace(found.facts, passt=replace(found.facts.passt, options=NEW)))


def test_it_is_a_backend_for_those_who_name_it_alone(nic_of: NicOf) -> None:
    assert isinstance(QemuPasst(), NetBackend)
    assert QemuPasst().handles(nic_of(FORCED))
    assert not QemuPasst().handles(nic_of())
    assert not QemuPasst().handles(nic_of(passt=True))
    assert not QemuPasst().handles(nic_of(FORCED, kind="null"))


EACH: dict[str, tuple[str, dict[str, Any]]] = {
    "quiet": (options(attributes="quiet='yes'"), {"quiet": True}),
    "not quiet": (options(attributes="quiet='no'"), {"quiet": False}),
    "mtu": ("<mtu size='1400'/>", {"mtu": 1400}),
    "address": ("<ip address='10.1.0.5' prefix='16'/>", {"address": "10.1.0.5", "netmask": "16"}),
    "mac": (options(attributes="mac='52:55:0a:00:02:02'"), {"mac": "52:55:0a:00:02:02"}),
    "gateway": ("<route gateway='10.1.0.1'/>", {"gateway": "10.1.0.1"}),
    "interface": ("<source dev='eth0'/>", {"interface": "eth0"}),
    "outbound": (options("<virlet:outbound address='192.0.2.7'/>"), {"outbound": "192.0.2.7"}),
    "outbound-if4": (options(attributes="outbound-if4='lo'"), {"outbound-if4": "lo"}),
    "outbound-if6": (options(attributes="outbound-if6='lo'"), {"outbound-if6": "lo"}),
    "dns": (options("<virlet:dns address='none'/>"), {"dns": "none"}),
    "search": (
        options("<virlet:search domain='a.example'/><virlet:search domain='b.example'/>"),
        {"search": ({"str": "a.example"}, {"str": "b.example"})},
    ),
    "fqdn": ("", {"fqdn": "h.example"}),
    "dhcp-dns": (options(attributes="dhcp-dns='no'"), {"dhcp-dns": False}),
    "dhcp-search": (options(attributes="dhcp-search='no'"), {"dhcp-search": False}),
    "map-host-loopback": (options("<virlet:map-host-loopback address='none'/>"), {"map-host-loopback": "none"}),
    "map-guest-addr": (options("<virlet:map-guest-addr address='192.0.2.9'/>"), {"map-guest-addr": "192.0.2.9"}),
    "dns-forward": (options("<virlet:dns-forward address='192.0.2.3'/>"), {"dns-forward": "192.0.2.3"}),
    "dns-host": (options("<virlet:dns-host address='::1'/>"), {"dns-host": "::1"}),
    "tcp": (options(attributes="tcp='no'"), {"tcp": False}),
    "udp": (options(attributes="udp='no'"), {"udp": False}),
    "icmp": (options(attributes="icmp='no'"), {"icmp": False}),
    "dhcp": (options(attributes="dhcp='no'"), {"dhcp": False}),
    "ndp": (options(attributes="ndp='no'"), {"ndp": False}),
    "dhcpv6": (options(attributes="dhcpv6='no'"), {"dhcpv6": False}),
    "ra": (options(attributes="ra='no'"), {"ra": False}),
    "freebind": (options(attributes="freebind='yes'"), {"freebind": True}),
    "ipv4": (options(attributes="ipv4='no'"), {"ipv4": False}),
    "ipv6": (options(attributes="ipv6='no'"), {"ipv6": False}),
    "tcp-ports": (
        "<portForward proto='tcp' address='127.0.0.1'><range start='2022' to='22'/></portForward>",
        {"tcp-ports": ({"str": "127.0.0.1/2022:22"},)},
    ),
    "udp-ports": ("<portForward proto='udp'/>", {"udp-ports": ({"str": "all"},)}),
}


@pytest.mark.parametrize("name", EACH)
def test_every_option_is_told_by_its_member(name: str, nic_of: NicOf, env: Env) -> None:
    inside, told = EACH[name]
    forced = "" if FORCED in inside else FORCED
    backend = f"<backend type='passt'{' fqdn=' + repr('h.example') if name == 'fqdn' else ''}/>"
    nic = nic_of(f"{inside}{forced}{backend}")
    assert list(QemuPasst().check(nic, env)) == []
    assert members(nic, env) == ({"mtu": MTU, **told}, ())


def test_what_has_no_member_or_is_said_twice_is_told_by_words(nic_of: NicOf, env: Env) -> None:
    nic = nic_of(
        "<ip address='10.1.0.5'/><ip address='2001:db8::5'/><backend type='passt' hostname='h' logFile='/home/u/l'/>"
        "<portForward proto='tcp'><range start='2022'/></portForward>"
        "<portForward proto='tcp' address='127.0.0.1'><range start='2023'/></portForward>"
        + options("<virlet:param value='--stats'/><virlet:param value='1'/>", "pcap-file='/home/u/p' trace='yes'")
    )
    told, words = members(nic, env)
    assert told == {"mtu": MTU, "address": "10.1.0.5", "tcp-ports": ({"str": "2022"},), "quiet": False}
    assert words == (
        *("--log-file", "/home/u/l", "--hostname", "h", "--address", "2001:db8::5", "--trace", "--pcap", "/home/u/p"),
        *("--tcp-ports", "127.0.0.1/2023", "--stats", "1"),
    )


def test_the_card_is_on_a_hub_and_passt_is_plugged_in_at_the_monitor(nic_of: NicOf, env: Env) -> None:
    nic = nic_of("<portForward proto='tcp'><range start='2022' to='22'/></portForward><link state='down'/>" + FORCED)
    plan = QemuPasst().plan(nic, env)
    hub = plan.netdev["hubid"]
    assert plan.netdev == {"type": "hubport", "hubid": hub, "id": "hostnet0"}
    assert plan.device["netdev"] == "hostnet0"
    assert plan.needs == {Need.NO_SANDBOX}
    assert not plan.link_up
    helper = plan.helper
    assert helper is not None
    assert helper.forked is not None
    assert (helper.argv, helper.on_loss, helper.ready) == (("/usr/bin/passt",), OnLoss.QEMU, Ready.PORTS_LISTEN)
    assert helper.leaves == (helper.forked.link,)
    passt, port = helper.forked.adds
    assert passt.name == "netdev_add"
    assert passt.arguments["path"] == str(helper.forked.link)
    assert (passt.arguments["type"], passt.arguments["id"]) == ("passt", helper.forked.netdev)
    assert port == QmpCommand(
        "netdev_add", {"type": "hubport", "id": "hub-net0", "hubid": hub, "netdev": helper.forked.netdev}
    )


def test_both_backends_of_passt_tell_it_the_same(nic_of: NicOf, env: Env) -> None:
    """The addresses of an interface that names no backend do not depend on who starts passt."""
    told, words = members(nic_of(FORCED), env)
    assert (told["address"], told["netmask"], told["gateway"]) == ("10.0.2.15", "24", "10.0.2.2")
    assert words[:4] == ("--address", "fec0::5054:ff:fe12:3456", "--gateway", "fec0::2")


def test_a_qemu_without_the_netdev_and_a_host_without_passt_are_a_no(env_of: EnvOf, env: Env) -> None:
    old = env_of(netdevs={"hubport": frozenset()})
    assert "no -netdev passt" in QemuPasst().judge(old.facts, old.qemu).reason
    none = replace(env.facts, passt=None)
    assert "not installed" in QemuPasst().judge(none, env.qemu).reason
    said = QemuPasst().judge(env.facts, env.qemu)
    assert said
    assert "without its sandbox" in said.reason


def test_a_qemu_without_param_refuses_what_only_that_could_tell(nic_of: NicOf, env: Env) -> None:
    netdevs = {**NETDEVS, "passt": NETDEVS["passt"] - {"param"}}
    less = replace(env, qemu=replace(env.qemu, netdevs=netdevs))
    (problem,) = QemuPasst().check(nic_of(f"<backend type='passt' hostname='h'/>{FORCED}"), less)
    assert "--hostname" in problem.message


def test_it_is_chosen_by_name_alone(nic_of: NicOf, env: Env) -> None:
    among = Registry((Passt(), QemuPasst()))
    assert isinstance(choose(nic_of(), env, among).backend, Passt)
    assert isinstance(choose(nic_of(FORCED), env, among).backend, QemuPasst)
    with_passt = choose(nic_of(FORCED, passt=True), env, among)
    assert isinstance(with_passt.backend, QemuPasst)


_SWITCHES = ("quiet", "debug", "trace", "dhcp-dns", "dhcp-search", "tcp", "udp", "icmp", "dhcp", "ndp", "dhcpv6", "ra")
_ADDRESSES = {"dns": 3, "outbound": 2, "map-host-loopback": 2, "map-guest-addr": 2, "dns-forward": 2, "dns-host": 2}


@st.composite
def said(draw: st.DrawFn) -> str:
    """The inside of an interface with any options of passt's that stand together."""
    chosen = draw(st.dictionaries(st.sampled_from(_SWITCHES), st.sampled_from(["yes", "no"]), max_size=5))
    if chosen.get("quiet") == "yes":
        chosen = {name: word for name, word in chosen.items() if name not in ("debug", "trace")}
    inside = ""
    for name, most in _ADDRESSES.items():
        if name != "dns" or chosen.get("dhcp-dns") != "no":
            words = ("192.0.2.1", "2001:db8::1", "192.0.2.2")[: draw(st.integers(0, most))]
            inside += "".join(f"<virlet:{name} address='{word}'/>" for word in words)
    if draw(st.booleans()):
        inside += "<virlet:param value='--stats'/><virlet:param value='1'/>"
    backend = draw(st.sampled_from(["", "<backend type='passt'/>", "<backend type='passt' hostname='h' fqdn='h.e'/>"]))
    attributes = " ".join(f"{name}='{word}'" for name, word in chosen.items())
    return backend + options(inside, attributes)


@given(said())
@settings(max_examples=60)
def test_whoever_starts_passt_it_is_told_the_same(inside: str) -> None:
    """Invariant: the netdev's members but its MTU, spelt as QEMU does, and the words are the stream's options."""
    text = f"<interface type='user'><mac address='52:54:00:12:34:56'/>{inside}</interface>"
    nic = replace(parse_interface(text)[0], alias="net0")
    env = _env()
    told, words = members(nic, env)
    here = [word for word in passt_argv(nic, env) if isinstance(word, str)][2:]
    spelt = [
        word
        for name, value in told.items()
        if name != "mtu" and (name != "quiet" or value)
        for word in _as_qemu_does(name, value)
    ]
    assert sorted([*spelt, *words]) == sorted(here)


def _as_qemu_does(name: str, value: Any) -> tuple[str, ...]:
    """From QEMU's documentation of the members."""
    if isinstance(value, bool):
        only = {"ipv4": "--ipv6-only", "ipv6": "--ipv4-only"}
        return (f"--{name}",) if value else (only.get(name, f"--no-{name}"),)
    if isinstance(value, tuple):
        return (f"--{name}", (" " if name == "search" else ",").join(item["str"] for item in value))
    return ("--mac-addr" if name == "mac" else f"--{name}", str(value))


def _env() -> Env:
    """Fixtures and hypothesis do not mix."""
    qemu = QemuFacts("/q", "x86_64", (11, 1, 0), netdevs=NETDEVS)
    host = HostFacts("x86_64", "h", "", "", "", 1, 1, 1, 1, nameservers=("192.0.2.53", "2001:db8::53"))
    passt = PasstFacts("/p", NEW, Support(True))
    return Env(Facts(host, {"/q": qemu}, passt), qemu, Path("/r"), Path("/l"), "devices/interface[1]")
