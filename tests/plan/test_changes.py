"""Which interface is meant, and what may change while the guest runs."""

from __future__ import annotations

import pytest

from virlet.enums import ErrorCode
from virlet.errors import DeviceMissing, OperationFailed, OperationUnsupported, VirletError
from virlet.model.domain import parse_interface
from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.plan.changes import Wanted, check_attach, find_interface, merge_update

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
PARTS = {
    "type": "user",
    "mac": f"<mac address='{MAC}'/>",
    "model": "<model type='virtio'/>",
    "backend": "<backend type='passt'/>",
}


def nic(more: str = "", **parts: str) -> Interface:
    """The running card, or with *parts* another one."""
    kept = {**PARTS, **parts}
    text = f"<interface type='{kept.pop('type')}'>{''.join(kept.values())}{more}</interface>"
    return parse_interface(text, live=True)[0]


RUNNING = nic("<address type='pci' bus='1' slot='0'/><alias name='net0'/>")
SECOND = nic("<address type='pci' bus='2' slot='0'/><alias name='net1'/>")


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ("<alias name='net0'/>", 0),
        ("<alias name='net1'/>", 1),
        ("<address type='pci' bus='2' slot='0'/>", 1),
        ("<address type='pci' bus='1' slot='0'/><alias name='net0'/>", 0),
    ],
)
def test_address_and_alias_tell_cards_with_one_mac_apart(more: str, place: int) -> None:
    assert find_interface([RUNNING, SECOND], Wanted(nic(more), True)) == place


def test_the_mac_address_alone_finds_one_card_and_never_two() -> None:
    assert find_interface([RUNNING], Wanted(nic(type="bridge", more="<source bridge='x'/>", backend=""), True)) == 0
    with pytest.raises(OperationFailed, match=f"multiple devices matching MAC address {MAC} found"):
        find_interface([RUNNING, SECOND], Wanted(nic(), True))


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        (
            nic(mac=f"<mac address='{OTHER}'/>"),
            f"address '(<null>)' matching MAC address '{OTHER}' and alias '(<null>)'",
        ),
        (nic("<alias name='net7'/>"), "alias 'net7'"),
        (nic("<address type='pci' bus='9' slot='0'/>"), "address '0000:09:00.0'"),
    ],
)
def test_what_is_not_there_is_missing(wanted: Interface, said: str) -> None:
    with pytest.raises(DeviceMissing) as caught:
        find_interface([RUNNING], Wanted(wanted, True))
    assert said in str(caught.value)
    assert str(caught.value).startswith("device not found: no device found at ")


def test_a_card_without_any_name_is_nobody() -> None:
    with pytest.raises(DeviceMissing):
        find_interface([RUNNING], Wanted(nic(mac=""), False))


def test_the_link_and_nothing_else_changes() -> None:
    new = merge_update(RUNNING, Wanted(nic("<link state='down'/>"), True))
    assert not new.link_up
    assert merge_update(new, Wanted(nic(), True)) == RUNNING


@pytest.mark.parametrize(
    ("new", "said", "code"),
    [
        (nic(type="mcast", backend="", more="<source address='230.0.0.1' port='1'/>"), "'mcast' network type", 84),
        (nic(model="<model type='e1000'/>"), "network device model from virtio to e1000", 84),
        (nic(mac=f"<mac address='{OTHER}'/>"), f"mac address from {MAC} to {OTHER}", 84),
        (nic("<driver txmode='timer'/>"), "virtio network device driver attributes", 84),
        (nic(backend=""), "cannot change backend type", 84),
        (nic(backend="<backend type='passt' logFile='/x'/>"), "cannot modify network device backend settings", 84),
        (nic("<portForward proto='tcp'/>"), "cannot modify network device portForward settings", 84),
        (nic("<ip address='10.1.2.3'/>"), "cannot modify network device ip settings", 84),
        (nic("<source dev='lo'/>"), "cannot modify network device source settings", 84),
        (nic("<route gateway='10.1.2.1'/>"), "cannot modify network device route settings", 84),
        (nic("<mtu size='1400'/>"), "cannot modify MTU", 84),
        (nic("<bandwidth><inbound average='1'/></bandwidth>"), "bandwidth tuning is not available", 84),
        (nic("<rom bar='off'/>"), "rom bar setting", 84),
        (nic("<rom file='/x'/>"), "cannot modify network rom file", 84),
        (nic("<rom enabled='no'/>"), "rom enabled setting", 84),
        (nic("<acpi index='3'/>"), "changing device 'acpi index' is not allowed", 29),
        (nic("<boot order='1'/>"), "boot index setting", 84),
        (nic("<target dev='tap0'/>"), "cannot modify network device tap name", 84),
        (nic("<script path='/x'/>"), "script attribute", 84),
        (nic("<downscript path='/x'/>"), "downscript", 84),
        (nic("<tune><sndbuf>9</sndbuf></tune>"), "unable to change config on 'user' network type", 84),
        (nic("<teaming type='persistent'/>"), "teaming", 84),
        (nic("<guest dev='x'/>"), "guest settings", 84),
        (nic("<filterref filter='x'/>"), "filterref settings", 84),
        (nic("<frob/>"), "element <frob>: it is not known", 84),
        (nic("<link speed='9'/>"), "attribute 'speed': it is not known", 84),
    ],
)
def test_every_other_change_is_refused_by_name(new: Interface, said: str, code: int) -> None:
    with pytest.raises(VirletError) as caught:
        merge_update(RUNNING, Wanted(new, True))
    assert said in str(caught.value)
    assert caught.value.code == ErrorCode(code)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("more", "word"),
    [
        ("<virlet:backend name='slirp'/>", "virlet:backend settings"),
        ("<virlet:passt icmp='no'/>", "virlet:passt settings"),
    ],
)
def test_our_own_elements_are_called_as_the_xml_calls_them(more: str, word: str) -> None:
    new = nic(more.replace(" ", f" xmlns:virlet='{VIRLET}' ", 1))
    with pytest.raises(OperationUnsupported, match=word):
        merge_update(RUNNING, Wanted(new, True))


def test_nobody_is_sent_to_the_definition_with_what_no_start_takes() -> None:
    for more in (
        "<bandwidth><inbound average='1'/></bandwidth>",
        "<filterref filter='x'/>",
        "<frob/>",
        "<script path='/x'/>",
        "<tune><sndbuf>9</sndbuf></tune>",
    ):
        with pytest.raises(OperationUnsupported) as caught:
            merge_update(RUNNING, Wanted(nic(more), True))
        assert "--config" not in (caught.value.hint or "")


def test_what_nobody_knows_and_is_there_already_is_no_change() -> None:
    old = nic("<frob/><link speed='9'/>")
    assert not merge_update(old, Wanted(nic("<frob/><link speed='9' state='down'/>"), True)).link_up
    assert merge_update(old, Wanted(nic(), True)) == old


@pytest.mark.parametrize("kind", ["mcast", "udp", "client", "server", "internal", "null"])
def test_what_libvirt_does_not_hotplug_is_refused_in_its_words(kind: str) -> None:
    source = "<source address='230.0.0.1' port='1' name='x'><local address='127.0.0.1' port='2'/></source>"
    with pytest.raises(OperationUnsupported, match=f"hotplug of interface type of {kind} is not implemented yet"):
        check_attach(nic(type=kind, backend="", more=source))
    check_attach(RUNNING)
