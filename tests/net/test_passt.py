"""What passt is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.net.base import Env, NetBackend
from virlet.net.passt import Passt
from virlet.plan.base import Dial, Listener, LogFile, OnLoss, Ready, render
from virlet.plan.facts import PasstFacts, Support
from virlet.plan.follow import Uplinks

EnvOf = Callable[..., Env]
NicOf = Callable[..., Interface]

SERIES = """
  <ip address='192.168.221.122' family='ipv4'/>
  <model type='virtio'/>
  <backend type='passt' logFile='/home/u/passt.log'/>
  <source dev='eth0'/>
  <portForward address='127.0.0.1' proto='tcp'>
    <range start='2022' to='22'/>
    <range start='5000' end='5099' to='1000'/>
    <range start='5010' end='5029' exclude='yes'/>
  </portForward>
  <portForward proto='udp'><range start='10101'/></portForward>
"""


def words(nic: Interface, env: Env) -> list[str]:
    helper = Passt().plan(nic, env).helper
    assert helper is not None
    return render(helper.argv, lambda source: "FD")


def test_it_is_a_backend() -> None:
    assert isinstance(Passt(), NetBackend)


def test_the_example_of_the_series(nic_of: NicOf, env_of: EnvOf) -> None:
    assert words(nic_of(SERIES), env_of()) == [
        *("/usr/bin/passt", "--foreground", "--fd", "FD", "--interface", "eth0", "--address", "192.168.221.122"),
        *("--tcp-ports", "127.0.0.1/2022:22,5000-5099:1000-1099,~5010-5029", "--udp-ports", "10101"),
    ]


def test_the_helper_is_watched_on_exactly_the_ports_that_were_asked_for(nic_of: NicOf, env_of: EnvOf) -> None:
    helper = Passt().plan(nic_of(SERIES), env_of()).helper
    assert helper is not None
    assert [(one.proto, one.address, one.start, one.end, one.to) for one in helper.forwards] == [
        ("tcp", "127.0.0.1", 2022, 2022, 22),
        ("tcp", "127.0.0.1", 5000, 5009, 1000),
        ("tcp", "127.0.0.1", 5030, 5099, 1030),
        ("udp", None, 10101, 10101, 10101),
    ]
    assert helper.forwards[1].path == "devices/interface[1]/portForward[1]/range[2]"
    assert (helper.ready, helper.on_loss) == (Ready.PORTS_LISTEN, OnLoss.RESTART)


def test_qemu_listens_and_passt_is_handed_a_connection_to_it(nic_of: NicOf, env_of: EnvOf) -> None:
    plan = Passt().plan(nic_of(passt=True), env_of())
    (listener,) = plan.fds
    assert isinstance(listener, Listener)
    assert plan.netdev == {"type": "stream", "addr": {"type": "fd", "str": listener}, "server": True, "id": "hostnet0"}
    assert plan.helper is not None
    assert plan.helper.fds == (Dial(listener.path),)


def test_passt_is_told_no_path_of_ours(nic_of: NicOf, env_of: EnvOf) -> None:
    for nic in (nic_of(SERIES), nic_of()):
        assert not [word for word in words(nic, env_of())[1:] if word.startswith("/")]


def test_its_messages_go_to_the_file_that_the_xml_names_emptied_first_or_to_a_log_of_ours(
    nic_of: NicOf, env_of: EnvOf
) -> None:
    named = Passt().plan(nic_of(SERIES), env_of()).helper
    ours = Passt().plan(nic_of(passt=True), env_of()).helper
    assert named is not None
    assert ours is not None
    env = env_of()
    assert named.stderr == LogFile(env.logs.parent.parent / "home/u/passt.log", truncate=True)
    assert ours.stderr == LogFile(env.logs / "net0-passt.log")


def test_a_passt_that_logs_elsewhere_is_told_to_use_its_standard_error(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of()
    assert env.facts.passt is not None
    old = replace(env.facts.passt, options=env.facts.passt.options | {"stderr"})
    assert "--stderr" in words(nic_of(passt=True), env_of(passt=old))
    assert "--stderr" not in words(nic_of(passt=True), env)


def test_every_attribute_that_libvirt_knows_in_libvirts_order(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(
        "<source dev='lo'/><ip address='10.1.0.5' prefix='16'/><ip address='2001:db8::5' prefix='64'/>"
        "<route gateway='10.1.0.1'/><route family='ipv6' gateway='2001:db8::1'/><portForward proto='tcp'/>"
        "<mtu size='1400'/><model type='virtio'/><backend type='passt' hostname='h' fqdn='h.example'/>"
    )
    assert words(nic, env_of())[4:] == [
        *("--mtu", "1400", "--interface", "lo", "--hostname", "h", "--fqdn", "h.example"),
        *("--address", "10.1.0.5", "--netmask", "16", "--address", "2001:db8::5"),
        *("--gateway", "10.1.0.1", "--gateway", "2001:db8::1", "--tcp-ports", "all"),
    ]


def test_an_interface_that_names_no_backend_has_every_address_pinned(nic_of: NicOf, env_of: EnvOf) -> None:
    assert words(nic_of("<ip address='172.17.1.1' prefix='16'/>"), env_of())[4:] == [
        *("--address", "172.17.2.15", "--netmask", "16", "--gateway", "172.17.2.2"),
        *(
            "--address",
            "fec0::5054:ff:fe12:3456",
            "--gateway",
            "fec0::2",
            "--dns-forward",
            "172.17.2.3",
            "--dns-forward",
            "fec0::3",
        ),
    ]


def test_the_nameserver_is_offered_where_passt_can_be_told_what_is_behind_it(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of()
    assert env.facts.passt is not None
    new = replace(env.facts.passt, options=env.facts.passt.options | {"dns-host"})
    told = words(nic_of(), env_of(passt=new, nameservers=("::1", "127.0.0.53")))
    assert told[-8:] == ["--dns", "10.0.2.3", "--dns-host", "127.0.0.53", "--dns", "fec0::3", "--dns-host", "::1"]
    assert "--dns" not in words(nic_of(), env_of(passt=new))
    helper = Passt().plan(nic_of(), env_of(passt=new)).helper
    assert helper is not None
    assert helper.follow is not None
    assert (helper.follow.resolvers, helper.follow.answers) == ((4, 6), ("10.0.2.3", "fec0::3"))
    named = "<virlet:dns-host address='10.1.0.9'/>"
    pinned = nic_of(f"<virlet:passt xmlns:virlet='{VIRLET}'>{named}</virlet:passt>")
    helper = Passt().plan(pinned, env_of(passt=new)).helper
    assert helper is not None
    assert helper.follow is not None
    assert helper.follow.answers == ("fec0::3",)


def test_an_old_passt_answers_where_it_offers_a_resolver_of_the_hosts_loopback(nic_of: NicOf, env_of: EnvOf) -> None:
    told = words(nic_of(), env_of(nameservers=("127.0.0.53", "fd00::1")))
    assert "10.0.2.3" not in told
    assert told[-2:] == ["--dns-forward", "fec0::3"]


@pytest.mark.parametrize(
    ("passt", "reason"),
    [
        (None, "passt is not installed"),
        (PasstFacts("/p", frozenset({"fd", "foreground"}), Support(False, "no user namespaces")), "no user namespaces"),
        (PasstFacts("/p", frozenset({"foreground"}), Support(True)), "has no --fd"),
        (PasstFacts("/p", frozenset({"fd", "foreground"}), Support(True), needs_route=True), "without a default route"),
    ],
)
def test_a_passt_that_cannot_be_used_says_why_and_what_to_do(
    passt: PasstFacts | None, reason: str, env_of: EnvOf
) -> None:
    env = env_of(passt=passt, uplinks=Uplinks())
    support = Passt().judge(env.facts, env.qemu)
    assert not support
    assert reason in support.reason


def test_a_qemu_without_stream_is_a_no(env_of: EnvOf) -> None:
    env = env_of(netdevs={"user": frozenset()})
    assert "-netdev stream" in Passt().judge(env.facts, env.qemu).reason


@pytest.mark.parametrize(
    ("inside", "path", "said"),
    [
        ("<backend type='passt' hostname='h'/>", "backend/@hostname", "no --hostname"),
        ("<backend type='passt' fqdn='h.e'/>", "backend/@fqdn", "no --fqdn"),
        ("<mtu size='67'/><backend type='passt'/>", "mtu/@size", "an MTU of 67"),
        ("<mtu size='65521'/><backend type='passt'/>", "mtu/@size", "an MTU of 65521"),
        ("<source dev='nope'/><backend type='passt'/>", "source/@dev", "no network interface 'nope'"),
        ("<portForward proto='tcp' dev='nope'/>", "portForward[1]/@dev", "no network interface 'nope'"),
        ("<portForward proto='tcp'><range start='22'/></portForward>", "portForward[1]/range[1]", "tcp port 22"),
    ],
)
def test_what_this_host_cannot_do_is_refused_by_name(
    inside: str, path: str, said: str, nic_of: NicOf, env_of: EnvOf
) -> None:
    (problem,) = Passt().check(nic_of(inside), env_of())
    assert problem.path == f"devices/interface[1]/{path}"
    assert said in problem.message
    assert problem.hint


def test_a_low_port_names_the_sysctl_and_passes_where_the_kernel_allows_it(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of("<portForward proto='udp'><range start='53' to='5353'/></portForward>")
    (problem,) = Passt().check(nic, env_of())
    assert "net.ipv4.ip_unprivileged_port_start=53" in (problem.hint or "")
    assert list(Passt().check(nic, env_of(unprivileged_port_start=53))) == []


def test_a_link_without_an_address_is_beyond_a_passt_of_2023(nic_of: NicOf, env_of: EnvOf) -> None:
    env = env_of()
    assert env.facts.passt is not None
    old = env_of(passt=replace(env.facts.passt, link_needs_address=True))
    alone = nic_of("<portForward proto='tcp' dev='lo'><range start='2022'/></portForward>", passt=True)
    (problem,) = Passt().check(alone, old)
    assert problem.path == "devices/interface[1]/portForward[1]/@dev"
    assert "without an address" in problem.message
    assert list(Passt().check(alone, env)) == []
    both = nic_of("<portForward proto='tcp' dev='lo' address='127.0.0.1'><range start='2022'/></portForward>")
    assert list(Passt().check(both, old)) == []


def test_more_ports_than_a_process_may_open_are_refused_with_the_limit(nic_of: NicOf, env_of: EnvOf) -> None:
    nic = nic_of(
        "<portForward proto='tcp'><range start='2000' end='2999'/></portForward>"
        "<portForward proto='udp'><range start='2000' end='2999'/></portForward>"
    )
    (problem,) = Passt().check(nic, env_of(open_files=2000))
    assert problem.path == "devices/interface[1]/portForward[2]/range[1]"
    assert "2000 forwarded ports" in problem.message
    assert "RLIMIT_NOFILE" in (problem.hint or "")
    assert list(Passt().check(nic, env_of(open_files=2100))) == []
    assert list(Passt().check(nic, env_of())) == []


@given(st.integers(0, 70_000))
def test_an_mtu_is_either_refused_or_told_to_passt_and_the_card(size: int) -> None:
    from virlet.model.domain import parse_interface  # fixtures and hypothesis do not mix

    text = f"<interface type='user'><mtu size='{size}'/><model type='virtio'/><backend type='passt'/></interface>"
    nic = replace(parse_interface(text)[0], alias="net0")
    env = _env()
    refused = bool(list(Passt().check(nic, env)))
    assert refused == (size != 0 and not 68 <= size <= 65_520)
    plan = Passt().plan(nic, env)
    assert plan.device.get("host_mtu") == (size or None)


def _env() -> Env:
    from pathlib import Path

    from virlet.plan.facts import Facts, HostFacts, QemuFacts

    qemu = QemuFacts("/q", "x86_64", (7, 2, 0), netdevs={"stream": frozenset()})
    host = HostFacts("x86_64", "h", "", "", "", 1, 1, 1, 1)
    passt = PasstFacts("/p", frozenset({"fd", "foreground"}), Support(True))
    return Env(Facts(host, {"/q": qemu}, passt), qemu, Path("/r"), Path("/l"), "devices/interface[1]")
