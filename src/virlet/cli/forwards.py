"""A forwarded range of ports, as virletd gives it, in words."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["guest_side", "host_side"]


def host_side(row: Mapping[str, object]) -> str:
    """``127.0.0.1:2022``, ``*:5000-5009``, ``[::1]%lo:80``, ``*:all``."""
    address = str(row.get("address") or "*")
    where = f"[{address}]" if ":" in address else address
    device = f"%{row['dev']}" if row.get("dev") else ""
    return f"{where}{device}:{_range(row.get('start'), row.get('end'))}"


def guest_side(row: Mapping[str, object]) -> str:
    """``22``, ``1000-1009``, ``same``."""
    first, last, to = row.get("start"), row.get("end"), row.get("to")
    if isinstance(first, int) and isinstance(last, int) and isinstance(to, int):
        return _range(to, to + last - first)
    return str(to)


def _range(first: object, last: object) -> str:
    return str(first) if last in (None, first) else f"{first}-{last}"
