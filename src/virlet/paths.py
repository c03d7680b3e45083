"""Where virlet keeps what, after the XDG base directory specification.  Pure: nothing is made or looked at here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Dirs", "directories"]


@dataclass(frozen=True, slots=True)
class Dirs:
    """virlet's own directories of one user."""

    config: Path
    """Definitions and settings."""
    state: Path
    """Running state (below machine and boot id), logs, nvram."""
    cache: Path
    """What can be found out again."""
    runtime: Path
    """Sockets alone; may vanish at the last log-out."""

    @property
    def session_socket(self) -> Path:
        """Where virletd listens."""
        return self.runtime / "virlet-sock"

    @property
    def lock(self) -> Path:
        """The file whose lock makes one daemon a user; not in the runtime directory, which may vanish under it."""
        return self.state / "virletd.lock"


def directories(environ: Mapping[str, str], uid: int) -> Dirs:
    """The directories that *environ* means for the user *uid*.

    A relative path in an XDG variable is ignored, as the specification demands.  Without ``XDG_RUNTIME_DIR`` the
    runtime directory is ``/tmp/virlet-UID``: whoever makes it must make it 0700 and check its owner.
    """
    home = Path(environ.get("HOME") or "/")
    runtime = _absolute(environ.get("XDG_RUNTIME_DIR"))
    return Dirs(
        config=(_absolute(environ.get("XDG_CONFIG_HOME")) or home / ".config") / "virlet",
        state=(_absolute(environ.get("XDG_STATE_HOME")) or home / ".local/state") / "virlet",
        cache=(_absolute(environ.get("XDG_CACHE_HOME")) or home / ".cache") / "virlet",
        runtime=Path(f"/tmp/virlet-{uid}") if runtime is None else runtime / "virlet",
    )


def _absolute(text: str | None) -> Path | None:
    if not text or not text.startswith("/"):
        return None
    return Path(text)
