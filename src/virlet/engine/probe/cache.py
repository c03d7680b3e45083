"""Probes remembered: a fact about a program holds until the program's file changes.

One JSON file a fact in the cache directory, which may be deleted at any time.  What cannot be read, or was written by
another virlet, is probed again; what cannot be written is remembered until the daemon ends.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
import typing
from binascii import crc32
from collections.abc import Awaitable, Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from types import NoneType, UnionType
from typing import TypeVar

from virlet.engine.files import make_private, write_atomic
from virlet.errors import SystemFailure

__all__ = ["NOTHING", "Cache", "file_key", "from_plain", "to_plain"]

log = logging.getLogger(__name__)

_FORMAT = 2
"""Raised when a probe learns to ask something new."""

T = TypeVar("T")


def file_key(path: Path) -> list[object]:
    """What changes when a program is replaced: where it really is, its size and its time.

    By which name we know it as well: facts have it in them, and a link may be removed while its target stays.
    """
    stat = path.stat()
    return [str(path), str(path.resolve()), stat.st_mtime_ns, stat.st_size]


class Cache:
    """Facts by name and key in one directory; without a directory nothing is remembered."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = directory
        self._unwritten: dict[Path, Mapping[str, object]] = {}
        """What files should hold and cannot."""
        self._why = ""

    @property
    def problems(self) -> list[str]:
        """What cannot be written and why, for ``doctor``."""
        return [self._why] if self._unwritten else []

    async def get(self, kind: type[T], name: str, key: list[object], probe: Callable[[], Awaitable[T]]) -> T:
        """The remembered fact, or what *probe* finds.  Errors of the probe are not remembered."""
        if self._directory is None:
            return await probe()
        wanted = [_FORMAT, *key]
        # Two programs of one sum would forget each other, no more: the whole key is in the file.
        path = self._directory / f"{name}-{crc32(json.dumps(key[:1]).encode()):08x}.json"
        if path in self._unwritten:
            self._write(path, self._unwritten[path])  # There may be room again.
        try:
            stored = self._unwritten.get(path) or json.loads(path.read_bytes())
            if stored["key"] == wanted:
                return typing.cast(T, from_plain(kind, stored["fact"]))
        except FileNotFoundError:
            pass
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            log.info("probing again, for %s cannot be used: %s", path, error)
        plain = to_plain(await probe())
        self._write(path, {"key": wanted, "fact": plain})
        # Read back, for what is read shares what is equal.
        return typing.cast(T, from_plain(kind, plain))

    def _write(self, path: Path, data: Mapping[str, object]) -> None:
        """Replace the file at once or not at all; not synced, for it is only a cache."""
        try:
            make_private(path.parent)
            write_atomic(path, json.dumps(data, separators=(",", ":")).encode(), durable=False)
        except SystemFailure as error:
            if not self._unwritten:
                self._why = f"what probes find cannot be remembered beyond the daemon's end: {error}"
                log.warning("%s", self._why)
            self._unwritten[path] = data
        else:
            self._unwritten.pop(path, None)


NOTHING = Cache(None)
"""Remembers nothing."""


def to_plain(value: object) -> object:
    """JSON data of a fact: dataclasses become objects, sets sorted arrays."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple):
        return [to_plain(item) for item in value]
    return value


def from_plain(kind: object, data: object) -> object:
    """The inverse, as the annotations of the dataclass say; anything else raises TypeError, ValueError or KeyError."""
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        fields = _expect(dict, data)
        return kind(**{name: from_plain(hint, fields[name]) for name, hint in _members(kind).items()})
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Mapping:
        return {str(key): from_plain(arguments[1], item) for key, item in _expect(dict, data).items()}
    if origin is frozenset:
        return _shared(frozenset(from_plain(arguments[0], item) for item in _expect(list, data)))
    if origin is tuple and arguments[1:] == (...,):
        return tuple(from_plain(arguments[0], item) for item in _expect(list, data))
    if origin is tuple:
        return tuple(from_plain(each, item) for each, item in zip(arguments, _expect(list, data), strict=True))
    if origin is UnionType:
        return None if data is None else from_plain(next(each for each in arguments if each is not NoneType), data)
    if kind is str:
        # The same features and options come in hundreds of sets.
        return sys.intern(_expect(str, data))
    if isinstance(kind, type):
        return _expect(kind, data)
    raise TypeError(f"no fact has a {kind}")


@cache
def _members(kind: type) -> Mapping[str, object]:
    """The members of a dataclass and their types, which are evaluated anew whenever they are asked for."""
    hints = typing.get_type_hints(kind)
    return {field.name: hints[field.name] for field in dataclasses.fields(kind)}


@lru_cache(maxsize=512)
def _shared(value: frozenset[object]) -> frozenset[object]:
    """The first of its equals: hundreds of CPU models miss the same features."""
    return value


def _expect(kind: type[T], data: object) -> T:
    if type(data) is not kind:
        raise TypeError(f"{data!r:.100} is no {kind.__name__}")
    return data
