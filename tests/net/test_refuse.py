"""What could never work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from virlet.enums import ErrorCode
from virlet.model.interface import Interface
from virlet.net.refuse import check_forwards_of_all, refuse, refuse_at_start

NicOf = Callable[..., Interface]
PATH = "devices/interface[1]"


@pytest.mark.parametrize(
    ("ranges", "below", "said"),
    [
        ("<range start='90' end='80'/>", "range[1]/@end", "ends at port 80, before its start 90"),
        ("<range start='70000'/>", "range[1]/@start", "no port 70000"),
        ("<range start='80' end='65536'/>", "range[1]/@end", "no port 65536"),
        ("<range start='80' to='70000'/>", "range[1]/@to", "no port 70000"),
        ("<range start='80'/><range start='90' to='1' exclude='yes'/>", "range[2]/@to", "excluded"),
        ("<range start='1' end='65535' to='2'/>", "range[1]/@to", "reaches port 65536"),
    ],
)
def test_ranges_that_libvirt_leaves_to_passt_are_refused_at_once(
    ranges: str, below: str, said: str, nic_of: NicOf
) -> None:
    nic = nic_of(f"<portForward proto='tcp'>{ranges}</portForward>", passt=True)
    (problem,) = refuse(nic, PATH)
    assert problem.path == f"{PATH}/portForward[1]/{below}"
    assert said in problem.message
    assert problem.code is ErrorCode.XML_ERROR


def test_the_last_port_can_be_forwarded(nic_of: NicOf) -> None:
    nic = nic_of("<portForward proto='tcp'><range start='1' end='65535' to='1'/></portForward>", passt=True)
    assert list(refuse(nic, PATH)) == []


def test_one_host_port_twice_is_refused_and_both_places_are_named(nic_of: NicOf) -> None:
    nic = nic_of(
        "<portForward proto='tcp'><range start='80' end='90'/></portForward>"
        "<portForward proto='tcp' address='127.0.0.1'><range start='85'/></portForward>",
        passt=True,
    )
    (problem,) = refuse(nic, PATH)
    assert problem.path == f"{PATH}/portForward[2]/range[1]"
    assert "tcp port 85" in problem.message
    assert f"{PATH}/portForward[1]/range[1]" in problem.message


def test_an_excluded_port_is_free_for_another_rule(nic_of: NicOf) -> None:
    nic = nic_of(
        "<portForward proto='tcp'><range start='80' end='90'/><range start='85' exclude='yes'/></portForward>"
        "<portForward proto='tcp'><range start='85' to='22'/></portForward>"
        "<portForward proto='udp'><range start='80'/></portForward>",
        passt=True,
    )
    assert list(refuse(nic, PATH)) == []


def test_two_interfaces_of_a_domain_may_not_want_the_same_port(nic_of: NicOf) -> None:
    nic = nic_of("<portForward proto='tcp'><range start='8022'/></portForward>", passt=True)
    (problem,) = check_forwards_of_all([(nic, PATH), (nic, "devices/interface[2]")])
    assert problem.path == "devices/interface[2]/portForward[1]/range[1]"


def test_a_log_file_is_an_absolute_path(nic_of: NicOf) -> None:
    (problem,) = refuse(nic_of("<backend type='passt' logFile='here.log'/>"), PATH)
    assert problem.path == f"{PATH}/backend/@logFile"


@pytest.mark.parametrize(
    ("inside", "below"),
    [
        ("<model type='virtio'/><driver queues='4'/>", "driver/@queues"),
        ("<script path='/bin/true'/>", "script"),
        ("<downscript path='/bin/true'/>", "downscript"),
        ("<filterref filter='clean-traffic'/>", "filterref"),
        ("<tune><sndbuf>1600</sndbuf></tune>", "tune/sndbuf"),
        ("<model type='virtio'/><driver rx_queue_size='128'/>", "driver/@rx_queue_size"),
        ("<model type='virtio'/><driver tx_queue_size='512'/>", "driver/@tx_queue_size"),
    ],
)
def test_what_may_be_defined_and_not_started(inside: str, below: str, nic_of: NicOf) -> None:
    (problem,) = refuse_at_start(nic_of(inside), PATH)
    assert problem.path == f"{PATH}/{below}"


def test_a_guest_is_not_trusted_with_filters_that_nobody_could_set(nic_of: NicOf) -> None:
    (problem,) = refuse_at_start(replace(nic_of(), trust_guest_rx_filters=True), PATH)
    assert problem.path == f"{PATH}/@trustGuestRxFilters"
    assert list(refuse_at_start(replace(nic_of(), trust_guest_rx_filters=False), PATH)) == []
