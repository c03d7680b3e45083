"""Definitions on disk: one file a guest, which stays the XML that the user can read and feed to any libvirt.

The first line is a processing instruction of ours (which host it was defined on, autostart); the rest is the
inactive domain XML.  File names are made of the UUID, so that no name of a guest can be a path.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from virlet.engine.files import DurableDir, move_aside, sweep_scratch

__all__ = ["Definitions", "StoredDefinition", "parse_definition", "print_definition"]

log = logging.getLogger(__name__)

_FIRST_LINE = re.compile(r'<\?virlet format="1" host="([0-9a-f]{0,32})" autostart="(yes|no)"\?>\n')
LIMIT = 16 * 1024 * 1024
"""Bytes of a definition that we read at most; the wire carries 4 MiB of XML."""


@dataclass(frozen=True, slots=True)
class StoredDefinition:
    """What one file says."""

    uuid: UUID
    xml: str
    host: str
    """The machine id of the host that it was defined on; empty where that host has none."""
    autostart: bool = False


def print_definition(stored: StoredDefinition) -> bytes:
    """The bytes of the file."""
    autostart = "yes" if stored.autostart else "no"
    return f'<?virlet format="1" host="{stored.host}" autostart="{autostart}"?>\n{stored.xml}'.encode()


def parse_definition(uuid: UUID, data: bytes) -> StoredDefinition:
    """Read the bytes of a file; raises :class:`ValueError` for one that we did not write.

    Whether the XML is whole is for the XML parser to find.
    """
    text = data.decode("utf-8")
    match = _FIRST_LINE.match(text)
    if match is None:
        raise ValueError("its first line is not the one that virlet writes")
    return StoredDefinition(uuid, text[match.end() :], match.group(1), match.group(2) == "yes")


class Definitions:
    """The directory of definitions."""

    __slots__ = ("_dir", "problems")

    def __init__(self, path: Path) -> None:
        self._dir = DurableDir(path)
        self.problems: list[str] = []
        """What could not be read, one sentence each, for ``doctor``."""

    def load(self) -> Iterator[StoredDefinition]:
        """Every definition that can be read; the others are moved aside and reported."""
        try:
            sweep_scratch(self._dir.path)
            found = sorted(self._dir.path.glob("*.xml"))
        except OSError as error:
            self._report(f"cannot list {self._dir.path}: {error.strerror}")
            return
        for path in found:
            stored = self._read(path)
            if stored is not None:
                yield stored

    def _read(self, path: Path) -> StoredDefinition | None:
        try:
            uuid = UUID(path.stem)
            if path.stat().st_size > LIMIT:
                raise ValueError(f"it is larger than {LIMIT} bytes")
            return parse_definition(uuid, path.read_bytes())
        except OSError as error:
            self._report(f"definition {path} cannot be read: {error.strerror}")
        except ValueError as error:
            self.reject(path, str(error))
        return None

    def reject(self, path: Path | UUID, reason: str) -> None:
        """Move the definition aside because of *reason*, and report it."""
        where = path if isinstance(path, Path) else self._dir.path / _name(path)
        self._report(f"definition {where} cannot be used ({reason}); kept as {move_aside(where)}")

    def _report(self, sentence: str) -> None:
        log.error("%s", sentence)
        self.problems.append(sentence)

    async def save(self, stored: StoredDefinition) -> None:
        """Write or replace; on return it has reached the disk.  Raises :class:`SystemFailure`."""
        await self._dir.write(_name(stored.uuid), print_definition(stored))

    async def remove(self, uuid: UUID) -> None:
        """Forget it; raises :class:`SystemFailure`."""
        await self._dir.remove(_name(uuid))


def _name(uuid: UUID) -> str:
    return f"{uuid}.xml"
