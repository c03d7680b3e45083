"""Where virlet keeps its files: pure functions of the environment and the user's id; and where programs are.

The XDG base directory specification names the directories; as it demands, a value that is not absolute is ignored.
Nothing is created here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

__all__ = [
    "cache_dir",
    "config_dir",
    "home_dir",
    "libvirt_socket_dir",
    "program",
    "runtime_dir",
    "server_socket",
    "state_dir",
]


def home_dir(environ: Mapping[str, str], uid: int) -> Path:
    """The user's home: ``$HOME``, else what the password database says; ``/`` for a user unknown to it."""
    if home := _absolute(environ, "HOME"):
        return home
    import pwd

    try:
        return Path(pwd.getpwuid(uid).pw_dir)
    except KeyError:
        return Path("/")


def runtime_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Sockets only: ``$XDG_RUNTIME_DIR/virlet``, or ``/tmp/virlet-UID``.

    Who creates the latter must make it 0700 and check that it belongs to *uid*: everybody may write in ``/tmp``.
    """
    base = _absolute(environ, "XDG_RUNTIME_DIR")
    return base / "virlet" if base else Path(f"/tmp/virlet-{uid}")


def server_socket(environ: Mapping[str, str], uid: int) -> Path:
    """The socket on which the user's virletd listens."""
    return runtime_dir(environ, uid) / "virletd.sock"


def config_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Definitions and the user's configuration: ``$XDG_CONFIG_HOME/virlet``."""
    return (_absolute(environ, "XDG_CONFIG_HOME") or home_dir(environ, uid) / ".config") / "virlet"


def state_dir(environ: Mapping[str, str], uid: int, machine_id: str = "", boot_id: str = "") -> Path:
    """``$XDG_STATE_HOME/virlet``, or below it what belongs to one machine, or to one boot of it.

    A home may be shared by several machines, and what ran before a reboot runs no more.
    """
    base = (_absolute(environ, "XDG_STATE_HOME") or home_dir(environ, uid) / ".local/state") / "virlet"
    return base / machine_id / boot_id


def cache_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Results of probes, which may be deleted at any time: ``$XDG_CACHE_HOME/virlet``."""
    return (_absolute(environ, "XDG_CACHE_HOME") or home_dir(environ, uid) / ".cache") / "virlet"


def libvirt_socket_dir(environ: Mapping[str, str], uid: int) -> Path:
    """Where libvirt's clients look for a session daemon's sockets."""
    base = _absolute(environ, "XDG_RUNTIME_DIR") or _absolute(environ, "XDG_CACHE_HOME")
    return (base or home_dir(environ, uid) / ".cache") / "libvirt"


def program(name: str) -> str | None:
    """The executable file called *name* on ``$PATH``; like :func:`shutil.which`, without three decompressors."""
    for folder in os.get_exec_path():
        found = os.path.join(folder, name)
        if os.path.isfile(found) and os.access(found, os.X_OK):
            return found
    return None


def _absolute(environ: Mapping[str, str], name: str) -> Path | None:
    value = environ.get(name, "")
    return Path(value) if value.startswith("/") else None
