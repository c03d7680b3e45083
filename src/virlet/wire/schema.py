"""The notation of the procedure table, turned into codecs and tuple classes when they are first needed.

A struct is one line of ``name:type`` pairs.  Types: ``i32 u32 i64 u64 f64 char uchar short ushort string uuid
typed_value``, the name of another struct, ``T?`` (may be absent), ``T<N>`` (at most N), ``T[N]`` (exactly N, chars
only), ``opaque<N>``.
"""

from __future__ import annotations

import re
from collections import namedtuple
from collections.abc import Mapping
from keyword import iskeyword

from virlet.wire import xdr
from virlet.wire.typed import TYPED_VALUE
from virlet.wire.xdr import AnyCodec

__all__ = ["Schema", "class_name", "field_name", "split_fields"]

_SCALARS: dict[str, AnyCodec] = {
    "i32": xdr.I32,
    "u32": xdr.U32,
    "i64": xdr.I64,
    "u64": xdr.U64,
    "f64": xdr.F64,
    # XDR has nothing narrower than four bytes.
    "char": xdr.I32,
    "uchar": xdr.U32,
    "short": xdr.I32,
    "ushort": xdr.U32,
    "string": xdr.STRING,
    "uuid": xdr.UUID,
    "typed_value": TYPED_VALUE,
}
_SHAPE = re.compile(r"(\w+)(?:(\?)|<(\d+)>|\[(\d+)\])?")


def class_name(name: str) -> str:
    """``DOMAIN_GET_INFO`` and ``domain_get_info`` both become ``DomainGetInfo``."""
    return "".join(part.capitalize() for part in name.split("_"))


def field_name(name: str) -> str:
    """A name from the wire as a Python name: ``from`` is ``from_``."""
    return name + "_" if iskeyword(name) else name


def split_fields(line: str) -> list[tuple[str, str]]:
    """Python name and type of each field of a struct's line."""
    pairs = (pair.partition(":") for pair in line.split())
    return [(field_name(name), kind) for name, _, kind in pairs]


class Schema:
    """Named structs, compiled one by one as they are asked for."""

    def __init__(self, structs: Mapping[str, str], module: str) -> None:
        self._structs = structs
        self._module = module
        self._classes: dict[str, type] = {}
        self._codecs: dict[str, AnyCodec] = dict(_SCALARS)

    def struct(self, name: str) -> type:
        """The tuple class of the named struct; KeyError when there is none."""
        if name not in self._classes:
            self._classes[name] = self.new_class(class_name(name), self._structs[name], self._module)
        return self._classes[name]

    def names(self) -> list[str]:
        """All named structs."""
        return list(self._structs)

    def codec(self, kind: str) -> AnyCodec:
        """The codec of one type in the table's notation."""
        found = self._codecs.get(kind)
        if found is None:
            found = self._codecs[kind] = self._compiled(kind)
        return found

    def record(self, cls: type, line: str) -> AnyCodec:
        """The codec of a struct whose fields *line* lists and whose values are of *cls*."""
        return xdr.record(cls._make, [self.codec(kind) for _, kind in split_fields(line)])  # type: ignore[attr-defined]

    @staticmethod
    def new_class(name: str, line: str, module: str) -> type:
        """A tuple class with the fields that *line* lists."""
        return namedtuple(name, [field for field, _ in split_fields(line)], module=module)

    def _compiled(self, kind: str) -> AnyCodec:
        match = _SHAPE.fullmatch(kind)
        if match is None:
            raise KeyError(kind)
        codec: AnyCodec
        inner, absent, limit, size = match.groups()
        if absent:
            codec = xdr.optional(self.codec(inner))
        elif size:
            codec = xdr.char_array(int(size))
        elif limit and inner in {"opaque", "char"}:
            codec = (xdr.opaque if inner == "opaque" else xdr.char_list)(int(limit))
        elif limit:
            codec = xdr.array(self.codec(inner), int(limit))
        else:
            codec = self.record(self.struct(kind), self._structs[kind])
        return codec
