"""Every option of QEMU's passt netdev has its word in the XML, and passt is told it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.net.base import Env
from virlet.net.passt import Passt
from virlet.net.passt_args import passt_argv
from virlet.plan.base import render
from virlet.plan.facts import PasstFacts

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]

_NAMES = """
debug trace stats quiet foreground log-file log-size runas conf-path help version socket vhost-user print-capabilities
repair-path fd pcap pid mtu address netmask mac-addr gateway interface outbound outbound-if4 outbound-if6 dns search
hostname fqdn no-dhcp-dns no-dhcp-search map-host-loopback map-guest-addr dns-forward dns-host no-tcp no-udp no-icmp
no-dhcp no-ndp no-dhcpv6 no-ra freebind no-map-gw ipv4-only ipv6-only tcp-ports udp-ports one-off
"""
NEWEST = frozenset(_NAMES.split())
OLDEST = NEWEST - {
    "stats", "conf-path", "vhost-user", "print-capabilities", "repair-path", "hostname", "fqdn", "map-host-loopback",
    "map-guest-addr", "dns-host", "freebind",
}  # fmt: skip


def with_passt(env: Env, options: frozenset[str]) -> Env:
    passt = env.facts.passt
    assert passt is not None
    return replace(env, facts=replace(env.facts, passt=replace(passt, options=options)))


def options(inside: str = "", attributes: str = "") -> str:
    return f"<virlet:passt xmlns:virlet='{VIRLET}' {attributes}>{inside}</virlet:passt>"


def words(nic: Interface, env: Env) -> list[str]:
    return render(tuple(passt_argv(nic, env)), lambda source: "FD")[2:]


EACH = {
    "quiet": (options(attributes="quiet='yes'"), ["--quiet"]),
    "debug": (options(attributes="debug='yes'"), ["--debug"]),
    "trace": (options(attributes="trace='yes'"), ["--trace"]),
    "pcap-file": (options(attributes="pcap-file='/home/u/p'"), ["--pcap", "/home/u/p"]),
    "mtu": ("<mtu size='1400'/>", ["--mtu", "1400"]),
    "address": ("<ip address='10.1.0.5'/>", ["--address", "10.1.0.5"]),
    "netmask": ("<ip address='10.1.0.5' prefix='16'/>", ["--address", "10.1.0.5", "--netmask", "16"]),
    "mac": (options(attributes="mac='52:55:0a:00:02:02'"), ["--mac-addr", "52:55:0a:00:02:02"]),
    "gateway": ("<route gateway='10.1.0.1'/>", ["--gateway", "10.1.0.1"]),
    "interface": ("<source dev='eth0'/>", ["--interface", "eth0"]),
    "outbound": (options("<virlet:outbound address='192.0.2.7'/>"), ["--outbound", "192.0.2.7"]),
    "outbound-if4": (options(attributes="outbound-if4='eth0'"), ["--outbound-if4", "eth0"]),
    "outbound-if6": (options(attributes="outbound-if6='lo'"), ["--outbound-if6", "lo"]),
    "dns": (options("<virlet:dns address='none'/>"), ["--dns", "none"]),
    "search": (
        options("<virlet:search domain='a.example'/><virlet:search domain='b.example'/>"),
        ["--search", "a.example b.example"],
    ),
    "dhcp-dns": (options(attributes="dhcp-dns='no'"), ["--no-dhcp-dns"]),
    "dhcp-search": (options(attributes="dhcp-search='no'"), ["--no-dhcp-search"]),
    "map-host-loopback": (options("<virlet:map-host-loopback address='none'/>"), ["--map-host-loopback", "none"]),
    "map-guest-addr": (options("<virlet:map-guest-addr address='192.0.2.9'/>"), ["--map-guest-addr", "192.0.2.9"]),
    "dns-forward": (options("<virlet:dns-forward address='192.0.2.3'/>"), ["--dns-forward", "192.0.2.3"]),
    "dns-host": (options("<virlet:dns-host address='::1'/>"), ["--dns-host", "::1"]),
    "tcp": (options(attributes="tcp='no'"), ["--no-tcp"]),
    "udp": (options(attributes="udp='no'"), ["--no-udp"]),
    "icmp": (options(attributes="icmp='no'"), ["--no-icmp"]),
    "dhcp": (options(attributes="dhcp='no'"), ["--no-dhcp"]),
    "ndp": (options(attributes="ndp='no'"), ["--no-ndp"]),
    "dhcpv6": (options(attributes="dhcpv6='no'"), ["--no-dhcpv6"]),
    "ra": (options(attributes="ra='no'"), ["--no-ra"]),
    "freebind": (options(attributes="freebind='yes'"), ["--freebind"]),
    "ipv4": (options(attributes="ipv4='no'"), ["--ipv6-only"]),
    "ipv6": (options(attributes="ipv6='no'"), ["--ipv4-only"]),
    "tcp-ports": (
        "<portForward proto='tcp' address='127.0.0.1'><range start='2022' to='22'/></portForward>",
        ["--tcp-ports", "127.0.0.1/2022:22"],
    ),
    "udp-ports": ("<portForward proto='udp'/>", ["--udp-ports", "all"]),
    "param": (options("<virlet:param value='--stats'/><virlet:param value='1'/>"), ["--stats", "1"]),
}
"""Member of ``NetdevPasstOptions`` (and of the series that brought it) → XML, what passt is told.

Not here: ``path`` and ``fqdn`` (below) and ``vhost-user``, which is an interface type.
"""


@pytest.mark.parametrize("name", EACH)
def test_every_option_has_its_word_and_a_new_passt_is_told_it(name: str, nic_of: NicOf, env_of: EnvOf) -> None:
    inside, told = EACH[name]
    env = with_passt(env_of(), NEWEST)
    nic = nic_of(inside, passt=True)
    assert list(Passt().check(nic, env)) == []
    assert words(nic, env) == told


def test_what_says_the_default_is_not_told(nic_of: NicOf, env_of: EnvOf) -> None:
    said = "quiet='no' debug='no' trace='no' dhcp-dns='yes' dhcp-search='yes' tcp='yes' udp='yes' icmp='yes' "
    said += "dhcp='yes' ndp='yes' dhcpv6='yes' ra='yes' freebind='no' ipv4='yes' ipv6='yes'"
    assert words(nic_of(options(attributes=said), passt=True), with_passt(env_of(), NEWEST)) == []


OLD = {
    "map-guest-addr": ("virlet:passt/virlet:map-guest-addr[1]", "--map-guest-addr"),
    "dns-host": ("virlet:passt/virlet:dns-host[1]", "--dns-host"),
    "freebind": ("virlet:passt/@freebind", "--freebind"),
    "param": ("virlet:passt/virlet:param[1]/@value", "--stats"),
}


@pytest.mark.parametrize("name", EACH)
def test_what_a_passt_of_2023_has_not_is_refused_by_name_and_the_rest_is_told_alike(
    name: str, nic_of: NicOf, env_of: EnvOf
) -> None:
    inside, told = EACH[name]
    env = with_passt(env_of(), OLDEST)
    nic = nic_of(inside, passt=True)
    problems = list(Passt().check(nic, env))
    if name in OLD:
        place, option = OLD[name]
        (problem,) = problems
        assert problem.path == f"devices/interface[1]/{place}"
        assert f"has no {option}" in problem.message
        assert problem.hint
    else:
        assert problems == []
        assert words(nic, env) == (["--no-map-gw"] if name == "map-host-loopback" else told)


def test_the_host_s_loopback_at_another_address_is_beyond_a_passt_of_2023(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(options("<virlet:map-host-loopback address='192.0.2.1'/>"), passt=True)
    (problem,) = Passt().check(nic, with_passt(env_of(), OLDEST))
    assert "has no --map-host-loopback" in problem.message


def test_a_host_interface_that_does_not_exist_is_named(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(options(attributes="outbound-if4='nope'"), passt=True)
    (problem,) = Passt().check(nic, with_passt(env_of(), NEWEST))
    assert problem.path.endswith("virlet:passt/@outbound-if4")
    assert "no network interface 'nope'" in problem.message


def test_another_passt_is_run_where_the_interface_names_one(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of()
    other = PasstFacts("/opt/passt", NEWEST, env.facts.passt.may_run) if env.facts.passt else None
    assert other is not None
    facts = replace(env.facts, passts={"/opt/passt": other})
    nic = nic_of(options(attributes="path='/opt/passt'"), passt=True)
    assert nic.passt is not None
    chosen = replace(env, facts=facts.with_passt(nic.passt.path))
    assert next(passt_argv(nic, chosen)) == "/opt/passt"
    unseen = env.facts.with_passt("/opt/other")
    assert "nobody has looked at '/opt/other' yet" in Passt().judge(unseen, env.qemu).reason
    assert env.facts.with_passt(None) is env.facts


def test_on_an_interface_that_names_no_backend_what_is_said_replaces_the_default(nic_of: NicOf, env_of: EnvOf) -> None:
    env = with_passt(env_of(nameservers=("192.0.2.53",)), NEWEST)
    six_off = words(nic_of(options(attributes="ipv6='no'")), env)
    assert six_off == [
        *("--address", "10.0.2.15", "--netmask", "24", "--gateway", "10.0.2.2", "--dns-forward", "10.0.2.3"),
        *("--dns", "10.0.2.3", "--dns-host", "192.0.2.53", "--ipv4-only"),
    ]
    own = words(nic_of(options("<virlet:dns-host address='192.0.2.99'/>", "ipv6='no'")), env)
    assert own[8:] == ["--dns", "10.0.2.3", "--dns-host", "192.0.2.99", "--ipv4-only"]
    moved = words(nic_of(options("<virlet:dns-forward address='10.0.2.9'/>", "ipv6='no'")), env)
    assert moved[6:] == ["--dns-forward", "10.0.2.9", "--ipv4-only"]
    silent = words(nic_of(options(attributes="dhcp-dns='no' ipv4='no'")), env)
    assert silent == [
        *(
            "--address",
            "fec0::5054:ff:fe12:3456",
            "--gateway",
            "fec0::2",
            "--dns-forward",
            "fec0::3",
            "--no-dhcp-dns",
            "--ipv6-only",
        )
    ]


PARAMS = [
    ("--mtu", "has a word of its own in the XML"),
    ("--addr", "has a word of its own in the XML"),
    ("--gateway=10.0.0.1", "has a word of its own in the XML"),
    ("--fd", "is virlet's to say"),
    ("--one", "is virlet's to say"),
    ("--no-such", "has no --no-such"),
    ("-a", "is not the long name of an option"),
    ("loose", "follows no option of passt's"),
]


@pytest.mark.parametrize(("word", "said"), PARAMS)
def test_a_param_can_be_no_second_voice(word: str, said: str, nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(options(f"<virlet:param value='{word}'/>"), passt=True)
    (problem,) = Passt().check(nic, with_passt(env_of(), NEWEST))
    assert problem.path.endswith("virlet:passt/virlet:param[1]/@value")
    assert said in problem.message
    assert problem.hint
