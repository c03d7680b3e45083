"""Declarations: an element is a frozen dataclass, a property one line; everything else reads these tables.

    @element("portForward")
    class PortForward(Element):
        \"\"\"Host ports that reach the guest.\"\"\"
        proto: Proto = attr("@proto", enum(Proto), doc="which protocol to forward")
        ranges: tuple[PortRange, ...] = many(PortRange, default=(), doc="…; all ports when absent")

Paths are relative to the element: ``@a`` an attribute, ``child/@a`` an attribute of a child that has no class of its
own, ``child`` that child's text, ``.`` the element's own text.  ``None`` means "not said".  The order of declaration is
the order of printing.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from operator import attrgetter
from typing import Any, Final, TypeVar, dataclass_transform, overload

from virlet.enums import ErrorCode
from virlet.xml.kinds import Kind
from virlet.xml.raw import NOTHING, Raw, Unknown

__all__ = [
    "Declaration",
    "Element",
    "Form",
    "Property",
    "attr",
    "child",
    "declaration_of",
    "each",
    "element",
    "flag",
    "many",
    "raw",
    "raws",
    "replace",
    "size",
]

T = TypeVar("T")
D = TypeVar("D")
C = TypeVar("C")
X = TypeVar("X", bound="Element")


class Form(Enum):
    """What a property is in the XML."""

    VALUE = "value"
    """An attribute or a text."""
    EACH = "each"
    """The same attribute or text of every child of that name."""
    FLAG = "flag"
    """A child whose presence is the value."""
    SIZE = "size"
    """A text with a ``unit`` attribute; the value is in KiB."""
    CHILD = "child"
    """A child element with a class (or one of several, told apart by an attribute)."""
    MANY = "many"
    """Every child element of a class."""
    RAW = "raw"
    """A child element kept as it came."""
    RAWS = "raws"
    """Every child element of a name, or of all names, kept as it came."""


class _Missing(Enum):
    MISSING = "missing"


_MISSING: Final = _Missing.MISSING


@dataclass(frozen=True, slots=True)
class Property:
    """One declared property: everything that parser, printer, checker and reference need to know."""

    form: Form
    path: str
    kind: Kind[Any] | None = None
    classes: tuple[type, ...] = ()
    doc: str = ""
    required: bool = False
    live: bool | Callable[[Any], bool] = False
    """True, or a test of the value: it belongs to a running domain only, ignored at define, absent in inactive XML."""
    secret: bool = False
    """Printed only with the SECURE flag."""
    hidden: Any = None
    """A value that is not printed, because it is what absence means."""
    wrong: str | None = None
    """libvirt's text for a bad value, with ``{value}``, where it is not the stock sentence."""
    code: ErrorCode = ErrorCode.XML_ERROR
    """The error code that goes with :attr:`wrong`."""
    missing: str | None = None
    """libvirt's text for a missing value, where it is not the stock sentence."""
    missing_code: ErrorCode = ErrorCode.XML_ERROR
    """The error code that goes with :attr:`missing`."""


@dataclass(frozen=True, slots=True)
class Declaration:
    """An element: its name, what tells it from others of that name, and its properties in order."""

    tag: str
    namespace: str
    prefix: str
    """How the namespace is abbreviated in print."""
    variant: tuple[str, str] | None
    """The attribute and value that choose this class among several for the same tag."""
    properties: tuple[tuple[str, Property], ...]
    """(field, property) in printing order."""

    @property
    def key(self) -> str:
        """The name as nodes carry it: with the namespace in braces, if any."""
        return f"{{{self.namespace}}}{self.tag}" if self.namespace else self.tag


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Element:
    """Base of every declared element: a value, equal to another of its class that says the same."""

    unknown: Unknown = NOTHING
    """Attributes and children that no property names: kept, printed back, reported."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        values = _shape_of(type(self)).values
        return bool(values(self) == values(other))

    def __hash__(self) -> int:
        return hash(_shape_of(type(self)).values(self))

    def __repr__(self) -> str:
        said = ", ".join(f"{name}={getattr(self, name)!r}" for name in _shape_of(type(self)).names)
        return f"{type(self).__name__}({said})"


class _Shape:
    """The fields of a class, and how to read them all at once."""

    __slots__ = ("names", "values")

    def __init__(self, cls: type[Element]) -> None:
        self.names = tuple(cls.__dataclass_fields__)
        # Of one field attrgetter gives the value itself, so the first stands there twice.
        self.values: Callable[[Any], tuple[Any, ...]] = attrgetter(self.names[0], *self.names)


_SHAPES: Final[dict[type, _Shape]] = {}


def _shape_of(cls: type[Element]) -> _Shape:
    found = _SHAPES.get(cls)
    if found is None:
        found = _SHAPES[cls] = _Shape(cls)
    return found


def replace(value: X, **changes: object) -> X:
    """*value* with *changes*: :func:`dataclasses.replace` for elements, at a third of its cost.

    Defining a domain makes dozens of such copies, of classes with up to thirty fields.
    """
    cls = type(value)
    shape = _shape_of(cls)
    return cls(**dict(zip(shape.names, shape.values(value)[1:], strict=True)) | changes)


_DECLARED: Final[dict[type, Declaration]] = {}
_METADATA: Final = "virlet.xml"


@overload
def attr(
    path: str,
    kind: Kind[T],
    *,
    doc: str = ...,
    wrong: str | None = ...,
    code: ErrorCode = ...,
    missing: str | None = ...,
    missing_code: ErrorCode = ...,
) -> T: ...


@overload
def attr(
    path: str,
    kind: Kind[T],
    *,
    default: D,
    doc: str = ...,
    live: bool | Callable[[T], bool] = ...,
    secret: bool = ...,
    hidden: object = ...,
    wrong: str | None = ...,
    code: ErrorCode = ...,
    missing: str | None = ...,
) -> T | D: ...


def attr(path: str, kind: Kind[Any], *, default: Any = _MISSING, **options: Any) -> Any:
    """An attribute or text at *path*, of *kind*; without a default it is required."""
    return _field(Property(Form.VALUE, path, kind, required=default is _MISSING, **options), default)


def each(path: str, kind: Kind[T], *, default: tuple[()], doc: str = "") -> tuple[T, ...]:
    """The attribute or text at *path*, once for every child of that name."""
    found: Any = _field(Property(Form.EACH, path, kind, doc=doc), default)
    return found  # type: ignore[no-any-return]


def flag(path: str, *, default: bool, doc: str = "") -> bool:
    """Whether the child element at *path* is there."""
    found: Any = _field(Property(Form.FLAG, path, doc=doc), default)
    return found  # type: ignore[no-any-return]


@overload
def size(path: str, *, doc: str = ..., missing: str | None = ...) -> int: ...


@overload
def size(path: str, *, default: D, doc: str = ...) -> int | D: ...


def size(path: str, *, default: Any = _MISSING, **options: Any) -> Any:
    """An amount of memory in KiB: text with a ``unit`` attribute (libvirt's units, KiB when not said)."""
    return _field(Property(Form.SIZE, path, required=default is _MISSING, **options), default)


@overload
def child(first: type[T], /, *, doc: str = ..., missing: str | None = ...) -> T: ...


@overload
def child(first: type[T], /, *, default: D, doc: str = ..., live: bool = ...) -> T | D: ...


@overload
def child(
    first: type[Any], second: type[Any], /, *rest: type[Any], default: D, doc: str = ..., live: bool = ...
) -> Any: ...


def child(*classes: type[Any], default: Any = _MISSING, **options: Any) -> Any:
    """The child element of a class; of several classes the one whose variant fits."""
    tag = _DECLARED[classes[0]].key
    made = Property(Form.CHILD, tag, classes=classes, required=default is _MISSING, **options)
    return _field(made, default)


def many(kind: type[T], *, default: tuple[()], doc: str = "") -> tuple[T, ...]:
    """Every child element of a class, in order."""
    made = Property(Form.MANY, _DECLARED[kind].key, classes=(kind,), doc=doc)
    found: Any = _field(made, default)
    return found  # type: ignore[no-any-return]


def raw(path: str, *, default: None, doc: str = "") -> Raw | None:
    """The child element at *path* (a plain name), kept as it came."""
    found: Any = _field(Property(Form.RAW, path, doc=doc), default)
    return found  # type: ignore[no-any-return]


def raws(path: str, *, default: tuple[()], doc: str = "") -> tuple[Raw, ...]:
    """Every child element of the name *path*, kept as it came; ``*``: every child element."""
    found: Any = _field(Property(Form.RAWS, path, doc=doc), default)
    return found  # type: ignore[no-any-return]


def _field(made: Property, default: Any) -> Any:
    metadata = {_METADATA: made}
    if default is _MISSING:
        return dataclasses.field(metadata=metadata)
    return dataclasses.field(default=default, metadata=metadata)


@dataclass_transform(
    kw_only_default=True, frozen_default=True, field_specifiers=(attr, each, flag, size, child, many, raw, raws)
)
def element(
    tag: str, *, namespace: str = "", prefix: str = "", variant: tuple[str, str] | None = None
) -> Callable[[type[C]], type[C]]:
    """Declare a class as the element *tag*; it becomes a frozen, slotted, keyword-only dataclass."""

    def declare(cls: type[C]) -> type[C]:
        # Comparison and print are the base's: made for each class they are a quarter of the memory of a class.
        made: type[C] = dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)(cls)
        found = tuple(
            (field.name, field.metadata[_METADATA])
            for field in dataclasses.fields(made)  # type: ignore[arg-type]
            if _METADATA in field.metadata
        )
        _DECLARED[made] = Declaration(tag, namespace, prefix, variant, found)
        return made

    return declare


def declaration_of(cls: type) -> Declaration:
    """The declaration of an element class; a class that is none is a :class:`KeyError`."""
    return _DECLARED[cls]
