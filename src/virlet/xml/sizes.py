"""Amounts of memory: libvirt's units, KiB inside."""

from __future__ import annotations

import re
from typing import Final

from virlet.enums import ErrorCode
from virlet.xml.kinds import BadValue

__all__ = ["kibibytes"]

_DIGITS = re.compile(r"[ \t\r\n]*[0-9]{1,24}[ \t\r\n]*\Z")
_POWERS: Final = "kmgtpe"
_MOST: Final = (2**64 - 1) // 1024


def _factor(unit: str) -> int | None:
    """Bytes in *unit*: b, bytes, KB (1000), k and KiB (1024) up to E; None for what is none of them."""
    word = unit.lower()
    if word in ("b", "byte", "bytes"):
        return 1
    power = _POWERS.find(word[:1]) + 1
    if not word or power == 0:
        return None
    if word[1:] in ("", "ib"):
        return int(1024**power)
    return int(1000**power) if word[1:] == "b" else None


def kibibytes(word: str, unit: str | None) -> int:
    """The amount in KiB, rounded up; no unit means KiB.  Raises :class:`BadValue` with libvirt's texts."""
    if _DIGITS.match(word) is None:
        raise BadValue
    factor = _factor("KiB" if unit is None else unit)
    if factor is None:
        raise BadValue(whole=f"unknown suffix '{unit}'", code=ErrorCode.INVALID_ARG)
    amount = -(-int(word) * factor // 1024)
    if amount > _MOST:
        raise BadValue(whole=f"value too large: {word.strip()}", code=ErrorCode.OVERFLOW)
    return amount
