"""Headers of disk images: what they name, and that no header does harm."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.plan.images import Named, Reference, parse_header, reference


def qcow2(
    backing: bytes = b"", *extensions: tuple[int, bytes], version: int = 3, features: int = 0, offset: int | None = None
) -> bytes:
    """A header with the backing file's name behind the extensions."""
    length = 72 if version == 2 else 104
    body = b"".join(struct.pack(">II", kind, len(text)) + text + bytes(-len(text) % 8) for kind, text in extensions)
    body += bytes(8)
    where = (length + len(body) if backing else 0) if offset is None else offset
    head = struct.pack(">4sIQI", b"QFI\xfb", version, where, len(backing)).ljust(72, b"\0")
    if version == 3:
        head += struct.pack(">QQQII", features, 0, 0, 4, 104)
    return head + body + backing


def qed(features: int, backing: bytes = b"") -> bytes:
    return (
        struct.pack("<4sIIIQ", b"QED\0", 65536, 4, 1, features).ljust(56, b"\0")
        + struct.pack("<II", 64, len(backing))
        + backing
    )


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (qcow2(), Named()),
        (qcow2(b"base", version=2), Named("base")),
        (qcow2(b"base", (0xE2792ACA, b"raw")), Named("base", "raw")),
        (qcow2(b"base", (0x6803F857, b"x" * 48), (0xE2792ACA, b"qcow2")), Named("base", "qcow2")),
        (qcow2(b"", (0x44415441, b"data"), features=4), Named(data_file="data")),
        (qcow2(b"", (0x44415441, b"data")), Named()),
        (struct.pack(">4sIQI", b"QFI\xfb", 1, 20, 4) + b"base", Named("base")),
        (qed(0, b"base"), Named()),
        (qed(1, b"base"), Named("base")),
        (qed(5, b"base"), Named("base", "raw")),
    ],
)
def test_what_a_header_names(header: bytes, named: Named) -> None:
    assert parse_header(header) == named


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"KDMV",
        qcow2(b"base", offset=1 << 40),
        qcow2(b"b" * 1024),
        qcow2()[:40],
        qed(1, b"b" * 2000),
        qcow2(b"base", (0xE2792ACA, b"r" * 1024)),
    ],
)
def test_what_qemu_would_refuse_is_refused(header: bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_header(header)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("base", Reference(Path("/images/base"), "qcow2")),
        ("../a:b/base", Reference(Path("/images/../a:b/base"), "qcow2")),
        ("/x/base", Reference(Path("/x/base"), "qcow2")),
        ("file:/x/base", Reference(Path("/x/base"), "qcow2")),
        ("file:///x/base", Reference(Path("/x/base"), "qcow2")),
        ("nbd://host/export", None),
        ("a\0b", None),
        ('json:{"driver":"raw","file":{"driver":"file","filename":"/x/base"}}', Reference(Path("/x/base"), "raw")),
        ('json:{"driver":"raw","file.filename":"/x/base"}', Reference(Path("/x/base"), "raw")),
        ('json:{"driver":"file","filename":"/x/base"}', Reference(Path("/x/base"), "qcow2")),
        ('json:{"filename":"relative"}', None),
        ("json:[]", None),
        ("json:{", None),
        ("json:" + "[" * 5000, None),
        ('json:{"file":' * 20 + "}" * 20, None),
    ],
)
def test_what_a_name_means(name: str, found: Reference | None) -> None:
    assert reference(Path("/images/top"), name, "qcow2") == found


@given(st.binary(max_size=300), st.sampled_from([b"QFI\xfb\0\0\0\1", b"QFI\xfb\0\0\0\2", b"QFI\xfb\0\0\0\3", b"QED\0"]))
def test_any_header_names_something_or_is_refused(tail: bytes, magic: bytes) -> None:
    try:
        named = parse_header(magic + tail)
    except ValueError:
        return
    for name in (named.backing, named.data_file):
        assert name is None or len(name) <= 1023
