"""What holds for every network backend, as methods that a test runner calls.  Nothing is started here."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import ClassVar

from virlet.engine.codec import decode, encode
from virlet.engine.status import STORED
from virlet.errors import Problem
from virlet.model.domain import parse_interface
from virlet.model.interface import BackendType, ForcedBackend, Interface, InterfaceBackend, InterfaceType, LinkState
from virlet.net.base import Env, NetBackend
from virlet.net.choose import Registry, choose, registry
from virlet.plan.base import (
    Accept,
    Dial,
    FdSource,
    HelperPlan,
    Json,
    Listener,
    LogFile,
    NetPlan,
    OnLoss,
    PairEnd,
    Ready,
    render,
    render_json,
    sources_of,
)
from virlet.plan.facts import Facts, Support
from virlet.plan.hotplug import heat
from virlet.testing.purity import effects
from virlet.testing.scene import example_env, example_facts, without_anything

__all__ = ["NetBackendKit"]

_MAC = "52:54:00:12:34:56"
_SUN_PATH = 107


class NetBackendKit:
    """Derive from this, say what your backend carries and refuses, and have a test runner call the methods.

    A method that finds something raises :class:`AssertionError` that says what, and on which interface.
    """

    backend: ClassVar[type[NetBackend]]
    """The class that your entry point of the group ``virlet.net`` names; it is called without arguments."""
    carries: ClassVar[Sequence[str]]
    """``<interface>`` elements that the backend carries on :meth:`facts`; one at least."""
    refuses: ClassVar[Sequence[str]] = ()
    """``<interface>`` elements that it handles and finds a problem with."""

    def facts(self) -> Facts:
        """A host on which the backend works."""
        return example_facts()

    # --- what it is

    def test_it_is_a_backend_with_a_name_that_xml_can_say(self) -> None:
        """The protocol is fulfilled, and ``<virlet:backend name=…/>`` accepts its name."""
        made = self.backend()
        _that(isinstance(made, NetBackend), f"{self.backend.__name__} lacks a member of virlet.net.base.NetBackend")
        _that(re.fullmatch("[a-z0-9][a-z0-9-]*", made.name), f"'{made.name}' is not a name: a-z, 0-9, '-'")

    # --- can it be had here

    def test_a_host_that_has_everything_is_a_yes(self) -> None:
        """On :meth:`facts` it can run, else nothing below means anything."""
        env = self._env()
        support = self.backend().judge(env.facts, env.qemu)
        _that(support.ok, f"it cannot run on facts(): {support.reason}")

    def test_a_host_that_has_nothing_is_an_answer_and_a_no_has_a_reason_and_a_hint(self) -> None:
        """What is not known is no exception; doctor prints the reason and what would help."""
        bare = without_anything(self.facts())
        made = self.backend()
        for qemu in bare.qemu.values():
            support = made.judge(bare, qemu)
            _that(isinstance(support, Support), f"judge answered {support!r}")
            _that(support.ok or (support.reason and support.hint), f"a no without reason or hint: {support!r}")
            _that(support == made.judge(bare, qemu), "judge answers differently when asked again")

    # --- who carries what

    def test_it_carries_what_it_says_and_has_nothing_against_it(self) -> None:
        """Every interface of :attr:`carries` is handled and has no problem."""
        for nic, env in self._carried():
            _that(self.backend().handles(nic), f"it does not handle {_said(nic)}")
            problems = list(self.backend().check(nic, env))
            _that(not problems, f"{_said(nic)} is refused: {problems}")

    def test_what_it_refuses_has_a_place_a_reason_and_a_next_step(self) -> None:
        """Each problem says where in the XML, what is wrong, and what to do; whoever asks again hears the same."""
        for text in self.refuses:
            nic = _interface(text)
            _that(self.backend().handles(nic), f"it does not even handle {text}")
            problems = list(self.backend().check(nic, self._env()))
            _that(problems, f"nothing is wrong with {text}")
            _that(problems == list(self.backend().check(nic, self._env())), f"other problems when asked again: {text}")
            for problem in problems:
                _explained(problem, self._env().path)

    def test_who_is_forced_by_name_is_the_one_and_nobody_else(self) -> None:
        """``<virlet:backend name=…/>`` with its name is for it, with another name never."""
        ours, among = self.backend(), self._among()
        for nic, env in self._carried():
            choice = choose(replace(nic, forced=ForcedBackend(name=ours.name)), env, among)
            _that(choice.backend is not None and choice.backend.name == ours.name, f"forced, but {choice.why}")
            for other in among.backends:
                if other.name != ours.name:
                    choice = choose(replace(nic, forced=ForcedBackend(name=other.name)), env, among)
                    _that(choice.backend is None or choice.backend.name == other.name, f"instead of {other.name}")

    def test_an_interface_that_names_passt_is_passts(self) -> None:
        """``<backend type='passt'/>`` is libvirt's word for another backend."""
        named = InterfaceBackend(type=BackendType.PASST)
        plain = Interface(type=InterfaceType.USER, mac=_MAC, backend=named, alias="net0")
        ours = self.backend()
        _that("passt" in ours.name or not ours.handles(plain), "it takes interfaces that ask for passt by name")

    # --- the plan

    def test_a_plan_is_pure_and_says_the_same_again(self) -> None:
        """No file, socket or process is touched, and equal input gives equal plans, also from a new object."""
        for nic, env in self._carried():
            first = self.backend().plan(nic, env)  # modules that it imports late are imported now
            made = self.backend()
            with effects() as seen:
                list(made.check(nic, env))
                again = made.plan(nic, env)
                made.judge(env.facts, env.qemu)
            _that(not seen, f"planning {_said(nic)} touches the world: {seen}")
            _that(first == again, f"two plans of {_said(nic)} differ:\n{first}\n{again}")

    def test_a_plan_is_of_this_interface_and_backend(self) -> None:
        """Alias, MAC address, link and backend's name, in the plan and in what QEMU is told."""
        for nic, plan in self._plans():
            _that((plan.alias, plan.backend, plan.mac) == (nic.alias, self.backend().name, nic.mac), f"{plan}")
            device = plan.device
            ours = (device.get("id"), device.get("netdev"), device.get("mac"))
            _that(ours == (nic.alias, f"host{nic.alias}", nic.mac), f"the card has other names: {device}")
            _that(plan.netdev.get("id") == f"host{nic.alias}", f"the netdev has another id: {plan.netdev}")
            down = replace(nic, link_state=LinkState.DOWN)
            _that(not self.backend().plan(down, self._env()).link_up, "link state='down' is lost")

    def test_qemu_knows_the_netdev_and_each_of_its_members(self) -> None:
        """Against the schema in the facts, where that says the members."""
        known = self._env().qemu.netdevs
        for _, plan in self._plans():
            kind = str(plan.netdev.get("type"))
            _that(kind in known, f"this QEMU has no -netdev {kind}")
            strange = plan.netdev.keys() - known[kind] - {"type", "id"}
            _that(not known[kind] or not strange, f"-netdev {kind} has no {sorted(strange)}")

    def test_every_descriptor_that_is_named_is_opened_and_the_other_way_round(self) -> None:
        """QEMU's in ``fds``, the helper's in its own, each once; pairs have both ends, dials a listener."""
        for nic, plan in self._plans():
            told = sources_of((Json(plan.netdev), Json(plan.device)))
            _that(set(told) == set(plan.fds), f"QEMU is told {told} and given {plan.fds}: {_said(nic)}")
            _that(len(set(plan.fds)) == len(plan.fds), f"a descriptor twice: {plan.fds}")
            helper = () if plan.helper is None else _helper_fds(plan.helper)
            everything = (*plan.fds, *plan.keeps, *helper)
            for source in everything:
                if isinstance(source, PairEnd):
                    other = replace(source, end=1 - source.end)
                    _that(other in everything, f"nobody has the other end of {source}")
                elif isinstance(source, Dial):
                    _that(Listener(source.path) in plan.fds, f"nobody listens for {source}")

    def test_what_qemu_is_told_is_json(self) -> None:
        """With numbers for descriptors; nothing that JSON has no word for."""
        for _, plan in self._plans():
            for value in (plan.netdev, plan.device):
                json.dumps(render_json(value, lambda _source: 7), allow_nan=False)

    def test_hot_and_cold_are_one(self) -> None:
        """What a running QEMU is told is what it would have been told at its start."""
        for nic, plan in self._plans():
            hot = heat(plan)
            hot_words = (dict(hot.netdev_add.arguments), dict(hot.device_add.arguments))
            number = partial(_hot, {each.source: each.name for each in hot.sends})
            cold = (render_json(plan.netdev, number), render_json(plan.device, number))
            if hot.listens is not None:  # QEMU binds at run time what we bind at start, at the same path
                hot_words[0]["addr"] = {"type": "fd", "str": str(hot.listens)}
            _that(hot_words == cold, f"{_said(nic)}: at run time {hot_words}, at start {cold}")

    def test_what_is_opened_lies_in_the_guests_own_directories(self) -> None:
        """Sockets in ``env.runtime``, short enough for the kernel; logs in ``env.logs`` unless the XML names a file."""
        for nic, env in self._carried():
            plan = self.backend().plan(nic, env)
            for source in _sources(plan):
                if isinstance(source, Listener | Accept):
                    _that(source.path.is_relative_to(env.runtime), f"{source.path} is outside {env.runtime}")
                    _that(len(bytes(source.path)) <= _SUN_PATH, f"{source.path} is too long for a socket")
                elif isinstance(source, LogFile) and not (nic.backend and nic.backend.log_file):
                    _that(source.path.is_relative_to(env.logs), f"{source.path} is outside {env.logs}")

    def test_two_interfaces_of_a_guest_share_nothing(self) -> None:
        """Aliases are all that tells them apart: sockets, pairs and files have to follow from them."""
        for nic, env in self._carried():
            one = self.backend().plan(nic, env)
            other = self.backend().plan(replace(nic, alias="net1"), replace(env, path="devices/interface[2]"))
            for source in set(_sources(one)) & set(_sources(other)):
                named = isinstance(source, LogFile) and not source.path.is_relative_to(env.logs)  # by the XML
                shared = isinstance(source, Listener | Dial | Accept | PairEnd | LogFile) and not named
                _that(not shared, f"both interfaces use {source}")

    def test_the_helper_can_be_started_and_found_again(self) -> None:
        """Its words render, what is done at its loss is possible, and the status file keeps all of it."""
        for _, plan in self._plans():
            helper = plan.helper
            if helper is None:
                continue
            words = render(helper.argv, lambda _source: 7)
            _that(words and words[0] and helper.name, f"a helper without program or name: {helper}")
            _that(decode(HelperPlan, json.loads(json.dumps(encode(helper))), *STORED) == helper, f"is lost: {helper}")
            _that(
                bool(helper.forwards) == (helper.ready is Ready.PORTS_LISTEN), f"{helper.ready} with {helper.forwards}"
            )
            dials = any(isinstance(source, Dial) for source in helper.fds)
            _that(dials or helper.on_loss is not OnLoss.RESTART, "RESTART dials QEMU again: it needs a Dial in fds")
            dialled = [source.path for source in helper.fds if isinstance(source, Accept)]
            chardev = [plan.chardev.path] if plan.chardev is not None and plan.chardev.reconnect_ms else []
            _that(
                dialled == chardev if helper.on_loss is OnLoss.ACCEPT else not dialled,
                "ACCEPT, and nothing else, needs an Accept in fds and a chardev that dials its path again",
            )
            kept = all(source in plan.keeps for source in helper.fds)
            _that(kept or helper.on_loss is not OnLoss.REUSE, "REUSE needs the helper's descriptors in keeps")

    # --- the scene

    def _env(self) -> Env:
        return example_env(self.facts())

    def _among(self) -> Registry:
        """The installed backends with this one, which need not be installed."""
        ours = self.backend()
        others = (each for each in registry().backends if each.name != ours.name)
        return Registry((*others, ours))

    def _carried(self) -> Iterator[tuple[Interface, Env]]:
        _that(self.carries, "say in carries what the backend carries")
        return ((_interface(text), self._env()) for text in self.carries)

    def _plans(self) -> Iterator[tuple[Interface, NetPlan]]:
        return ((nic, self.backend().plan(nic, env)) for nic, env in self._carried())


def _interface(text: str) -> Interface:
    nic, _ = parse_interface(text)
    return replace(nic, alias="net0", mac=nic.mac or _MAC)


def _said(nic: Interface) -> str:
    return f"<interface type='{nic.type}'> with {len(nic.port_forwards)} forwards, model {nic.model}"


def _hot(names: Mapping[FdSource, str], source: FdSource) -> str:
    return str(source.path) if isinstance(source, Listener) else names[source]


def _sources(plan: NetPlan) -> Iterator[FdSource]:
    yield from (*plan.fds, *plan.keeps)
    if plan.helper is not None:
        yield from plan.helper.fds
        if plan.helper.stderr is not None:
            yield plan.helper.stderr


def _helper_fds(helper: HelperPlan) -> tuple[FdSource, ...]:
    told = sources_of(helper.argv)
    _that(set(told) == set(helper.fds), f"the helper is told {told} and given {helper.fds}")
    return helper.fds


def _explained(problem: Problem, path: str) -> None:
    _that(problem.path.startswith(path), f"'{problem.path}' is not below '{path}': {problem.message}")
    _that(problem.message, f"a problem without words at {problem.path}")
    _that(problem.hint, f"no next step: {problem.message}")


def _that(condition: object, otherwise: str) -> None:
    """Like ``assert``, which -O would take away and which says nothing outside of pytest's own modules."""
    if not condition:
        raise AssertionError(otherwise)
