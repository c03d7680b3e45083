"""What people and programs write about a domain: title, description, and an element for each namespace.

Nobody's guest depends on it, so it may change at any time (``virDomainSetMetadata``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from virlet.enums import MetadataType
from virlet.errors import InvalidArg, VirletError
from virlet.model.domain import Domain, format_domain, parse_domain
from virlet.model.elements import Metadata
from virlet.xml.parser import parse
from virlet.xml.raw import Raw

__all__ = ["MetadataChange", "with_metadata"]

_PREFIX = re.compile(r"[^\W\d][\w.-]*")
"""A name without a colon (Namespaces in XML 1.0, NCName), near enough: the result is parsed before it is believed."""


@dataclass(frozen=True, slots=True)
class MetadataChange:
    """One call of ``virDomainSetMetadata``."""

    kind: MetadataType
    text: str | None
    """The title or description, or the element as XML; None removes it."""
    key: str | None = None
    """The prefix that the element is printed with."""
    uri: str | None = None
    """The namespace of the element."""


def with_metadata(domain: Domain, change: MetadataChange) -> Domain:
    """*domain* after *change*.

    Raises :class:`InvalidArg` for what cannot be printed as XML, and what the XML parser raises for an element that is
    none.
    """
    match change.kind:
        case MetadataType.TITLE:
            if change.text is not None and "\n" in change.text:
                raise InvalidArg("metadata title can't contain newlines")
            changed = replace(domain, title=change.text or None)
        case MetadataType.DESCRIPTION:
            changed = replace(domain, description=change.text or None)
        case MetadataType.ELEMENT:
            changed = _with_element(domain, change)
    try:
        parse_domain(format_domain(changed, inactive=True, secure=True), stored=True)
    except VirletError as error:
        raise InvalidArg(f"this metadata cannot be printed as XML: {error.detail}") from None
    return changed


def _with_element(domain: Domain, change: MetadataChange) -> Domain:
    if not change.uri:
        raise InvalidArg("uri must not be NULL")
    others = domain.metadata.elements if domain.metadata is not None else ()
    elements = tuple(each for each in others if each.namespace != change.uri)
    if change.text is not None:
        elements += (_element(change.text, change.key or "", change.uri),)
    return replace(domain, metadata=Metadata(elements=elements) if elements else None)


def _element(text: str, key: str, uri: str) -> Raw:
    if not _PREFIX.fullmatch(key):
        raise InvalidArg(f"key '{key}' cannot be the prefix of an XML element", hint="choose a word of letters")
    inside = _qualified(Raw.of(parse(text)), key, uri)
    declared = tuple(pair for pair in inside.attributes if pair[0] != f"xmlns:{key}")
    return replace(inside, attributes=((f"xmlns:{key}", uri), *declared))


def _qualified(raw: Raw, key: str, uri: str) -> Raw:
    """*raw*, with everything in it that has no namespace in that of *key* (``virXMLInjectNamespace``)."""
    content = tuple(_qualified(part, key, uri) if isinstance(part, Raw) else part for part in raw.content)
    if raw.namespace:
        return replace(raw, content=content)
    return replace(raw, name=f"{key}:{raw.name}", namespace=uri, content=content)
