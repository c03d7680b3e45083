from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import BadConfig, VirletError, XmlInvalidSchema
from virlet.model.controller import Controller
from virlet.model.domain import (
    Domain,
    format_device,
    format_domain,
    parse_device,
    parse_domain,
    parse_interface,
)
from virlet.model.namespaces import VIRLET

EVERYDAY = (Path(__file__).parent / "golden" / "everyday.xml").read_text()


def test_the_live_form_has_the_id_and_the_inactive_one_has_not() -> None:
    domain, _ = parse_domain(EVERYDAY)
    assert "<domain type='qemu' id='4'>" in format_domain(domain, id=4)
    assert "id='4'" not in format_domain(domain, inactive=True, id=4)


def test_unknown_elements_are_kept_and_with_validate_refused() -> None:
    text = EVERYDAY.replace("<features>", "<future>\n    <thing/>\n  </future>\n  <features>")
    domain, source = parse_domain(text)
    assert [(one.path, one.line) for one in source.unknown] == [("future", 11)]
    assert "<future>\n    <thing/>\n  </future>" in format_domain(domain, inactive=True)
    with pytest.raises(XmlInvalidSchema) as caught:
        parse_domain(text, validate=True)
    assert (caught.value.code, caught.value.domain) == (ErrorCode.XML_INVALID_SCHEMA, ErrorDomain.XML)
    assert "element 'future'" in caught.value.message


OWN = f"xmlns:virlet='{VIRLET}'"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (f"<virlet:frob {OWN}/>", "unknown element 'virlet:frob'"),
        (f"<v:frob xmlns:v='{VIRLET}'/>", "unknown element 'v:frob'"),
        (f"<virlet:backend {OWN} name='slirp' pasword='x'/>", "unknown attribute 'pasword'"),
        (f"<virlet:guestForward {OWN} address='10.0.2.9' port='9' host='127.0.0.1' hots='x'/>", "'hots'"),
        (f"<mac {OWN} virlet:age='9'/>", "unknown attribute 'virlet:age'"),
        (f"<virlet:passt {OWN} speed='9'/>", "<virlet:passt> has no attribute 'speed'"),
    ],
)
def test_names_of_our_own_that_mean_nothing_are_refused_once_with_their_line(more: str, said: str) -> None:
    nic = f"<interface type='user'>\n{more}\n</interface>"
    with pytest.raises(BadConfig) as caught:
        parse_interface(nic)
    (problem,) = caught.value.problems
    assert said in problem.message
    assert problem.line == 2
    assert problem.hint
    if "passt" not in more:
        parse_interface(nic, stored=True)


def test_names_of_our_own_are_looked_at_wherever_they_stand_and_not_in_metadata() -> None:
    frob = f"<virlet:frob {OWN}/>"
    for place in ("<features>", "<devices>", "</domain>"):
        text = EVERYDAY.replace(place, f"{place}{frob}" if place[1] != "/" else f"{frob}{place}")
        with pytest.raises(BadConfig, match="virlet:frob"):
            parse_domain(text)
        assert parse_domain(text, stored=True)
    assert parse_domain(EVERYDAY.replace("</domain>", f"<metadata>{frob}</metadata></domain>"))


def test_the_wrong_root_is_the_xml_parsers_error() -> None:
    with pytest.raises(BadConfig) as caught:
        parse_domain("<a/>")
    assert (caught.value.code, caught.value.domain) == (27, ErrorDomain.XML)


def test_a_device_is_read_by_its_name_and_printed() -> None:
    device, _ = parse_device("<controller type='usb' index='0'/>")
    assert isinstance(device, Controller)
    assert format_device(device) == "<controller type='usb' index='0'/>\n"


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        ("<hostdev mode='subsystem'/>", 67, "device <hostdev> is not supported: needs privileges"),
        ("<nothing/>", 1, "unknown device type 'nothing'"),
        ("<interface type='bridge'/>", 27, "requires a 'source' element"),
        ("<interface><foo/></interface>", 92, "element 'foo'"),
    ],
)
def test_other_devices_are_refused(text: str, code: int, says: str) -> None:
    with pytest.raises(VirletError) as caught:
        parse_device(text, validate=True)
    assert caught.value.code == code
    assert says in caught.value.message


def test_an_interface_is_expected_where_one_is_asked_for() -> None:
    with pytest.raises(BadConfig, match="expecting root element of 'interface', not 'disk'"):
        parse_interface("<disk/>")
    with pytest.raises(XmlInvalidSchema):
        parse_interface("<interface foo='1'/>", validate=True)


def _refusal(text: str) -> str:
    try:
        parse_domain(text)
    except VirletError as error:
        return error.message
    return ""


@pytest.mark.parametrize(
    "inside",
    [
        "<metadata>" + "<a/>" * 45_000 + "</metadata>",
        "<devices>" + "<interface/>" * 5_000 + "</devices>",
        "<devices>" + "<unknown/>" * 45_000 + "</devices>",
        "<devices>" + "<disk/>" * 20_000 + "</devices>",
        "<name>/" + "n" * 3_000_000 + "</name>",
        "<vcpu>" + "9" * 3_000_000 + "</vcpu>",
        "<memory " + " ".join(f"a{n}='1'" for n in range(50_000)) + ">1</memory>",
    ],
    ids=["metadata", "interfaces", "unknown", "problems", "name", "number", "attributes"],
)
def test_hostile_domains_cost_little_time_and_short_errors(inside: str) -> None:
    began = time.process_time()
    for begin in ("", "<name>x</name>", "<memory>9</memory>", "<name>x</name><memory>9</memory>"):
        message = _refusal(f"<domain type='qemu'>{begin}{inside}<os><type>hvm</type></os></domain>")
        assert len(message) < 100_000
    assert time.process_time() - began < 10


_WORDS = st.sampled_from(
    ["", "0", "-1", "yes", "x", "99999999999999999999", "user", "é", "\n", "%s", "{value}", "1.2.3.4", "::"]
)


@settings(max_examples=200)
@given(st.data())
def test_any_spoilt_domain_is_a_domain_or_our_error(data: st.DataObject) -> None:
    # Invariant: whatever word of a good domain is replaced, or line removed, the result is a Domain that prints and
    # reads back as itself, or VirletError.
    lines = EVERYDAY.splitlines()
    number = data.draw(st.integers(0, len(lines) - 1))
    if data.draw(st.booleans()):
        del lines[number]
    else:
        words = lines[number].split("'")
        if len(words) > 1:
            words[data.draw(st.integers(0, (len(words) - 2) // 2)) * 2 + 1] = data.draw(_WORDS)
        lines[number] = "'".join(words)
    try:
        domain, _ = parse_domain("\n".join(lines))
    except VirletError:
        return
    assert isinstance(domain, Domain)
    assert parse_domain(format_domain(domain, inactive=True, secure=True))[0] == domain
