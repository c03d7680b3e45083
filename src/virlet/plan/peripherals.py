"""Small devices: input, watchdog, balloon, random numbers, panic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from virlet.model.peripherals import Input, InputBus, InputType, Rng, WatchdogAction
from virlet.plan.base import Access, FileNeed, Json, JsonValue, QmpCommand, Word
from virlet.plan.place import Member, given, place
from virlet.plan.words import Piece, Scene, device, virtio, virtio_name

__all__ = ["balloon", "inputs", "panics", "rngs", "watchdogs"]

_USB_INPUT = {InputType.TABLET: "usb-tablet", InputType.MOUSE: "usb-mouse", InputType.KEYBOARD: "usb-kbd"}
_WATCHDOG = {"i6300esb": "i6300esb", "ib700": "ib700"}


def inputs(scene: Scene) -> Iterator[Piece]:
    """Keyboards, mice, tablets; PS/2 is part of the board."""
    for item in scene.domain.devices.inputs:
        driver = _input(item)
        if driver is not None:
            members = (*virtio(item.driver), ("id", item.alias), *place(item.address, scene.bus_ids))
            yield Piece(device(driver, members))


def _input(item: Input) -> str | None:
    if item.bus is InputBus.USB:
        return _USB_INPUT.get(item.type)
    return virtio_name(str(item.type), item.model) if item.bus is InputBus.VIRTIO else None


def watchdogs(scene: Scene) -> Iterator[Piece]:
    """Watchdogs, and what happens when one bites: QEMU knows one action for all."""
    found = scene.domain.devices.watchdogs
    for item in found:
        if item.model == "itco":
            yield Piece(("-global", "ICH9-LPC.noreboot=off"))
        else:
            yield Piece(
                device(_WATCHDOG.get(item.model, item.model), (("id", item.alias), *place(item.address, scene.bus_ids)))
            )
    if found:
        action = found[0].action or WatchdogAction.RESET
        yield Piece(("-watchdog-action", "pause" if action is WatchdogAction.DUMP else str(action)))


def balloon(scene: Scene) -> Piece:
    """The balloon, blown up before the guest runs where ``<currentMemory>`` is less than ``<memory>``."""
    domain, item = scene.domain, scene.domain.devices.memballoon
    if item is None or item.model == "none":
        return Piece()
    members: list[Member] = [*virtio(item.driver), ("id", item.alias)]
    members += given(("deflate-on-oom", item.autodeflate), ("free-page-reporting", item.free_page_reporting))
    commands: list[QmpCommand] = []
    if item.stats_period:
        path = f"/machine/peripheral/{item.alias}"
        arguments: dict[str, JsonValue] = {
            "path": path,
            "property": "guest-stats-polling-interval",
            "value": item.stats_period,
        }
        commands.append(QmpCommand("qom-set", arguments))
    if domain.current_memory is not None and domain.current_memory < domain.memory:
        commands.append(QmpCommand("balloon", {"value": domain.current_memory * 1024}))
    words = device(virtio_name("balloon", item.model), (*members, *place(item.address, scene.bus_ids)))
    return Piece(words, before_cont=tuple(commands))


def rngs(scene: Scene) -> Iterator[Piece]:
    """Sources of random numbers."""
    for number, rng in enumerate(scene.domain.devices.rngs, 1):
        name = f"obj{rng.alias}"
        source, files = _source(rng, name, f"devices/rng[{number}]/backend")
        limit: tuple[Member, ...] = ()
        if rng.rate is not None:
            limit = (("max-bytes", rng.rate.bytes), ("period", rng.rate.period or 1000))
        members = (*virtio(rng.driver), ("rng", name), ("id", rng.alias), *limit, *place(rng.address, scene.bus_ids))
        yield Piece((*source, *device(virtio_name("rng", rng.model), members)), files=files)


def _source(rng: Rng, name: str, path: str) -> tuple[tuple[Word, ...], tuple[FileNeed, ...]]:
    backend = rng.backend
    if backend is not None and backend.model == "builtin":
        return ("-object", Json({"qom-type": "rng-builtin", "id": name})), ()
    file = (backend.path if backend is not None else None) or "/dev/urandom"
    words: tuple[Word, ...] = ("-object", Json({"qom-type": "rng-random", "id": name, "filename": file}))
    return words, (FileNeed(Path(file), Access.READ, path, "source of random numbers"),)


def panics(scene: Scene) -> Iterator[Piece]:
    """How the guest tells that it crashed."""
    for panic in scene.domain.devices.panics:
        if panic.model == "pvpanic":
            yield Piece(device("pvpanic-pci", (("id", panic.alias), *place(panic.address, scene.bus_ids))))
        elif panic.model in (None, "isa"):
            yield Piece(device("pvpanic", ()))
