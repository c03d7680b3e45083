"""Frozen dataclasses to JSON data and back, driven by their annotations: what a status file is made of.

Reading is strict: whatever a file holds, the answer is a value of the right types or :class:`ValueError`.  Members that
a class does not have are passed over, and those that are missing have their defaults: a writer of another version may
have known more, or fewer.
"""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

__all__ = ["decode", "encode"]

T = TypeVar("T")
_TAG = "$"
"""Key that names the class of an object; no JSON of ours has a key of that name."""
_DEPTH = 40
"""Levels of nesting that we read at most; ours have nine."""


def encode(value: object) -> object:
    """*value* as plain JSON data."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, Path | UUID):
        return str(value)
    if isinstance(value, tuple | list):
        return [encode(item) for item in value]
    if isinstance(value, frozenset):
        return sorted((encode(item) for item in value), key=str)
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        body = {item.name: encode(getattr(value, item.name)) for item in fields(value)}
        return {_TAG: type(value).__name__, **body}
    raise TypeError(f"{type(value).__name__} cannot be stored")


def decode(kind: type[T], data: object, *classes: type) -> T:
    """The *kind* that :func:`encode` made *data* of; *classes* are those that may stand inside free JSON.

    Raises :class:`ValueError` naming the place.
    """
    found: T = _Decoder({item.__name__: item for item in classes}).value(kind, data, kind.__name__, 0)
    return found


class _Decoder:
    def __init__(self, classes: Mapping[str, type]) -> None:
        self._classes = classes

    def value(self, hint: Any, data: object, where: str, depth: int) -> Any:
        if depth > _DEPTH:
            raise ValueError(f"{where[:80]}: nested too deeply")
        origin = get_origin(hint)
        if origin in (Union, types.UnionType):
            return self._union(get_args(hint), data, where, depth)
        if origin is not None and issubclass(origin, Mapping):
            return self._object(data, where, depth)
        if origin in (tuple, frozenset):
            return origin(
                self.value(get_args(hint)[0], item, f"{where}[{index}]", depth + 1)
                for index, item in enumerate(_expect(list, data, where))
            )
        if is_dataclass(hint):
            return self._dataclass(hint, data, where, depth)
        return _scalar(hint, data, where)

    def _union(self, hints: tuple[Any, ...], data: object, where: str, depth: int) -> Any:
        if data is None and type(None) in hints:
            return None
        tag = data.get(_TAG) if isinstance(data, dict) else None
        problems = []
        for hint in hints:
            if tag is not None and getattr(hint, "__name__", None) != tag:
                continue
            try:
                return self.value(hint, data, where, depth)
            except ValueError as error:
                problems.append(str(error))
        raise ValueError(problems[-1] if problems else f"{where}: no {tag!r} may stand here")

    def _dataclass(self, kind: Any, data: object, where: str, depth: int) -> Any:
        members = _expect(dict, data, where)
        if members.get(_TAG) != kind.__name__:
            raise ValueError(f"{where}: this is no {kind.__name__}")
        hints = _hints(kind)
        values = {}
        for item in fields(kind):
            if item.name in members:
                values[item.name] = self.value(hints[item.name], members[item.name], f"{where}.{item.name}", depth + 1)
            elif item.default is MISSING and item.default_factory is MISSING:
                raise ValueError(f"{where}: member {item.name!r} is missing")
        return kind(**values)

    def _object(self, data: object, where: str, depth: int) -> dict[str, Any]:
        members = _expect(dict, data, where)
        return {key: self._json(item, f"{where}.{key}", depth + 1) for key, item in members.items()}

    def _json(self, data: object, where: str, depth: int) -> Any:
        """Free JSON, in which a tagged object is one of the known classes."""
        if depth > _DEPTH:
            raise ValueError(f"{where[:80]}: nested too deeply")
        if isinstance(data, str):
            return _text(data, where)
        if isinstance(data, list):
            return tuple(self._json(item, f"{where}[{index}]", depth + 1) for index, item in enumerate(data))
        if not isinstance(data, dict):
            return data
        if _TAG not in data:
            return self._object(data, where, depth)
        kind = self._classes.get(str(data[_TAG]))
        if kind is None:
            raise ValueError(f"{where}: no {data[_TAG]!r} may stand here")
        return self.value(kind, data, where, depth)


def _expect(kind: type[T], data: object, where: str) -> T:
    if not isinstance(data, kind):
        raise ValueError(f"{where}: a {kind.__name__} was expected, not {type(data).__name__}")
    return data


def _text(data: str, where: str) -> str:
    """Text that can be a path and an argument of a program, whatever it is for."""
    if "\0" in data:
        raise ValueError(f"{where}: a NUL in a text")
    try:
        data.encode("utf-8", "surrogateescape")  # Bytes of a path that is no UTF-8 are lone surrogates, too.
    except UnicodeEncodeError:
        raise ValueError(f"{where}: half a surrogate pair") from None
    return data


def _scalar(hint: Any, data: object, where: str) -> Any:
    if hint is type(None):
        hint = types.NoneType
    if hint in (Path, UUID, str):
        return hint(_text(_expect(str, data, where), where))
    if isinstance(hint, type) and issubclass(hint, Enum):
        if isinstance(data, bool):
            raise ValueError(f"{where}: {data!r} is no {hint.__name__}")
        return hint(data)
    if hint is float and type(data) is int:
        return _float(data, where)
    if type(data) is not hint:
        raise ValueError(f"{where}: {getattr(hint, '__name__', hint)} was expected, not {type(data).__name__}")
    return data


def _float(data: int, where: str) -> float:
    try:
        return float(data)
    except OverflowError:
        raise ValueError(f"{where}: a number as large is none of ours") from None


@lru_cache(maxsize=64)
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
