"""Nodes to declared values: every problem is collected, one error is raised."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import BadConfig, Problem
from virlet.xml.declare import Form, Property
from virlet.xml.kinds import BadValue
from virlet.xml.parser import DEFAULTS, Limits, Node, parse
from virlet.xml.raw import Raw, Unknown
from virlet.xml.sizes import kibibytes
from virlet.xml.source import Source
from virlet.xml.tables import Plan, Step, Table, plan_of

__all__ = ["Loaded", "load"]

T = TypeVar("T")

_MOST_PROBLEMS: Final = 20
"""Enough to mend a file; a hostile one must not make an error of megabytes."""
_MOST_NOTES: Final = 500
_SHOWN: Final = 120


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """A value and where it came from."""

    value: T
    source: Source


def load(cls: type[T], xml: str | bytes | Node, *, live: bool = False, limits: Limits = DEFAULTS) -> Loaded[T]:
    """The value of class *cls* that *xml* says.

    With *live*, what belongs to a running domain only (assigned aliases, ports, ids) is read too; else it is ignored.
    Raises XmlDetail for XML that is not well formed, BadConfig with every other problem.
    """
    root = xml if isinstance(xml, Node) else parse(xml, limits=limits)
    plan = plan_of(cls)
    if root.tag != plan.declared.key:
        message = f"expecting root element of '{plan.declared.tag}', not '{root.name}'"
        raise BadConfig([_problem(root, root.name, message, domain=ErrorDomain.XML)])
    run = _Load(live)
    value = run.element(plan, root, "")
    if run.problems:
        raise BadConfig(run.problems)
    return Loaded(value, Source(root, run.notes, run.owners))


class _Beyond:
    """What one value holds beyond its declaration, while it is read."""

    __slots__ = ("attributes", "elements", "seconds")

    def __init__(self) -> None:
        self.attributes: dict[tuple[str, str, str], None] = {}
        self.elements: list[tuple[str, Raw]] = []
        self.seconds: list[str] = []

    def done(self) -> Unknown:
        return Unknown(tuple(self.attributes), tuple(self.elements), tuple(self.seconds))


class _Load:
    """One run over one document."""

    __slots__ = ("live", "notes", "owners", "problems")

    def __init__(self, live: bool) -> None:
        self.live = live
        self.problems: list[Problem] = []
        self.notes: list[Problem] = []
        self.owners: list[str] = []
        """Whose name each note is about: a namespace."""

    def element(self, plan: Plan, node: Node, path: str) -> Any:
        """The value of *node*, or None when a problem was added."""
        before = len(self.problems)
        values: dict[str, Any] = {}
        self.fill(plan.table, node, path, values, "")
        if len(self.problems) == before:
            for name, made in plan.required:
                if name not in values:
                    self.refuse(_missing(made, plan, node, path))
        if len(self.problems) != before:
            return None
        for name in plan.lists:
            if name in values:
                values[name] = tuple(values[name])
        beyond = values.get("unknown")
        if beyond is not None:
            values["unknown"] = beyond.done()
        return plan.cls(**values)

    def fill(self, table: Table, node: Node, path: str, values: dict[str, Any], inner: str) -> None:
        """Read *node* by *table*; *inner* is its path from the element that owns the values."""
        for name, word in node.attributes.items():
            known = table.attributes.get(name)
            if known is None:
                if name not in table.silent:
                    self.extra_attribute(node, name, word, path, values, inner)
            else:
                self.scalar(known[0], known[1], word, node, name, path, values)
        if node.children:
            self.children(table, node, path, values, inner)
        if table.text is not None:
            self.text(table.text[0], table.text[1], node, path, values)
        elif table.others is None and not (node.text.isspace() or not node.text):
            self.note(node, f"{path}/text()" if path else "text()", f"unknown text in element '{node.name}'")

    def children(self, table: Table, node: Node, path: str, values: dict[str, Any], inner: str) -> None:
        counts: dict[str, int] = {}
        for child in node.children:
            step = table.children.get(child.tag)
            number = counts[child.tag] = counts.get(child.tag, 0) + 1
            name = child.name if number == 1 and (step is None or step.once) else f"{child.name}[{number}]"
            where = f"{path}/{name}" if path else name
            if step is not None and (number == 1 or not step.once):
                self.step(step, child, where, values)
            elif step is not None:
                # libvirt reads the first and keeps no other; one that was kept could be the first in what we print.
                values.setdefault("unknown", _Beyond()).seconds.append(where)
                self.note(child, where, f"second element '{child.name}' in element '{node.name}'")
            elif table.others is not None:
                values.setdefault(table.others, []).append(Raw.of(child))
            else:
                self.note(child, where, f"unknown element '{child.name}' in element '{node.name}'")
                values.setdefault("unknown", _Beyond()).elements.append((inner, Raw.of(child)))

    def step(self, step: Step, child: Node, where: str, values: dict[str, Any]) -> None:
        """Read one child that a property names."""
        form = step.form
        if form is Form.MANY:
            values.setdefault(step.name, []).append(self.element(plan_of(step.classes[0]), child, where))
        elif form is Form.CHILD:
            cls = step.classes[0] if len(step.classes) == 1 else self.choose(step, child, where)
            if cls is not None:
                values[step.name] = self.element(plan_of(cls), child, where)
        elif form is Form.RAW:
            values[step.name] = Raw.of(child)
        elif form is Form.RAWS:
            values.setdefault(step.name, []).append(Raw.of(child))
        else:
            if step.flag is not None:
                values[step.flag] = True
            self.fill(step.table, child, where, values, step.inner)

    def choose(self, step: Step, child: Node, where: str) -> type | None:
        """The class whose variant fits."""
        attribute = step.variant
        word = child.attributes.get(attribute)
        if word is None:
            self.refuse(_problem(child, where, f"Missing required attribute '{attribute}' in element '{child.name}'"))
            return None
        chosen = step.by_word.get(word)
        if chosen is None:
            message = f"Invalid value for attribute '{attribute}' in element '{child.name}': '{_short(word)}'."
            self.refuse(_problem(child, f"{where}/@{attribute}", message))
        return chosen

    def scalar(
        self, name: str, made: Property, word: str, node: Node, attribute: str, path: str, values: dict[str, Any]
    ) -> None:
        """Convert one word."""
        live = made.live
        if live is True and not self.live:
            return
        try:
            value = made.kind.parse(word)  # type: ignore[union-attr]
        except BadValue as wrong:
            self.refuse(_bad(made, wrong, word, node, attribute, path))
            return
        if live and live is not True and not self.live and live(value):
            return
        if made.form is Form.EACH:
            values.setdefault(name, []).append(value)
        else:
            values[name] = value

    def text(self, name: str, made: Property, node: Node, path: str, values: dict[str, Any]) -> None:
        """Convert the text of an element; an empty one says nothing."""
        word = node.text
        if node.children:
            # Blanks around child elements are layout.
            word = (word + "".join([child.tail for child in node.children])).strip()
        if made.form is Form.SIZE and (made.required or not (not word or word.isspace())):
            try:
                values[name] = kibibytes(word, node.attributes.get("unit"))
            except BadValue as wrong:
                self.refuse(_bad(made, wrong, word.strip(), node, "", path))
        elif made.form is not Form.SIZE and word and not (made.path == "." and word.isspace()):
            self.scalar(name, made, word, node, "", path, values)

    def extra_attribute(self, node: Node, name: str, word: str, path: str, values: dict[str, Any], inner: str) -> None:
        """Keep an attribute that no property names."""
        prefix, colon, _ = name.partition(":")
        owner = node.scope.get(prefix, "") if colon else node.namespace
        what = f"unknown attribute '{name}' in element '{node.name}'"
        self.note(node, f"{path}/@{name}" if path else f"@{name}", what, owner)
        beyond = values.setdefault("unknown", _Beyond())
        beyond.attributes[inner, name, word] = None
        if colon and prefix != "xml":
            beyond.attributes[inner, f"xmlns:{prefix}", node.scope[prefix]] = None

    def note(self, node: Node, path: str, what: str, owner: str | None = None) -> None:
        """Report what is kept without being understood, or left out; without *owner* the name is the element's."""
        if len(self.notes) < _MOST_NOTES:
            code, domain = ErrorCode.XML_INVALID_SCHEMA, ErrorDomain.XML
            self.owners.append(node.namespace if owner is None else owner)
            self.notes.append(_problem(node, path, what, code=code, domain=domain))

    def refuse(self, problem: Problem) -> None:
        """Add a problem, and stop when there are enough."""
        self.problems.append(problem)
        if len(self.problems) >= _MOST_PROBLEMS:
            raise BadConfig(self.problems)


def _short(word: str) -> str:
    return word if len(word) <= _SHOWN else word[:_SHOWN] + "…"


def _problem(
    node: Node,
    path: str,
    message: str,
    *,
    code: ErrorCode = ErrorCode.XML_ERROR,
    domain: ErrorDomain = ErrorDomain.DOMAIN,
) -> Problem:
    return Problem(path, message, code=code, domain=domain, line=node.line, column=node.column)


def _bad(made: Property, wrong: BadValue, word: str, node: Node, attribute: str, path: str) -> Problem:
    """A word that its kind refused, in libvirt's words."""
    value = _short(word)
    code = wrong.code
    if made.wrong is not None:
        message, code = made.wrong.replace("{value}", value), made.code
    elif made.form is Form.SIZE and not wrong.whole:
        message = f"Invalid value '{value}' for element or attribute './{node.name}[1]'"
    elif wrong.whole is not None:
        message = wrong.whole
    else:
        where = f"attribute '{attribute}' in element '{node.name}'" if attribute else f"element '{node.name}'"
        message = f"Invalid value for {where}: " + (wrong.tail or f"'{value}'.")
    place = path
    if attribute:
        place = f"{path}/@{attribute}" if path else f"@{attribute}"
    return _problem(node, place, message, code=code)


def _missing(made: Property, plan: Plan, node: Node, path: str) -> Problem:
    """A required property that the element does not have."""
    tag, _, attribute = made.path.rpartition("@")
    element = tag.rstrip("/").rpartition("/")[2] or node.name
    if made.missing is not None:
        message = made.missing
    elif attribute and "@" in made.path:
        message = f"Missing required attribute '{attribute}' in element '{element}'"
    else:
        message = f"Missing required element '{made.path}' in element '{node.name}'"
    place = path if made.path == "." else f"{path}/{made.path}" if path else made.path
    return _problem(node, place, message, code=made.missing_code)
