"""From a domain to everything its start does: :func:`plan_launch`.  Nothing is done here."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from virlet.errors import BadConfig
from virlet.model.domain import Domain
from virlet.model.elements import DomainType
from virlet.model.graphics import GraphicsType
from virlet.model.interface import Interface
from virlet.net.base import Env
from virlet.net.choose import Registry, choose
from virlet.plan.base import (
    GuestDirs,
    Joined,
    Json,
    LaunchPlan,
    Listener,
    LogFile,
    Need,
    NetPlan,
    QmpCommand,
    Word,
    sources_of,
)
from virlet.plan.board import bus_ids
from virlet.plan.boot import boot_order
from virlet.plan.chardevs import character_devices
from virlet.plan.check import check_launch, emulator_of
from virlet.plan.computer import clock, front, kernel, power
from virlet.plan.confinement import confinement_of
from virlet.plan.controllers import controllers
from virlet.plan.disks import disks
from virlet.plan.displays import audio, displays, videos, vnc_autoport
from virlet.plan.facts import Facts, QemuFacts
from virlet.plan.peripherals import balloon, inputs, panics, rngs, watchdogs
from virlet.plan.words import Piece, Scene, join

__all__ = ["NO_SANDBOX", "plan_launch", "plan_net", "plan_nets", "scene_of"]

NO_SANDBOX = "no-sandbox"
"""The taint of a QEMU that runs without its filter of system calls."""
_SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"


def plan_launch(domain: Domain, facts: Facts, dirs: GuestDirs, registry: Registry) -> LaunchPlan:
    """The plan for *domain*, which has its addresses and aliases (see :mod:`virlet.plan.assign`).

    Raises :class:`virlet.errors.BadConfig` with every problem that :func:`virlet.plan.check.check_launch` finds.
    """
    problems = check_launch(domain, facts, registry)
    qemu = emulator_of(domain, facts)
    if problems or qemu is None:
        raise BadConfig(problems)
    scene = scene_of(domain, facts, qemu, dirs)
    nets = plan_nets(scene, registry)
    monitor = Listener(dirs.runtime / "monitor.sock")
    whole = join(_pieces(scene, nets, monitor))
    argv: tuple[Word, ...] = (qemu.path, *whole.words, *_own_words(domain))
    return LaunchPlan(
        name=domain.name,
        uuid=str(domain.uuid),
        emulator=Path(qemu.path),
        argv=argv,
        env=_environment(domain),
        fds=(*sources_of(argv), *(source for net in nets for source in net.keeps)),
        monitor=monitor,
        nets=nets,
        before_cont=(*whole.before_cont, *_links(nets)),
        directories=(dirs.runtime, dirs.logs),
        leaves=(monitor.path, *_sockets(nets), *whole.leaves),
        log=LogFile(dirs.logs / "qemu.log"),
        tainted=tuple(_taints(domain, nets)),
        files_needed=whole.files,
        vnc_autoport=vnc_autoport(scene),
        ptys=whole.ptys,
        confinement=confinement_of(domain, facts.host, dirs, nets, whole.files),
    )


def scene_of(domain: Domain, facts: Facts, qemu: QemuFacts, dirs: GuestDirs) -> Scene:
    """What every piece of the plan for *domain* may look at."""
    return Scene(domain, facts, qemu, dirs, bus_ids(domain), boot_order(domain))


def plan_nets(scene: Scene, registry: Registry) -> tuple[NetPlan, ...]:
    """One plan for each interface, by the best backend that can carry it."""
    nics = enumerate(scene.domain.devices.interfaces, 1)
    return tuple(plan_net(scene, number, nic, registry) for number, nic in nics)


def plan_net(scene: Scene, number: int, nic: Interface, registry: Registry) -> NetPlan:
    """The plan for *nic*, the interface with that 1-based *number*; raises BadConfig when nobody can carry it."""
    env = Env(
        facts=scene.facts.with_passt(nic.passt.path if nic.passt is not None else None),
        qemu=scene.qemu,
        runtime=scene.dirs.runtime,
        logs=scene.dirs.logs,
        path=f"devices/interface[{number}]",
        shared_memory=scene.domain.shares_memory,
        bus_ids=scene.bus_ids,
        kvm=scene.domain.type is DomainType.KVM,
        boot_index=scene.boot.get(nic.alias or ""),
    )
    choice = choose(nic, env, registry)
    if choice.backend is None:
        raise BadConfig(choice.problems)
    return replace(_with_leaves(choice.backend.plan(nic, env)), why=choice.why)


def _with_leaves(net: NetPlan) -> NetPlan:
    """The sockets that QEMU listens on for a helper go when the helper goes, be it long before QEMU."""
    if net.helper is None:
        return net
    listens = (source.path for source in net.fds if isinstance(source, Listener))
    return replace(net, helper=replace(net.helper, leaves=(*net.helper.leaves, *listens)))


def _pieces(scene: Scene, nets: Iterable[NetPlan], monitor: Listener) -> Iterator[Piece]:
    yield front(scene)
    yield _nobody_looks(scene)
    yield Piece(("-no-user-config", "-nodefaults"))
    yield _monitor(scene, monitor)
    yield clock(scene)
    yield power(scene)
    yield kernel(scene)
    yield controllers(scene)
    yield from disks(scene)
    for net in nets:
        chardev = () if net.chardev is None else ("-chardev", net.chardev.word)
        yield Piece((*chardev, "-netdev", Json(net.netdev), "-device", Json(net.device)), files=net.files)
    yield from character_devices(scene)
    yield from inputs(scene)
    yield audio(scene)
    yield from displays(scene)
    yield from videos(scene)
    yield from watchdogs(scene)
    yield balloon(scene)
    yield from rngs(scene)
    if scene.qemu.sandbox and not _unsandboxed(nets):
        yield Piece(("-sandbox", _SANDBOX))
    yield from panics(scene)
    yield Piece(("-msg", "timestamp=on"))


def _nobody_looks(scene: Scene) -> Piece:
    shown = any(display.type is GraphicsType.VNC for display in scene.domain.devices.graphics)
    return Piece() if shown else Piece(("-display", "none"))


def _monitor(scene: Scene, monitor: Listener) -> Piece:
    chardev = Joined(("socket,id=charmonitor,fd=", monitor, ",server=on,wait=off"))
    if scene.qemu.monitor_object:
        front: tuple[Word, ...] = (
            "-object",
            Json({"qom-type": "monitor-qmp", "id": "monitor", "chardev": "charmonitor"}),
        )
    else:
        front = ("-mon", "chardev=charmonitor,id=monitor,mode=control")
    return Piece(("-chardev", chardev, *front))


def _sockets(nets: Iterable[NetPlan]) -> Iterator[Path]:
    for net in nets:
        if net.helper is None:
            yield from (source.path for source in net.fds if isinstance(source, Listener))
        if net.chardev is not None and net.chardev.server:
            yield net.chardev.path
        if net.helper is not None:
            yield from net.helper.leaves


def _own_words(domain: Domain) -> tuple[str, ...]:
    own = domain.qemu_commandline
    return () if own is None else tuple(arg.value for arg in own.args)


def _environment(domain: Domain) -> Mapping[str, str]:
    """Added to what the engine passes on; the user's own variables win."""
    own = domain.qemu_commandline
    return {} if own is None else {env.name: env.value or "" for env in own.envs}


def _taints(domain: Domain, nets: Iterable[NetPlan]) -> Iterator[str]:
    own = domain.qemu_commandline
    if own is not None and (own.args or own.envs):
        yield "custom-argv"
    if _unsandboxed(nets):
        yield NO_SANDBOX


def _unsandboxed(nets: Iterable[NetPlan]) -> bool:
    """QEMU's filter allows it to start nothing, and whatever it started would inherit it."""
    return any(Need.NO_SANDBOX in net.needs for net in nets)


def _links(nets: Iterable[NetPlan]) -> tuple[QmpCommand, ...]:
    """Cables that are out when the guest starts."""
    return tuple(QmpCommand("set_link", {"name": net.alias, "up": False}) for net in nets if not net.starts_up)
