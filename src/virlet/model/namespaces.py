"""The XML namespaces that a domain may hold."""

from __future__ import annotations

__all__ = ["QEMU", "VIRLET"]

QEMU = "http://libvirt.org/schemas/domain/qemu/1.0"
"""libvirt's: arguments and environment handed to QEMU as they are."""
VIRLET = "https://virlet.dev/schemas/domain/1"
"""Reserved for what libvirt's XML has no word for."""
