"""Which other files the header of a disk image names.  Sans I/O: bytes in, names out.

The layouts are those of QEMU's documents ``docs/interop/qcow2.txt`` and ``qed_spec.txt``.  A header may have been
written by a guest that had taken over its QEMU, so nothing in it is believed beyond what QEMU itself will do with it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["FOLLOWED", "HEADER_BYTES", "Named", "Reference", "parse_header", "reference"]

HEADER_BYTES = 1 << 16
"""What :func:`parse_header` wants to see of an image: every tool puts names behind the header at once."""
_LONGEST = 1023
"""Bytes of a name in a header; QEMU refuses longer ones."""
_QCOW, _QED = b"QFI\xfb", b"QED\0"
_END, _BACKING_FORMAT, _DATA_FILE = 0, 0xE2792ACA, 0x44415441
_EXTERNAL_DATA = 1 << 2
_QED_BACKING, _QED_RAW_BACKING = 1 << 0, 1 << 2

FOLLOWED = frozenset({"qcow2", "qcow", "qed"})
"""Formats that :func:`parse_header` reads."""


@dataclass(frozen=True, slots=True)
class Named:
    """What a header says."""

    backing: str | None = None
    """As it stands there: a path, relative to the image, or one of QEMU's URLs."""
    backing_format: str | None = None
    data_file: str | None = None
    """Where the guest's data are, if not in the image."""


@dataclass(frozen=True, slots=True)
class Reference:
    """A file that an image names."""

    path: Path
    format: str | None


def parse_header(data: bytes) -> Named:
    """The names in the first :data:`HEADER_BYTES` of an image; ValueError for what QEMU would refuse."""
    try:
        if data[:4] == _QCOW:
            return _qcow(data)
        if data[:4] == _QED:
            return _qed(data)
    except struct.error:
        raise ValueError("the header is cut short") from None
    raise ValueError("neither a qcow2 nor a qed image")


def _text(data: bytes, offset: int, size: int) -> str:
    if size > _LONGEST or offset + size > len(data):
        raise ValueError("a name lies outside the header")
    return data[offset : offset + size].decode("utf-8", "surrogateescape")


def _qcow(data: bytes) -> Named:
    version, offset, size = struct.unpack_from(">IQI", data, 4)
    backing = _text(data, offset, size) if offset else None
    if version == 1:
        return Named(backing)
    features, begin = 0, 72
    if version >= 3:
        (features,) = struct.unpack_from(">Q", data, 72)
        (begin,) = struct.unpack_from(">I", data, 100)
    found = dict(_extensions(data, begin, offset))
    return Named(
        backing,
        found.get(_BACKING_FORMAT) if backing is not None else None,
        found.get(_DATA_FILE) if features & _EXTERNAL_DATA else None,
    )


def _extensions(data: bytes, begin: int, end: int) -> Iterator[tuple[int, str]]:
    """Those that hold a name."""
    while begin + 8 <= (end or len(data)):
        kind, length = struct.unpack_from(">II", data, begin)
        if kind == _END:
            return
        if kind in (_BACKING_FORMAT, _DATA_FILE):
            yield kind, _text(data, begin + 8, length)
        begin += 8 + (length + 7 & ~7)


def _qed(data: bytes) -> Named:
    (features,) = struct.unpack_from("<Q", data, 16)
    offset, size = struct.unpack_from("<II", data, 56)
    if not features & _QED_BACKING:
        return Named()
    return Named(_text(data, offset, size), "raw" if features & _QED_RAW_BACKING else None)


def reference(image: Path, name: str, form: str | None) -> Reference | None:
    """The file that *name*, found in *image*, means to QEMU; None when it means no file, or nothing that we know.

    Names can be paths (relative to the image's directory), ``file:PATH``, ``json:{…}`` or a URL.
    """
    if name.startswith("json:"):
        return _json(name[5:], form)
    if name.startswith("file:"):
        name = name[5:].removeprefix("//") if name.startswith("file:///") else name[5:]
    elif ":" in name.partition("/")[0]:
        return None
    return _file(image.parent / name, form)


def _json(text: str, form: str | None) -> Reference | None:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for _ in range(8):
        if not isinstance(found, dict):
            return None
        filename = found.get("filename", found.get("file.filename"))
        if isinstance(filename, str):
            driver = found.get("driver")
            own = driver if isinstance(driver, str) and "file.filename" in found else form
            return _file(Path(filename), own) if filename.startswith("/") else None
        if isinstance(found.get("driver"), str) and "file" in found:
            form = found["driver"]
        found = found.get("file")
    return None


def _file(path: Path, form: str | None) -> Reference | None:
    return None if "\0" in str(path) else Reference(path, form)
