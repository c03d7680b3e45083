from __future__ import annotations

import pytest

from virlet.errors import BadConfig
from virlet.model.domain import format_device, parse_device, parse_domain

NIC = "<interface type='user'><mac address='52:54:00:00:00:01'/>{}<model type='virtio'/></interface>"


def test_the_first_of_two_counts_and_the_other_does_not_take_its_place_when_it_is_stored() -> None:
    # A name that libvirt makes itself says nothing in a definition, so the second would be the first of what is stored.
    found, source = parse_device(NIC.format("<target dev='vnet0'/><target dev='mine'/>"))
    (problem,) = source.unknown
    assert (problem.message, problem.line) == ("second element 'target' in element 'interface'", 1)
    text = format_device(found, secure=True)
    assert "target" not in text
    assert format_device(parse_device(text)[0], secure=True) == text


def test_what_may_be_there_once_in_a_machine_is_refused_by_name_all_the_same() -> None:
    xml = """<domain type='qemu'><name>x</name><memory>9</memory><os><type>hvm</type></os>
<devices><memballoon model='none'/>
<memballoon model='none'/></devices></domain>"""
    with pytest.raises(BadConfig, match="only a single memory balloon device") as caught:
        parse_domain(xml)
    assert caught.value.problems[0].line == 3
