from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.xml.kinds import (
    FLOAT,
    INT,
    IP,
    MAC,
    ON_OFF,
    POSITIVE,
    UINT,
    UUID,
    YES_NO,
    BadValue,
    Kind,
    enum,
    hexadecimal,
    matching,
    one_of,
)

BUS = hexadecimal("PCI address bus", 2, 0xFF)


class Colour(StrEnum):
    RED = "red"


@pytest.mark.parametrize(
    ("kind", "word", "printed"),
    [
        (UINT, "007", "7"),
        (INT, "-5", "-5"),
        (POSITIVE, "1", "1"),
        (BUS, "0x1F", "0x1f"),
        (BUS, "9", "0x09"),
        (IP, "::1", "::1"),
        (IP, "10.0.2.15", "10.0.2.15"),
        (MAC, "2:3:4:A:b:c", "02:03:04:0a:0b:0c"),
        (UUID, "3C3D7A3E8F5F4A579B5C0F6F3A5E1C0A", "3c3d7a3e-8f5f-4a57-9b5c-0f6f3a5e1c0a"),
        (YES_NO, "no", "no"),
        (ON_OFF, "on", "on"),
        (FLOAT, "1.5", "1.5"),
        (enum(Colour), "red", "red"),
        (matching("word", "[a-z]+", lower=True), "abc", "abc"),
        (one_of("io", "native", "threads"), "native", "native"),
    ],
)
def test_words_become_values_and_print_in_one_form(kind: Kind[object], word: str, printed: str) -> None:
    assert kind.format(kind.parse(word)) == printed


@pytest.mark.parametrize(
    ("kind", "word", "says"),
    [
        (UINT, "-1", "'-1'. Expected non-negative integer value"),
        (UINT, "x", "'x'. Expected non-negative integer value"),
        (UINT, "", "Expected non-negative integer value"),
        (UINT, "٣", "Expected non-negative integer value"),
        (UINT, "9" * 5000, "…'. Expected non-negative integer value"),
        (UINT, str(2**32), "Expected non-negative integer value"),
        (INT, "1e3", "Expected integer value"),
        (POSITIVE, "0", "Zero is not permitted"),
        (BUS, "0x100", "Invalid PCI address bus='0x100', must be <= 0xFF"),
        (BUS, "0xg", "Expected non-negative integer value"),
        (MAC, "xx", "unable to parse mac address 'xx'"),
        (MAC, "01:00:00:00:00:00", "expected unicast mac address, found multicast '01:00:00:00:00:00'"),
        (UUID, "xx", "malformed uuid element"),
        (IP, "fe80::1%eth0", ""),
        (IP, "10.0.2", ""),
        (YES_NO, "on", ""),
        (FLOAT, "x", ""),
        (enum(Colour), "blue", ""),
        (matching("word", "[a-z]+"), "a b", ""),
        (one_of("io", "native"), "x", ""),
    ],
)
def test_other_words_are_refused_in_libvirts_words(kind: Kind[object], word: str, says: str) -> None:
    with pytest.raises(BadValue) as caught:
        kind.parse(word)
    assert says in (caught.value.whole or caught.value.tail or "")


@given(st.text(max_size=40))
def test_kinds_raise_nothing_but_bad_value(word: str) -> None:
    # Invariant: any text is a value that prints and reads back as itself, or BadValue.
    for kind in (UINT, INT, POSITIVE, BUS, IP, MAC, UUID, YES_NO, ON_OFF, FLOAT, enum(Colour)):
        try:
            value = kind.parse(word)
        except BadValue:
            continue
        again = kind.parse(kind.format(value))
        assert again == value or value != value  # NaN
