"""Declarations compiled for the loader, a class at a time when it is first needed.

A property whose path has several names (``driver/host/@csum`` without a class for ``driver``) makes nested tables that
fill the same value.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from virlet.xml.declare import Declaration, Form, Property, declaration_of

__all__ = ["Plan", "Step", "Table", "plan_of"]


@dataclass(slots=True)
class Table:
    """How to read one element."""

    attributes: dict[str, tuple[str, Property]] = field(default_factory=dict)
    """Name to field and property."""
    silent: set[str] = field(default_factory=set)
    """Attributes that are read elsewhere: what chose the class, a size's unit."""
    children: dict[str, Step] = field(default_factory=dict)
    """Node tag to what is done with it."""
    text: tuple[str, Property] | None = None
    others: str | None = None
    """The field that takes every other child."""


@dataclass(slots=True)
class Step:
    """What is done with a child."""

    form: Form = Form.VALUE
    """VALUE stands for a nested table."""
    name: str = ""
    """The field that it fills."""
    classes: tuple[type, ...] = ()
    variant: str = ""
    """The attribute that chooses among the classes."""
    by_word: dict[str, type] = field(default_factory=dict)
    once: bool = True
    table: Table = field(default_factory=Table)
    inner: str = ""
    """Path from the element that owns the values."""
    flag: str | None = None
    """The field that says that the child is there."""


@dataclass(slots=True)
class Plan:
    """How to read a class."""

    cls: type
    declared: Declaration
    table: Table
    required: tuple[tuple[str, Property], ...]
    lists: tuple[str, ...]
    """Fields that are gathered in a list and end as a tuple."""


_PLANS: Final[dict[type, Plan]] = {}


def plan_of(cls: type) -> Plan:
    """The plan of an element class."""
    found = _PLANS.get(cls)
    if found is None:
        found = _PLANS[cls] = _compile(cls)
    return found


def _compile(cls: type) -> Plan:
    declared = declaration_of(cls)
    table = Table()
    if declared.variant is not None:
        table.silent.add(declared.variant[0])
    for name, made in declared.properties:
        _add(table, name, made)
    required = tuple((name, made) for name, made in declared.properties if made.required)
    lists = tuple(n for n, made in declared.properties if made.form in (Form.MANY, Form.EACH, Form.RAWS))
    return Plan(cls, declared, table, required, lists)


def _add(table: Table, name: str, made: Property) -> None:
    if made.form in (Form.CHILD, Form.MANY, Form.RAW, Form.RAWS):
        _add_child(table, name, made)
        return
    path, _, attribute = made.path.rpartition("@") if "@" in made.path else (made.path, "", "")
    step: Step | None = None
    inner = ""
    for tag in [tag for tag in path.split("/") if tag and tag != "."]:
        inner = f"{inner}/{tag}" if inner else tag
        step = table.children.setdefault(tag, Step(inner=inner))
        step.once = step.once and made.form is not Form.EACH
        table = step.table
    if made.form is Form.FLAG:
        assert step is not None
        step.flag = name
    elif attribute:
        table.attributes[attribute] = (name, made)
    else:
        table.text = (name, made)
        if made.form is Form.SIZE:
            table.silent.add("unit")


def _add_child(table: Table, name: str, made: Property) -> None:
    if made.path == "*":
        table.others = name
        return
    step = Step(made.form, name, made.classes, once=made.form in (Form.CHILD, Form.RAW))
    if len(made.classes) > 1:
        variants = [(cls, declaration_of(cls).variant) for cls in made.classes]
        step.by_word = {variant[1]: cls for cls, variant in variants if variant is not None}
        step.variant = next(variant[0] for _, variant in variants if variant is not None)
    table.children[made.path] = step
