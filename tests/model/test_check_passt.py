"""What of passt's options contradicts itself is refused by name, with the line."""

from __future__ import annotations

import pytest

from virlet.errors import BadConfig
from virlet.model.domain import parse_interface
from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.xml import dump


def read(inside: str, kind: str = "user", backend: str = "<backend type='passt'/>") -> Interface:
    return parse_interface(f"<interface type='{kind}' xmlns:virlet='{VIRLET}'>\n{inside}\n{backend}</interface>")[0]


BAD = [
    ("<virlet:passt quiet='yes' debug='yes'/>", "virlet:passt/@quiet", "cannot be quiet and say more"),
    ("<virlet:passt ipv4='no' ipv6='no'/>", "virlet:passt/@ipv4", "carries nothing"),
    ("<virlet:passt ipv6='no'/><ip address='fd00::5'/>", "ip[1]/@address", "'fd00::5' is an IPv6 address"),
    ("<virlet:passt ipv4='no'/><route gateway='10.0.0.1'/>", "route[1]/@gateway", "is an IPv4 address"),
    (
        "<virlet:passt ipv4='no'><virlet:dns address='::1'/><virlet:dns address='10.0.0.9'/></virlet:passt>",
        "virlet:passt/virlet:dns[2]/@address",
        "'10.0.0.9' is an IPv4 address",
    ),
    ("<virlet:passt tcp='no'/><portForward proto='tcp'/>", "portForward[1]", "switches TCP off"),
    (
        "<virlet:passt><virlet:outbound address='10.0.0.1'/><virlet:outbound address='10.0.0.2'/></virlet:passt>",
        "virlet:passt/virlet:outbound[2]",
        "one IPv4 address for outbound",
    ),
    (
        "<virlet:passt><virlet:dns address='none'/><virlet:dns address='10.0.0.2'/></virlet:passt>",
        "virlet:passt/virlet:dns[1]",
        "'none' is not the only dns",
    ),
    (
        "<virlet:passt dhcp-search='no'><virlet:search domain='a.example'/></virlet:passt>",
        "virlet:passt/virlet:search[1]",
        "that nothing is",
    ),
    (
        "<virlet:passt><virlet:outbound address='::1'/></virlet:passt>",
        "virlet:passt/virlet:outbound[1]/@address",
        "cannot be where connections come from",
    ),
    ("<virlet:passt mtu='1400'/>", "virlet:passt/@mtu", "has no attribute 'mtu'"),
    ("<virlet:passt dns='10.0.0.1'/>", "virlet:passt/@dns", "has no attribute 'dns'"),
    ("<virlet:passt><virlet:fqdn name='h'/></virlet:passt>", "virlet:passt/virlet:fqdn", "has no element"),
]


@pytest.mark.parametrize(("inside", "place", "said"), BAD)
def test_a_contradiction_is_refused_with_its_place_and_line(inside: str, place: str, said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        read(inside)
    (problem,) = caught.value.problems
    assert problem.path.endswith(place)
    assert said in problem.message
    assert problem.line == 2


@pytest.mark.parametrize(
    "inside",
    [
        "<virlet:passt path='passt'/>",
        "<virlet:passt quiet='perhaps'/>",
        "<virlet:passt mac='01:00:00:00:00:01'/>",
        "<virlet:passt outbound-if4='much-too-long-a-name'/>",
        "<virlet:passt><virlet:dns address='resolver'/></virlet:passt>",
        "<virlet:passt><virlet:outbound address='none'/></virlet:passt>",
        "<virlet:passt><virlet:search domain='a b'/></virlet:passt>",
        "<virlet:passt><virlet:param/></virlet:passt>",
    ],
)
def test_a_value_of_a_wrong_kind_is_refused_with_its_line(inside: str) -> None:
    with pytest.raises(BadConfig) as caught:
        read(inside)
    assert [problem.line for problem in caught.value.problems] == [2]


def test_only_passt_has_options_of_passts() -> None:
    with pytest.raises(BadConfig, match="can only be used with interface type='user'"):
        read("<virlet:passt/><source address='10.0.0.1' port='5000'/>", kind="client", backend="")


def test_it_is_printed_as_it_was_said() -> None:
    nic = read("<virlet:passt tcp='no' quiet='yes'><virlet:dns address='2001:DB8::0:1'/></virlet:passt>")
    text = dump(nic)
    assert "<virlet:passt quiet='yes' tcp='no'>\n    <virlet:dns address='2001:db8::1'/>" in text
    assert parse_interface(text)[0] == nic
