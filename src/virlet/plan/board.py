"""What a machine type stands for: how its PCI is built and what sits on it from the start."""

from __future__ import annotations

from collections.abc import Mapping

from virlet.model.controller import ControllerType
from virlet.model.elements import Domain
from virlet.plan.pci import Board

__all__ = ["board_of", "bus_ids", "controller_id", "is_x86"]

_X86 = ("x86_64", "i686")
_VIRT = ("aarch64", "riscv64", "loongarch64", "armv7l")


def is_x86(domain: Domain) -> bool:
    """Does the guest have a PC's architecture?"""
    return domain.os.arch in _X86


def board_of(domain: Domain) -> Board | None:
    """How PCI is built on the domain's machine type; None where there is none, or none that is known."""
    machine = domain.os.machine or ""
    if is_x86(domain):
        if machine == "q35" or machine.startswith("pc-q35"):
            return Board.Q35
        if machine == "pc" or machine.startswith(("pc-i440fx", "pc-0.", "pc-1.")):
            return Board.PC
        return None
    if domain.os.arch in _VIRT and (machine == "virt" or machine.startswith("virt-")):
        return Board.VIRT
    return None


def bus_ids(domain: Domain) -> Mapping[int, str]:
    """PCI bus number → QEMU's name of that bus: the alias of the controller that makes it."""
    board = board_of(domain)
    ids = {0: "pcie.0" if board is not None and board.express else "pci.0"}
    for controller in domain.devices.controllers:
        if controller.type is ControllerType.PCI and controller.index and controller.alias:
            ids[controller.index] = controller.alias
    return ids


def controller_id(domain: Domain, kind: ControllerType, index: int) -> str:
    """The alias of a controller, which is what the names of its buses begin with."""
    for controller in domain.devices.controllers:
        if controller.type is kind and (controller.index or 0) == index and controller.alias:
            return controller.alias
    return f"{kind}{index}"
