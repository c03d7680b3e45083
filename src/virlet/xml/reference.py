"""The reference of all declared elements, in Markdown, from the declarations themselves."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

from virlet.xml.declare import Form, Property, declaration_of

__all__ = ["reference"]


def reference(root: type) -> str:
    """A page with a section for *root* and for every class below it; classes used in several places appear once."""
    lines: list[str] = []
    for path, cls in _classes(root):
        declared = declaration_of(cls)
        where = f" {declared.variant[0]}='{declared.variant[1]}'" if declared.variant is not None else ""
        lines += [f"## `<{_shown(cls)}{where}>`", "", f"`{path}`: {inspect.getdoc(cls)}", ""]
        if declared.properties:
            lines += ["| XPath | values | meaning |", "|---|---|---|"]
            lines += [_row(made) for _, made in declared.properties]
            lines.append("")
    return "\n".join(lines)


def _classes(root: type) -> Iterator[tuple[str, type]]:
    seen: set[type] = set()
    queue: list[tuple[str, type]] = [(declaration_of(root).tag, root)]
    while queue:
        path, cls = queue.pop(0)
        if cls in seen:
            continue
        seen.add(cls)
        yield path, cls
        below = [inner for _, made in declaration_of(cls).properties for inner in made.classes]
        queue[:0] = [(f"{path}/{_shown(inner)}", inner) for inner in below]


def _shown(cls: type) -> str:
    declared = declaration_of(cls)
    return f"{declared.prefix}:{declared.tag}" if declared.prefix else declared.tag


def _row(made: Property) -> str:
    path = "text()" if made.path == "." else made.path
    if made.classes:
        path = _shown(made.classes[0])
    marks = [made.doc] if made.doc else []
    if made.required:
        marks.append("**required**")
    if made.live is True:
        marks.append("only while the domain runs")
    if made.secret:
        marks.append("shown only on request")
    return f"| `{path}` | {_values(made)} | {'; '.join(marks)} |"


def _values(made: Property) -> str:
    if made.form is Form.FLAG:
        return "present or absent"
    if made.form is Form.SIZE:
        return "amount with `unit`, KiB when not said"
    if made.form in (Form.RAW, Form.RAWS):
        return "any XML" + (", repeated" if made.form is Form.RAWS else "")
    if made.form is Form.MANY:
        return "element, repeated"
    if made.form is Form.CHILD:
        return "element"
    kind = made.kind
    if kind is None:
        return ""
    words = ", ".join(f"`{word}`" for word in kind.words) or kind.name
    return words + (", repeated" if made.form is Form.EACH else "")
