"""From the URI that a client names to the driver that serves it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import cast
from urllib.parse import urlsplit

from virlet.daemon.events import Hub
from virlet.engine.api import Driver, Suspects
from virlet.enums import ErrorDomain
from virlet.errors import InternalError, NoConnect
from virlet.plugins import entry_points

__all__ = ["DEFAULT_URI", "Drivers", "canonical"]

log = logging.getLogger(__name__)

GROUP = "virlet.drivers"
DEFAULT_URI = "qemu:///session"


def canonical(uri: str) -> str:
    """The URI without what clients add to it; the default for an empty one.

    Raises :class:`NoConnect` for one that names a host, :class:`InternalError` for a path that QEMU guests of a user
    do not have, in libvirt's words.
    """
    if not uri:
        return DEFAULT_URI
    try:
        parts = urlsplit(uri)
    except ValueError:
        raise nobody(uri) from None
    if not parts.scheme or parts.netloc:
        raise nobody(uri)
    if parts.scheme == "qemu" and parts.path != "/session":
        said = f"unexpected qemu URI path '{parts.path}'" if parts.path else "no qemu URI path given"
        raise InternalError(f"{said}, try {DEFAULT_URI}", domain=ErrorDomain.NONE)
    return f"{parts.scheme}://{parts.path}"


def nobody(uri: str) -> NoConnect:
    """No driver takes *uri*."""
    return NoConnect(f"no connection driver available for {uri}")


class Drivers:
    """One driver a URI, opened once and shared by all connections."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._open: dict[str, Driver] = {}
        self._opening = asyncio.Lock()

    def ready(self, uri: str) -> Driver | None:
        """The driver of a canonical URI if it is open already."""
        return self._open.get(uri)

    async def open(self, uri: str) -> Driver:
        """The driver of a canonical URI, found by the scheme among the installed ones (group ``virlet.drivers``)."""
        async with self._opening:
            if (driver := self._open.get(uri)) is not None:
                return driver
            driver = await _load(uri)
            self.add(uri, driver)
            return driver

    def add(self, uri: str, driver: Driver) -> None:
        """Serve *driver* at *uri*; its events go to everybody who asked for them there."""
        self._hub.attach(driver)
        self._open[uri] = driver

    def running(self) -> bool:
        """Whether any guest runs: then the daemon is wanted, clients or not."""
        from virlet.enums import ListDomainsFlags

        return any(driver.domains(ListDomainsFlags.ACTIVE) for driver in self._open.values())

    def is_guest(self, pid: int) -> bool:
        """Whether that process is a guest's, whichever driver runs it."""
        return any(driver.is_guest(pid) for driver in self._open.values() if isinstance(driver, Suspects))

    async def close(self) -> None:
        """Let go of all drivers; guests run on."""
        for uri, driver in list(self._open.items()):
            self._hub.detach(driver)
            del self._open[uri]
            await driver.close()


async def _load(uri: str) -> Driver:
    scheme, _, path = uri.partition("://")
    for entry in entry_points(GROUP, scheme):
        log.debug("driver %s for %s", entry.value, uri)
        open_driver = cast("Callable[[str], Driver | Awaitable[Driver]]", entry.load())
        opened = open_driver(path)
        return await opened if isinstance(opened, Awaitable) else opened
    raise nobody(uri)
