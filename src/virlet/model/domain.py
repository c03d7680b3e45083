"""The domain as the rest of virlet sees it: the declared elements, and their way from and to XML."""

from __future__ import annotations

from virlet.model.elements import (
    Devices,
    Domain,
    DomainType,
    Metadata,
    Placement,
    QemuArg,
    QemuCommandline,
    QemuEnv,
)

__all__ = [
    "Devices",
    "Domain",
    "DomainType",
    "Metadata",
    "Placement",
    "QemuArg",
    "QemuCommandline",
    "QemuEnv",
]
