"""Connection URIs: which socket to dial and what to ask the server for.

libvirt's URIs lead where libvirt's own clients go (https://libvirt.org/uri.html); ``virlet:///session`` and
``test:///default`` lead to the user's virletd.  Only UNIX sockets are dialled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from virlet import paths
from virlet.errors import InvalidArg, NoConnect, OperationUnsupported

__all__ = ["DEFAULT", "Target", "resolve"]

DEFAULT = "virlet:///session"
"""Where to go when nobody says."""

_TRANSPORTS = {"tls", "unix", "ssh", "libssh2", "ext", "tcp", "libssh"}
_EATEN = {
    *("name", "socket", "command", "auth", "sshauth", "netcat", "keyfile", "pkipath", "known_hosts"),
    *("known_hosts_verify", "tls_priority", "mode", "proxy", "no_sanity", "no_verify", "no_tty", "authfile"),
}
_SYSTEM = Path("/var/run/libvirt")


class Target(NamedTuple):
    """A resolved URI."""

    uri: str
    """As the user said it."""
    name: str
    """What CONNECT_OPEN asks for."""
    sockets: tuple[Path, ...]
    """The paths to try, in this order."""
    autostart: bool
    """Whether virletd may be started when it does not listen."""


def resolve(uri: str | None, environ: Mapping[str, str], uid: int, *, readonly: bool = False) -> Target:
    """What *uri* means here; without one ``$VIRLET_URI`` decides, else :data:`DEFAULT`.

    Raises :class:`~virlet.errors.VirletError` for a URI that cannot be understood or dialled.
    """
    text = uri or environ.get("VIRLET_URI") or DEFAULT
    try:
        parts = urlsplit(text)
    except ValueError as error:  # brackets that hold no IPv6 address
        raise InvalidArg(f"'{text}' is no connection URI: {error}") from None
    driver, _, transport = parts.scheme.partition("+")
    if not driver:
        raise InvalidArg(f"'{text}' is no connection URI", hint=f"{DEFAULT} is your own virletd")
    _check_transport(text, transport.lower(), bool(parts.netloc))
    query = _query(parts.query)
    explicit = dict(query).get("socket")
    if explicit and "\0" in explicit:
        raise InvalidArg(f"'{text}' names a socket with a zero byte in its path")
    name = _name(driver, parts.path, query)
    if driver == "virlet" and parts.path not in ("", "/", "/session"):
        raise NoConnect(f"no connection driver available for {text}", hint=f"use {DEFAULT}")
    if explicit:
        return Target(text, name, (Path(explicit),), autostart=False)
    if driver == "virlet" or (driver == "test" and not transport):
        own = paths.server_socket(environ, uid)
        return Target(text, name, (own,), autostart=environ.get("VIRLET_AUTOSTART") != "0")
    session = uid != 0 and parts.path == "/session"
    folder = paths.libvirt_socket_dir(environ, uid) if session else _SYSTEM
    suffix = "-sock-ro" if readonly and not session else "-sock"
    return Target(text, name, _libvirt_sockets(text, folder, driver, suffix, dict(query)), autostart=False)


def _check_transport(text: str, transport: str, has_host: bool) -> None:
    if transport and transport not in _TRANSPORTS:
        raise InvalidArg(f"'{text}' names an unknown transport '{transport}'", hint="leave it out, or use +unix")
    if transport == "unix" and has_host:
        raise InvalidArg(f"'{text}' names a host, and a UNIX socket has none", hint="leave the host out")
    if has_host or transport not in ("", "unix"):
        raise OperationUnsupported(
            f"'{text}' leads to another host",
            hint="forward its socket, 'ssh -L /tmp/far.sock:/run/user/UID/virlet/virletd.sock HOST', "
            "and use virlet:///session?socket=/tmp/far.sock",
        )


def _query(text: str) -> list[tuple[str, str]]:
    pairs = (piece.partition("=") for piece in text.replace(";", "&").split("&") if piece)
    return [(unquote(key), unquote(value)) for key, _, value in pairs]


def _name(driver: str, path: str, query: list[tuple[str, str]]) -> str:
    if name := dict(query).get("name"):
        return name
    if driver == "virlet":
        driver, path = "qemu", "/session"
    elif driver == "remote":
        return ""
    kept = "&".join(f"{key}={value}" for key, value in query if key not in _EATEN)
    return f"{driver}://{path}" + (f"?{kept}" if kept else "")


def _libvirt_sockets(text: str, folder: Path, driver: str, suffix: str, query: Mapping[str, str]) -> tuple[Path, ...]:
    direct, legacy = folder / f"virt{driver}d{suffix}", folder / f"libvirt{suffix}"
    by_mode = {"auto": (direct, legacy), "direct": (direct,), "legacy": (legacy,)}
    mode = query.get("mode", "auto")
    if mode not in by_mode:
        raise InvalidArg(f"'{text}' has an unknown mode '{mode}'", hint="auto, direct and legacy exist")
    return by_mode[mode]
