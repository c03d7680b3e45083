"""Title, description and foreign elements, read out of the XML that a driver gives."""

from __future__ import annotations

from virlet.enums import MetadataType
from virlet.errors import InvalidArg, NoDomainMetadata

__all__ = ["metadata_of"]


def metadata_of(xml: str, kind: int, uri: str | None) -> str:
    """The text of the description or title, or the XML of the metadata element of namespace *uri*, without that.

    Raises :class:`NoDomainMetadata` when there is none, :class:`InvalidArg` for a kind that nobody knows.
    """
    # The daemon's own output, long since checked for what hostile XML may hold; the parser is loaded when first used.
    from xml.etree import ElementTree

    root = ElementTree.fromstring(xml)
    if kind in (MetadataType.DESCRIPTION, MetadataType.TITLE):
        found = root.findtext(MetadataType(kind).name.lower())
        if not found:
            raise NoDomainMetadata("Requested metadata element is not present")
        return found
    if kind != MetadataType.ELEMENT:
        raise InvalidArg(f"unknown metadata type {kind}")
    if not uri:
        raise InvalidArg("uri must not be NULL")
    for element in root.iterfind("metadata/*"):
        if element.tag.startswith(f"{{{uri}}}"):
            element.tail = None
            for each in element.iter():
                each.tag = each.tag.removeprefix(f"{{{uri}}}")
            return ElementTree.tostring(element, encoding="unicode")
    raise NoDomainMetadata("Requested metadata element is not present")
