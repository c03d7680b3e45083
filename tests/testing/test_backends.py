"""Every backend of ours holds what the conformance kit asks of a stranger's; and the kit finds what is wrong."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from virlet.errors import Problem
from virlet.model.interface import Interface
from virlet.model.namespaces import VIRLET
from virlet.net.base import Env
from virlet.net.bridge import Bridge
from virlet.net.choose import registry
from virlet.net.ethernet import Ethernet
from virlet.net.internal import Internal
from virlet.net.null import Null
from virlet.net.passt import Passt
from virlet.net.passt_vhostuser import PasstVhostUser
from virlet.net.qemu_passt import QemuPasst
from virlet.net.slirp import Slirp
from virlet.net.slirp_helper import SlirpHelper
from virlet.net.sockets import Sockets
from virlet.net.vhostuser import VhostUser
from virlet.plan.base import Listener, NetPlan, PairEnd
from virlet.plan.facts import Facts, QemuFacts, Support
from virlet.testing.backends import NetBackendKit
from virlet.testing.scene import example_facts, recorded_qemu

RECORDED = Path(__file__).parents[1] / "plan/facts"


class OnRecordedQemu(NetBackendKit):
    """On the QEMUs that we have asked; the oldest does not know all."""

    @pytest.fixture(autouse=True, params=["7.2", "11.1"])
    def _qemu(self, request: pytest.FixtureRequest) -> None:
        self.qemu = recorded_qemu(json.loads((RECORDED / f"qemu-{request.param}.json").read_text()))

    def facts(self) -> Facts:
        return example_facts(qemu=self.qemu)


FORWARDS = """<portForward proto='tcp' address='127.0.0.1'><range start='2022' to='22'/><range start='5000' end='5009'/>
  <range start='5003' exclude='yes'/></portForward><portForward proto='udp'><range start='10101'/></portForward>"""
USER = (
    "<interface type='user'/>",
    "<interface type='user'><model type='virtio'/><ip address='172.17.2.0' prefix='24'/></interface>",
    f"<interface type='user'>{FORWARDS}<model type='e1000e'/><link state='down'/></interface>",
)


class TestPasst(OnRecordedQemu):
    backend = Passt
    carries = (
        *USER,
        "<interface type='user'><backend type='passt' logFile='/var/tmp/p.log'/><mtu size='9000'/>"
        f"<source dev='eth0'/>{FORWARDS}<model type='virtio'/></interface>",
    )
    refuses = (
        "<interface type='user'><backend type='passt'/><mtu size='65530'/></interface>",
        "<interface type='user'><source dev='nope'/><backend type='passt'/></interface>",
        "<interface type='user'><portForward proto='tcp'><range start='22'/></portForward></interface>",
    )


class OnNewestQemu(NetBackendKit):
    """For what the oldest has not."""

    def facts(self) -> Facts:
        return example_facts(qemu=recorded_qemu(json.loads((RECORDED / "qemu-11.1.json").read_text())))


class TestPasstVhostUser(OnNewestQemu):
    backend = PasstVhostUser
    carries = (
        f"<interface type='vhostuser'><backend type='passt'/><source dev='eth0'/>{FORWARDS}</interface>",
        "<interface type='user'><model type='virtio'/><link state='down'/></interface>",
    )
    refuses = (
        "<interface type='user'><model type='e1000'/></interface>",
        "<interface type='vhostuser'><model type='virtio'/><backend type='passt'/><driver queues='2'/></interface>",
        *(text.replace("type='user'", "type='vhostuser'", 1) for text in TestPasst.refuses[:2]),
    )


INTO_THE_HOST = "<virlet:guestForward address='10.0.2.100' port='7' host='192.0.2.9'/>"
SLIRPS = (*USER, f"<interface type='user' xmlns:virlet='{VIRLET}'>{INTO_THE_HOST}</interface>")


def _own(text: str) -> str:
    """*text* with QEMU's own passt named."""
    whole = text.replace("/>", "></interface>", 1) if text == "<interface type='user'/>" else text
    forced = "<virlet:backend name='qemu-passt'/></interface>"
    return whole.replace("type=", f"xmlns:virlet='{VIRLET}' type=", 1).replace("</interface>", forced)


class TestQemuPasst(OnNewestQemu):
    backend = QemuPasst
    carries = tuple(_own(text) for text in TestPasst.carries)
    refuses = tuple(_own(text) for text in TestPasst.refuses)


class TestSlirp(OnRecordedQemu):
    backend = Slirp
    carries = SLIRPS
    refuses = (
        "<interface type='user'><portForward proto='tcp'/></interface>",
        "<interface type='user'><portForward proto='tcp' dev='eth0'><range start='2022'/></portForward></interface>",
    )


class TestSlirpHelper(OnRecordedQemu):
    backend = SlirpHelper
    carries = SLIRPS
    refuses = TestSlirp.refuses


class TestSockets(OnRecordedQemu):
    backend = Sockets
    carries = (
        "<interface type='server'><source address='127.0.0.1' port='5558'/><model type='virtio'/></interface>",
        "<interface type='client'><source address='::1' port='5558'/></interface>",
        "<interface type='mcast'><source address='239.192.0.1' port='5558'/></interface>",
        "<interface type='udp'><source address='127.0.0.1' port='5558'><local address='127.0.0.1' port='5559'/>"
        "</source></interface>",
    )
    refuses = ("<interface type='server'><source port='70000'/></interface>",)


class TestInternal(OnRecordedQemu):
    backend = Internal
    carries = ("<interface type='internal'><source name='x'/></interface>",)


class TestNull(OnRecordedQemu):
    backend = Null
    carries = ("<interface type='null'/>",)


class TestEthernet(OnRecordedQemu):
    backend = Ethernet
    carries = (
        "<interface type='ethernet'><target dev='tap0' managed='no'/><model type='virtio'/></interface>",
        "<interface type='ethernet'><mac address='52:54:00:12:34:56'/><target dev='macvtap0' managed='no'/>"
        "</interface>",
    )
    refuses = ("<interface type='ethernet'><target dev='nope' managed='no'/></interface>",)


class TestBridge(OnRecordedQemu):
    backend = Bridge
    carries = ("<interface type='bridge'><source bridge='br0'/><model type='virtio'/></interface>",)
    refuses = ("<interface type='bridge'><source bridge='eth0'/></interface>",)


class TestVhostUser(OnRecordedQemu):
    backend = VhostUser
    carries = (
        "<interface type='vhostuser'><source type='unix' path='/run/switch.sock' mode='client'>"
        "<reconnect enabled='yes' timeout='2'/></source><model type='virtio'/></interface>",
        "<interface type='vhostuser'><source type='unix' path='/run/switch.sock' mode='server'/></interface>",
    )
    refuses = ("<interface type='vhostuser'><source type='unix' path='relative.sock'/></interface>",)


def test_no_backend_of_ours_is_left_out() -> None:
    kits = {value.backend for value in globals().values() if isinstance(value, type) and hasattr(value, "backend")}
    ours = {type(each) for each in registry().backends if type(each).__module__.startswith("virlet.net.")}
    assert ours <= kits


# What the kit is for: each of these is wrong in one way, and one check says so.


class Faulty(Slirp):
    """A stranger's, without the fault that each below has."""

    name = "faulty"


class Touching(Faulty):
    def plan(self, nic: Interface, env: Env) -> NetPlan:
        socket.socket().close()
        return super().plan(nic, env)


class Forgetful(Faulty):
    count: ClassVar[list[int]] = []

    def plan(self, nic: Interface, env: Env) -> NetPlan:
        self.count.append(1)
        plan = super().plan(nic, env)
        return replace(plan, netdev={**plan.netdev, "hostname": str(len(self.count))})


class Unopened(Faulty):
    def plan(self, nic: Interface, env: Env) -> NetPlan:
        plan = super().plan(nic, env)
        return replace(plan, netdev={**plan.netdev, "dns": PairEnd("x", 0)})


class Unjson(Faulty):
    def plan(self, nic: Interface, env: Env) -> NetPlan:
        plan = super().plan(nic, env)
        weird: Any = {1, 2}
        return replace(plan, netdev={**plan.netdev, "dns": weird})


class Strange(Faulty):
    def plan(self, nic: Interface, env: Env) -> NetPlan:
        plan = super().plan(nic, env)
        return replace(plan, netdev={**plan.netdev, "speed": 9})


class Astray(Faulty):
    def plan(self, nic: Interface, env: Env) -> NetPlan:
        plan = super().plan(nic, env)
        return replace(plan, fds=(Listener(Path("/tmp/socket")),), netdev={"type": "user", "id": "x"})


class Raising(Faulty):
    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        return Support(True, str(qemu.netdevs["user"]))


class Silent(Faulty):
    def judge(self, facts: Facts, qemu: QemuFacts) -> Support:
        return Support("user" in qemu.netdevs)


class Curt(Faulty):
    def check(self, nic: Interface, env: Env) -> Iterator[Problem]:
        yield Problem("somewhere", "no")


class Greedy(Faulty):
    def handles(self, nic: Interface) -> bool:
        return True


@pytest.mark.parametrize(
    ("backend", "check", "said"),
    [
        (Touching, "test_a_plan_is_pure_and_says_the_same_again", "socket"),
        (Forgetful, "test_a_plan_is_pure_and_says_the_same_again", "differ"),
        (Unopened, "test_every_descriptor_that_is_named_is_opened_and_the_other_way_round", "is told"),
        (Unjson, "test_what_qemu_is_told_is_json", "set is not JSON"),
        (Strange, "test_qemu_knows_the_netdev_and_each_of_its_members", "speed"),
        (Astray, "test_a_plan_is_of_this_interface_and_backend", "another id"),
        (Astray, "test_what_is_opened_lies_in_the_guests_own_directories", "outside"),
        (Astray, "test_two_interfaces_of_a_guest_share_nothing", "both interfaces"),
        (Raising, "test_a_host_that_has_nothing_is_an_answer_and_a_no_has_a_reason_and_a_hint", "KeyError"),
        (Silent, "test_a_host_that_has_nothing_is_an_answer_and_a_no_has_a_reason_and_a_hint", "without reason"),
        (Curt, "test_it_carries_what_it_says_and_has_nothing_against_it", "refused"),
        (Curt, "test_what_it_refuses_has_a_place_a_reason_and_a_next_step", "not below"),
        (Greedy, "test_an_interface_that_names_passt_is_passts", "ask for passt"),
    ],
)
def test_the_kit_finds_what_is_wrong(backend: type[Faulty], check: str, said: str) -> None:
    members = {"backend": backend, "carries": USER[:1], "refuses": USER[:1]}
    kit = type("Kit", (NetBackendKit,), members)()
    with pytest.raises(Exception) as caught:
        getattr(kit, check)()
    assert said in f"{caught.type.__name__}: {caught.value}"
