"""What a define refuses about interfaces, in libvirt's words (seen from libvirt 12.8)."""

from __future__ import annotations

import pytest

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import BadConfig
from virlet.model.domain import parse_interface

VIRTIO = "<model type='virtio'/>"
PASST = "<backend type='passt'/>"
SOCKET = "<source type='unix' path='/run/vu'/>"
GUEST_IP = "Invalid attempt to set network interface guest-side IP address info"

REFUSED = [
    ("user", "<ip address='x'/>", 27, "Invalid address 'x' in <ip>"),
    ("user", "<ip/>", 27, "Missing required address in <ip>"),
    ("user", "<ip address='1.2.3.4' family='ipv6'/>", 27, "Invalid address '1.2.3.4' in <ip>"),
    ("user", "<ip address='1.2.3.4' prefix='33'/>", 27, "Invalid prefix value '33' in <ip>"),
    ("user", "<ip address='1.2.3.4' prefix='x'/>", 27, "Invalid prefix value 'x' in <ip>"),
    ("user", "<ip address='1.2.3.4' prefix='28'/>", 27, "invalid prefix, must be in range of 4-27"),
    ("user", "<ip address='fd00::1' prefix='48'/>", 67, "unsupported IPv6 address prefix='48' - must be 64"),
    ("user", "<ip address='1.2.3.4' peer='1.2.3.5'/>", 67, "Invalid attempt to set peer IP for guest"),
    ("user", "<ip address='1.2.3.4'/><ip address='1.2.3.5'/>", 67, "Only one IPv4 address per interface is allowed"),
    ("user", "<ip address='::4'/><ip address='::5'/>", 67, "Only one IPv6 address per interface is allowed"),
    ("ethernet", "<ip address='1.2.3.4'/>", 67, GUEST_IP),
    ("vhostuser", SOCKET + "<ip address='1.2.3.4'/>", 67, GUEST_IP),
    ("user", "<route gateway='1.2.3.4'/>", 67, "guest-side IP route, not supported for this interface type/backend"),
    ("user", PASST + "<route/>", 27, "guest interface: Missing required gateway attribute in route definition"),
    ("user", PASST + "<route gateway='x'/>", 27, "guest interface: Bad gateway address 'x' in route definition"),
    ("user", PASST + "<route gateway='fd00::1'/>", 27, "No family specified for non-IPv4 gateway '(null)'"),
    ("user", PASST + "<route family='ipv6' gateway='1.2.3.4'/>", 27, "ipv6 specified for non-IPv6 gateway address"),
    ("user", PASST + "<route family='x' gateway='1.2.3.4'/>", 27, "Unrecognized family 'x' in route definition"),
    ("user", PASST + "<route gateway='1.2.3.4' metric='5'/>", 67, "must be default routes, with only a gateway"),
    ("user", PASST + "<route gateway='1.1.1.1'/><route gateway='1.1.1.2'/>", 67, "only one IPv4 default route"),
    (
        "ethernet",
        "<portForward proto='tcp'/>",
        67,
        "The <portForward> element can only be used with the 'passt' backend",
    ),
    ("user", PASST + "<portForward/>", 27, "Missing required attribute 'proto' in element 'portForward'"),
    ("user", PASST + "<portForward proto='x'/>", 27, "attribute 'proto' in element 'portForward': 'x'."),
    ("user", PASST + "<portForward proto='tcp' address='x'/>", 27, "Invalid address 'x' in <portForward>"),
    ("user", PASST + "<portForward proto='tcp'><range end='4'/></portForward>", 67, "requires 'start' attribute"),
    ("user", PASST + "<portForward proto='tcp'><range start='0'/></portForward>", 27, "Zero is not permitted"),
    ("user", "<driver name='x'/>", 27, "Invalid value for attribute 'name' in element 'driver': 'x'."),
    ("user", "<driver rx_queue_size='3'/>", 67, "rx_queue_size has to be a power of two"),
    ("user", "<driver tx_queue_size='5'/>", 67, "tx_queue_size has to be a power of two"),
    ("user", "<backend fqdn='x'/>", 67, "can only be used with the <backend> type='passt'"),
    ("user", "<backend hostname='x'/>", 67, "can only be used with the <backend> type='passt'"),
    ("user", "<backend type='x'/>", 27, "Invalid value for attribute 'type' in element 'backend': 'x'."),
    ("ethernet", PASST, 67, "The 'passt' backend can only be used with interface type='user' or type='vhostuser'"),
    ("user", "<vlan><tag id='4096'/></vlan>", 27, "vlan tag id 4096 too large (maximum 4095)"),
    ("user", "<vlan><tag id='5'/></vlan>", 67, "vlan tag not supported for this connection type"),
    ("user", "<vlan/>", 27, "missing tag id - each <vlan> must have"),
    ("user", "<virtualport type='openvswitch'/>", 67, "<virtualport> element unsupported for <interface type='user'>"),
    ("user", "<port isolated='yes'/>", 67, "<port isolated='yes'/> is not supported for network interfaces with"),
    ("user", "<bandwidth><inbound/></bandwidth>", 35, "Missing mandatory average or floor attributes"),
    ("user", "<bandwidth><outbound peak='1'/></bandwidth>", 35, "Missing mandatory average or floor attributes"),
    ("user", "<bandwidth><inbound average='4' floor='3'/></bandwidth>", 67, "floor attribute is not supported"),
    ("user", "<target managed='no'/>", 67, "unmanaged target dev is not supported on interfaces of type 'user'"),
    ("user", "<mtu size='1500'/>", 67, "setting MTU on interface type user is not supported yet"),
    ("user", "<mtu size='x'/>", 27, "malformed mtu size"),
    ("user", "<link state='x'/>", 67, "unknown interface link state 'x'"),
    ("user", "<mac address='xx'/>", 27, "unable to parse mac address 'xx'"),
    ("user", "<boot order='0'/>", 27, "Invalid value for attribute 'order' in element 'boot': Zero is not permitted"),
    ("user", "<coalesce><rx><frames max='3'/></rx></coalesce>", 67, "coalesce settings on interface type user"),
    ("user", "<rom enabled='no' bar='on'/>", 67, "ROM tuning is not supported when ROM is disabled"),
    ("user", "<teaming type='x'/>", 67, "unknown teaming type 'x'"),
    ("user", "<teaming type='transient'/>", 67, "teaming persistent attribute must be set"),
    ("user", "<teaming type='transient' persistent='ua-x'/>", 67, "must be type='hostdev', not 'user'"),
    ("user", "<teaming type='persistent' persistent='x'/>", 67, "teaming persistent attribute not allowed"),
    ("user", "<source><ip address='1.2.3.4'/></source>", 67, "host-side IP route and/or address info"),
    ("vhostuser", "", 27, "Missing required attribute 'path' in element 'source'"),
    ("vhostuser", "<source type='foo' path='/x'/>", 67, "Type='foo' unsupported for <interface type='vhostuser'>"),
    ("vhostuser", "<source path='/x' mode='x'/>", 27, "Invalid value for attribute 'mode' in element 'source': 'x'."),
    (
        "vhostuser",
        "<source path='/x' mode='server'><reconnect enabled='yes' timeout='4'/></source>",
        67,
        "'reconnect' attribute is not supported when source mode='server'",
    ),
    ("vhostuser", "<source path='/x'><reconnect enabled='yes'/></source>", 27, "'timeout' in element 'reconnect'"),
    ("bridge", "", 27, "interface type='bridge' requires a 'source' element"),
    ("direct", "<source mode='vepa'/>", 27, "Missing required attribute 'dev' in element 'source'"),
    ("udp", "<source address='1.2.3.4' port='5'/>", 27, "'<local>' element missing for 'udp' socket interface"),
    ("udp", "<source address='1.2.3.4' port='5'><local port='4'/></source>", 27, "'address' in element 'local'"),
    ("udp", "<source address='1.2.3.4' port='5'><local address='::1'/></source>", 27, "'port' in element 'local'"),
    ("mcast", "", 27, "interface type='mcast' requires a 'source' element"),
    ("client", "<source port='4'/>", 27, "Missing required attribute 'address' in element 'source'"),
    ("server", "<source/>", 27, "Missing required attribute 'port' in element 'source'"),
    ("foo", "", 27, "Invalid value for attribute 'type' in element 'interface': 'foo'."),
]


@pytest.mark.parametrize(("kind", "inside", "code", "says"), REFUSED)
def test_a_bad_interface_is_refused_in_libvirts_words(kind: str, inside: str, code: int, says: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_interface(f"<interface type='{kind}'>\n{inside}{VIRTIO}</interface>")
    assert says in caught.value.message
    assert code in [int(problem.code) for problem in caught.value.problems]
    assert all(problem.line is not None and problem.column is not None for problem in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (f"<interface type='vhostuser'>{SOCKET}<model type='e1000'/></interface>", "'e1000' - must be 'virtio'"),
        (f"<interface type='vhostuser'>{PASST}<model type='e1000'/></interface>", "'e1000' - must be 'virtio'"),
        ("<interface><model type='a b'/></interface>", "Model name contains invalid characters"),
        (
            "<interface><model type='e1000'/><driver iommu='on'/></interface>",
            "iommu driver option is only supported for virtio devices",
        ),
        (
            "<interface><model type='e1000'/><teaming type='persistent'/></interface>",
            "must be <model type='virtio'/>, not 'e1000'",
        ),
    ],
)
def test_a_model_that_does_not_fit_is_refused(text: str, says: str) -> None:
    with pytest.raises(BadConfig) as caught:
        parse_interface(text)
    assert says in caught.value.message


ACCEPTED = [
    f"<interface type='user'>{PASST}<ip address='1.2.3.4' prefix='28'/></interface>",
    f"<interface type='vhostuser'>{PASST}<ip address='1.2.3.4'/><route gateway='1.1.1.1'/><mtu size='9'/></interface>",
    f"<interface type='user'>{PASST}<portForward proto='tcp'><range/></portForward></interface>",
    f"<interface type='user'>{PASST}<route gateway='1.2.3.4'/><route family='ipv6' gateway='fd00::1'/></interface>",
    "<interface type='ethernet'><mtu size='1400'/></interface>",
    "<interface type='user'><mtu size='0'/><teaming persistent='x'/><port isolated='no'/></interface>",
    "<interface type='server'><source port='70000'/></interface>",
    "<interface type='null'/>",
    # Beyond libvirt: without a named backend one is chosen that can forward.
    "<interface type='user'><portForward proto='tcp'/></interface>",
]


@pytest.mark.parametrize("text", ACCEPTED)
def test_what_libvirt_takes_is_taken(text: str) -> None:
    nic, source = parse_interface(text)
    assert nic.mac is not None
    assert source.unknown == ()


def test_all_problems_are_told_at_once_with_paths() -> None:
    text = "<interface>\n <route gateway='1.2.3.4'/>\n <link state='down'/>\n <mtu size='9'/>\n</interface>"
    with pytest.raises(BadConfig) as caught:
        parse_interface(text)
    assert [(one.path, one.line) for one in caught.value.problems] == [("route[1]", 2), ("mtu/@size", 4)]


def test_route_problems_are_the_networks() -> None:
    with pytest.raises(BadConfig) as caught:
        parse_interface(f"<interface>{PASST}<route/></interface>")
    assert (caught.value.code, caught.value.domain) == (ErrorCode.XML_ERROR, ErrorDomain.NETWORK)
