"""How one word of XML becomes a value and back: the scalar kinds that declarations name."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Generic, TypeVar
from uuid import UUID as Uuid

from virlet.enums import ErrorCode

__all__ = [
    "FLOAT",
    "HEX",
    "INT",
    "IP",
    "MAC",
    "ON_OFF",
    "POSITIVE",
    "STR",
    "UINT",
    "ULONG",
    "UUID",
    "YES_NO",
    "BadValue",
    "Kind",
    "decimal",
    "enum",
    "hexadecimal",
    "matching",
    "one_of",
]

T = TypeVar("T")
E = TypeVar("E", bound=StrEnum)

_INTEGER = re.compile(r"[ \t\r\n]*[+-]?[0-9]{1,24}\Z")
_NUMBER = re.compile(r"[ \t\r\n]*(?:0[xX][0-9a-fA-F]{1,16}|[0-9]{1,24})\Z")
_MAC = re.compile(r"[0-9a-fA-F]{1,2}(?::[0-9a-fA-F]{1,2}){5}\Z")
_UUID = re.compile(r"(?:[0-9a-fA-F]-?){32}\Z")


class BadValue(ValueError):
    """A word that a kind refuses.

    ``tail`` ends libvirt's stock sentence ("Invalid value for attribute 'a' in element 'e': TAIL"); ``whole`` replaces
    that sentence; neither: the word itself ends it.
    """

    def __init__(
        self, *, tail: str | None = None, whole: str | None = None, code: ErrorCode = ErrorCode.XML_ERROR
    ) -> None:
        super().__init__(whole or tail or "")
        self.tail = tail
        self.whole = whole
        self.code = code


@dataclass(frozen=True, slots=True)
class Kind(Generic[T]):
    """A scalar type: its name in the reference, how to read it, how to print it, and the words it allows if closed."""

    name: str
    parse: Callable[[str], T]
    format: Callable[[T], str]
    words: tuple[str, ...] = ()


def decimal(name: str, low: int, high: int, *, zero: bool = True) -> Kind[int]:
    """A decimal number from *low* to *high*; ``zero=False`` refuses 0 with libvirt's words."""

    expected = "integer value" if low < 0 else "non-negative integer value"

    def parse(word: str) -> int:
        if _INTEGER.match(word) is None:
            raise BadValue(tail=f"'{_shown(word)}'. Expected {expected}")
        number = int(word)
        if number == 0 and not zero:
            raise BadValue(tail="Zero is not permitted")
        if not low <= number <= high:
            raise BadValue(tail=f"'{_shown(word)}'. Expected {expected}")
        return number

    return Kind(name, parse, str)


def hexadecimal(name: str, digits: int, high: int) -> Kind[int]:
    """A number read as decimal or 0x…, printed as 0x… with *digits* digits, as in PCI addresses."""

    def parse(word: str) -> int:
        if _NUMBER.match(word) is None:
            raise BadValue(tail=f"'{_shown(word)}'. Expected non-negative integer value")
        number = int(word, 16 if "x" in word.lower() else 10)
        if number > high:
            raise BadValue(whole=f"Invalid {name}='{_shown(word)}', must be <= 0x{high:X}")
        return number

    return Kind(name, parse, lambda number: f"0x{number:0{digits}x}")


def one_of(name: str, *words: str) -> Kind[str]:
    """One of a few words that no code tells apart, so that an enum would be idle."""
    table = frozenset(words)

    def parse(word: str) -> str:
        if word not in table:
            raise BadValue
        return word

    return Kind(name, parse, str, words)


def matching(name: str, pattern: str, *, lower: bool = False) -> Kind[str]:
    """A string that the whole of *pattern* matches; ``lower`` folds it."""
    compiled = re.compile(pattern)

    def parse(word: str) -> str:
        if compiled.fullmatch(word) is None:
            raise BadValue
        return word.lower() if lower else word

    return Kind(name, parse, str)


def enum(words: type[E]) -> Kind[E]:
    """One of the words of a closed set."""
    table = {str(member.value): member for member in words}

    def parse(word: str) -> E:
        try:
            return table[word]
        except KeyError:
            raise BadValue from None

    return Kind(words.__name__, parse, str, tuple(table))


def _shown(word: str) -> str:
    return word if len(word) <= 80 else word[:80] + "…"


def _boolean(name: str, yes: str, no: str) -> Kind[bool]:
    table = {yes: True, no: False}

    def parse(word: str) -> bool:
        try:
            return table[word]
        except KeyError:
            raise BadValue from None

    return Kind(name, parse, lambda value: yes if value else no, (yes, no))


def _mac(word: str) -> str:
    if _MAC.match(word) is None:
        raise BadValue(whole=f"unable to parse mac address '{_shown(word)}'")
    octets = [int(octet, 16) for octet in word.split(":")]
    text = ":".join(f"{octet:02x}" for octet in octets)
    if octets[0] & 1:
        raise BadValue(whole=f"expected unicast mac address, found multicast '{_shown(word)}'")
    return text


def _ip(word: str) -> IPv4Address | IPv6Address:
    if "%" in word:  # a zone means something on one host only
        raise BadValue
    try:
        return ip_address(word)
    except ValueError:
        raise BadValue from None


def _uuid(word: str) -> Uuid:
    bare = word.strip()
    if _UUID.match(bare) is None:
        raise BadValue(whole="malformed uuid element", code=ErrorCode.INTERNAL_ERROR)
    return Uuid(hex=bare.replace("-", ""))


def _float(word: str) -> float:
    try:
        return float(word)
    except ValueError:
        raise BadValue from None


STR: Kind[str] = Kind("text", str, str)
INT = decimal("integer", -(2**31), 2**31 - 1)
UINT = decimal("unsigned", 0, 2**32 - 1)
ULONG = decimal("unsigned long", 0, 2**64 - 1)
POSITIVE = decimal("positive", 0, 2**32 - 1, zero=False)
HEX = hexadecimal("hex", 1, 2**64 - 1)
FLOAT: Kind[float] = Kind("number", _float, repr)
YES_NO = _boolean("yes/no", "yes", "no")
ON_OFF = _boolean("on/off", "on", "off")
MAC: Kind[str] = Kind("MAC address", _mac, str)
IP: Kind[IPv4Address | IPv6Address] = Kind("IP address", _ip, str)
UUID: Kind[Uuid] = Kind("UUID", _uuid, str)
