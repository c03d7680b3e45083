"""Pieces of a QEMU command line, and what every piece may look at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from virlet.model.device import VirtioOptions
from virlet.model.elements import Domain
from virlet.plan.base import FileNeed, GuestDirs, Json, JsonValue, QmpCommand, Word
from virlet.plan.facts import Facts, QemuFacts
from virlet.plan.place import Member, given

__all__ = ["Piece", "Scene", "device", "escape", "join", "virtio", "virtio_name"]


@dataclass(frozen=True, slots=True)
class Scene:
    """What a rendering depends on; the domain has its addresses and aliases."""

    domain: Domain
    facts: Facts
    qemu: QemuFacts
    dirs: GuestDirs
    bus_ids: Mapping[int, str]
    """PCI bus number → QEMU's name of it."""
    boot: Mapping[str, int]
    """Alias → place in the firmware's order, from ``<os><boot>`` or the devices' own."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some words, and what comes with them."""

    words: tuple[Word, ...] = ()
    files: tuple[FileNeed, ...] = ()
    leaves: tuple[Path, ...] = ()
    ptys: tuple[str, ...] = ()
    before_cont: tuple[QmpCommand, ...] = field(default=())


def join(pieces: Iterable[Piece]) -> Piece:
    """One after the other."""
    every = tuple(pieces)
    return Piece(
        words=tuple(word for piece in every for word in piece.words),
        files=tuple(item for piece in every for item in piece.files),
        leaves=tuple(item for piece in every for item in piece.leaves),
        ptys=tuple(item for piece in every for item in piece.ptys),
        before_cont=tuple(item for piece in every for item in piece.before_cont),
    )


def escape(value: str) -> str:
    """A value inside an option list: QEMU reads two commas as one."""
    return value.replace(",", ",,")


def device(driver: str, members: Iterable[Member]) -> tuple[Word, ...]:
    """``-device`` in JSON, members in the order given."""
    found: dict[str, JsonValue] = {"driver": driver}
    found.update(members)
    return ("-device", Json(found))


def virtio_name(kind: str, model: str | None) -> str:
    """``virtio-rng-pci`` with the tail that the transitional models have."""
    tail = (model or "").removeprefix("virtio")
    return f"virtio-{kind}-pci" + (tail if tail in ("-transitional", "-non-transitional") else "")


def virtio(options: VirtioOptions | None) -> Iterable[Member]:
    """Options that every virtio device knows."""
    if options is None:
        return ()
    return given(
        ("iommu_platform", options.iommu),
        ("ats", options.ats),
        ("packed", options.packed),
        ("page-per-vq", options.page_per_vq),
    )
