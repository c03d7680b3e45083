"""What a procedure is: its numbers, its typed arguments and result, and what the server needs to know about it.

The constants live in the generated modules ``remote``, ``qemu``, ``lxc``, ``admin``, ``keepalive`` and ``virlet``, one
per RPC program.  Nothing is built at import: a constant comes into being when it is first looked up, its codecs when
they are first run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from importlib import import_module
from typing import Any, Generic, TypeAlias, TypeVar

from virlet.wire import types
from virlet.wire.schema import Schema, class_name

__all__ = ["PROGRAMS", "AnyProcedure", "Event", "Procedure", "Program", "StreamKind", "by_number", "event_by_number"]

Args = TypeVar("Args")
Ret = TypeVar("Ret")
Msg = TypeVar("Msg")

PROGRAMS: dict[tuple[int, int], str] = {
    (0x20008086, 1): "remote",
    (0x20008087, 1): "qemu",
    (0x20766C74, 1): "virlet",
    (0x00068000, 1): "lxc",
    (0x06900690, 1): "admin",
    (0x6B656570, 1): "keepalive",
}
"""(program, version) to the module that holds its procedures."""


class StreamKind(Enum):
    """Which way a procedure's stream goes, as the protocol declares it; consoles are used both ways."""

    NONE = ""
    READ = "r"
    WRITE = "w"


class _Numbered:
    __slots__ = ("name", "number", "program", "version")

    def __init__(self, program: Program, name: str, number: int) -> None:
        self.program = program.id
        self.version = program.version
        self.number = number
        self.name = name

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.program:#x}/{self.number}>"


class Procedure(_Numbered, Generic[Args, Ret]):
    """Something that a client can call; ``None`` stands for no arguments or no result.

    ``encode_args(args) -> bytes`` and ``encode_ret`` raise :class:`~virlet.wire.xdr.EncodeError`,
    ``decode_args(payload, pos=0)`` and ``decode_ret`` raise :class:`~virlet.wire.xdr.DecodeError`.
    """

    __slots__ = (
        "_args_class",
        "_ret_class",
        "acl",
        "api",
        "auth_required",
        "decode_args",
        "decode_ret",
        "encode_args",
        "encode_ret",
        "priority",
        "stream",
    )

    def __init__(self, program: Program, name: str, row: Row) -> None:
        number, args, ret, marks, api, acl = row
        super().__init__(program, name, number)
        self.priority = "p" in marks
        """May run although every ordinary worker waits for a guest: it never waits for one itself."""
        self.auth_required = "n" not in marks
        self.stream = StreamKind.READ if "r" in marks else StreamKind.WRITE if "w" in marks else StreamKind.NONE
        self.api = api or name
        """Name of libvirt's public function, for error messages."""
        self.acl = acl
        """Permissions that libvirt checks (``domain:write``), comma separated; empty where unknown."""
        self._args_class, self.encode_args, self.decode_args = _lazy_codec(self, "args", program, args)
        self._ret_class, self.encode_ret, self.decode_ret = _lazy_codec(self, "ret", program, ret)

    @property
    def args_type(self) -> Any:
        """The tuple class of the arguments; None when there are none."""
        return self._args_class()

    @property
    def ret_type(self) -> Any:
        """The tuple class of the result; None when there is none."""
        return self._ret_class()


AnyProcedure: TypeAlias = Procedure[Any, Any]
Row: TypeAlias = tuple[int, str | None, str | None, str, str, str]


class Event(_Numbered, Generic[Msg]):
    """Something that the server says unasked."""

    __slots__ = ("_msg_class", "decode_msg", "encode_msg")

    def __init__(self, program: Program, name: str, row: Row) -> None:
        super().__init__(program, name, row[0])
        self._msg_class, self.encode_msg, self.decode_msg = _lazy_codec(self, "msg", program, row[1])

    @property
    def msg_type(self) -> Any:
        """The tuple class of the message; None when it says nothing."""
        return self._msg_class()


def _nothing(_value: object) -> bytes:
    return b""


def _ignore(_data: bytes, _pos: int = 0) -> None:
    return None


def _no_class() -> None:
    return None


def _lazy_codec(owner: _Numbered, part: str, program: Program, line: str | None) -> tuple[Any, Any, Any]:
    """What gives the class of one half of *owner*, and two functions; these replace themselves when first called.

    A tuple class takes 5 kB, and of hundreds of procedures a process uses a dozen.
    """
    if line is None:
        return _no_class, _nothing, _ignore
    made: list[type] = []

    def cls() -> type:
        if not made:
            made.append(Schema.new_class(class_name(owner.name) + part.capitalize(), line, program.module))
        return made[0]

    def compiled() -> Any:
        codec = types.SCHEMA.record(cls(), line)
        setattr(owner, "encode_" + part, codec.encode)
        setattr(owner, "decode_" + part, codec.decode)
        return codec

    return cls, lambda value: compiled().encode(value), lambda data, pos=0: compiled().decode(data, pos)


class Program:
    """One RPC program's table; its module asks it for every name that it does not have yet."""

    def __init__(self, module: str, number: int, version: int, rows: Mapping[str, Row]) -> None:
        self.module = module
        self.id = number
        self.version = version
        self.rows = rows
        self._made: dict[str, AnyProcedure | Event[Any]] = {}
        self._numbers: dict[int, str] = {}
        self._classes: dict[str, str] = {}

    def get(self, name: str) -> AnyProcedure | Event[Any]:
        """The constant called *name*; KeyError when the program has none."""
        made = self._made.get(name)
        if made is None:
            row = self.rows[name]
            made = self._made[name] = (Event if "e" in row[3] else Procedure)(self, name, row)
        return made

    def by_number(self, number: int) -> AnyProcedure | Event[Any] | None:
        """The constant with that procedure number."""
        if not self._numbers:
            self._numbers = {row[0]: name for name, row in self.rows.items()}
        name = self._numbers.get(number)
        return None if name is None else self.get(name)

    def attributes(self) -> Callable[[str], object]:
        """A module's ``__getattr__``: constants by their names, tuple classes by theirs (``DomainGetInfoRet``)."""

        def attribute(name: str) -> object:
            if name in self.rows:
                return self.get(name)
            for part in ("Args", "Ret", "Msg"):
                if name.endswith(part) and (found := self._class(name.removesuffix(part), part)):
                    return found
            raise AttributeError(f"module {self.module!r} has no attribute {name!r}")

        return attribute

    def _class(self, stem: str, part: str) -> type | None:
        if not self._classes:
            self._classes = {class_name(name): name for name in self.rows}
        name = self._classes.get(stem)
        return getattr(self.get(name), part.lower() + "_type", None) if name else None


_calls: dict[tuple[int, int, int], AnyProcedure] = {}


def by_number(program: int, version: int, number: int) -> AnyProcedure | None:
    """The procedure that a packet's header names; None when there is none (events cannot be called)."""
    key = (program, version, number)
    found = _calls.get(key)
    if found is None:
        known = _lookup(key)
        if isinstance(known, Procedure):
            found = _calls[key] = known
    return found


def event_by_number(program: int, version: int, number: int) -> Event[Any] | None:
    """The event that a packet's header names; None when there is none."""
    known = _lookup((program, version, number))
    return known if isinstance(known, Event) else None


def _lookup(key: tuple[int, int, int]) -> AnyProcedure | Event[Any] | None:
    module = PROGRAMS.get(key[:2])
    if module is None:
        return None
    table: Program = import_module("virlet.wire." + module).PROGRAM
    return table.by_number(key[2])
