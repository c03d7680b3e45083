"""What a libvirt session left in the home directory, read without libvirt.

libvirt's session daemon keeps a domain's definition in ``$XDG_CONFIG_HOME/libvirt/qemu/NAME.xml``, a link to it in
``autostart/`` when it starts with the daemon, a saved guest in ``save/NAME.save``, and the status of a running guest
in ``$XDG_RUNTIME_DIR/libvirt/qemu/run/NAME.xml``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from virlet.paths import config_dir, libvirt_socket_dir

__all__ = ["Found", "definitions", "libvirt_config_dir"]

MAX_XML = 4 << 20
"""The longest string of the wire protocol (``REMOTE_STRING_MAX``), so the longest definition that anybody can have."""


@dataclass(frozen=True, slots=True)
class Found:
    """One domain of a libvirt session."""

    name: str
    xml: str
    autostart: bool = False
    warnings: tuple[str, ...] = ()
    """What of it cannot come along."""
    problem: str | None = None
    """Why its definition cannot be read; then ``xml`` is empty."""


def libvirt_config_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Where the session daemon of this user keeps its definitions."""
    return config_dir(environ, uid).parent / "libvirt" / "qemu"


def definitions(environ: Mapping[str, str], uid: int) -> Iterator[Found]:
    """Every definition, by name; none when there never was a session."""
    directory = libvirt_config_dir(environ, uid)
    running = libvirt_socket_dir(environ, uid) / "qemu" / "run"
    for path in sorted(directory.glob("*.xml")):
        yield _read(path, running / path.name)


def _read(path: Path, status: Path) -> Found:
    warnings = []
    if (path.parent / "save" / f"{path.stem}.save").exists():
        warnings.append("its saved state stays with libvirt: start it there once, or it boots afresh")
    if status.exists():
        warnings.append("it may be running under libvirt: never let both run it on the same disks")
    autostart = (path.parent / "autostart" / path.name).is_symlink()
    try:
        with path.open("rb") as file:
            data = file.read(MAX_XML + 1)
        if len(data) > MAX_XML:
            return Found(path.stem, "", problem=f"{path} is larger than {MAX_XML >> 20} MiB")
        return Found(path.stem, data.decode(), autostart, tuple(warnings))
    except OSError as error:
        return Found(path.stem, "", problem=f"cannot read {path}: {error.strerror}")
    except UnicodeDecodeError:
        return Found(path.stem, "", problem=f"{path} is not UTF-8")
