from __future__ import annotations

import pytest

from virlet.enums import ErrorCode
from virlet.xml.kinds import BadValue
from virlet.xml.sizes import kibibytes


@pytest.mark.parametrize(
    ("word", "unit", "amount"),
    [
        ("5", None, 5),
        (" 5\n", "KiB", 5),
        ("1", "b", 1),
        ("1025", "bytes", 2),
        ("1", "KB", 1),
        ("2", "k", 2),
        ("1", "MB", 977),
        ("1", "MiB", 1024),
        ("1", "m", 1024),
        ("1", "GiB", 1024**2),
        ("1", "T", 1024**3),
        ("1", "PiB", 1024**4),
        ("1", "E", 1024**5),
        ("0", None, 0),
    ],
)
def test_amounts_are_kibibytes_rounded_up(word: str, unit: str | None, amount: int) -> None:
    assert kibibytes(word, unit) == amount


@pytest.mark.parametrize(
    ("word", "unit", "code"),
    [
        ("-1", None, ErrorCode.XML_ERROR),
        ("x", None, ErrorCode.XML_ERROR),
        ("", None, ErrorCode.XML_ERROR),
        ("1", "foo", ErrorCode.INVALID_ARG),
        ("1", "", ErrorCode.INVALID_ARG),
        ("1", "kibble", ErrorCode.INVALID_ARG),
        ("99999999", "E", ErrorCode.OVERFLOW),
        ("9" * 30, None, ErrorCode.XML_ERROR),
    ],
)
def test_other_amounts_are_refused(word: str, unit: str | None, code: ErrorCode) -> None:
    with pytest.raises(BadValue) as caught:
        kibibytes(word, unit)
    assert caught.value.code == code
