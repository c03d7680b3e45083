"""What one client is to the daemon, whatever carries its bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from virlet.engine.api import Console, Devices, Driver, Explain, FdPassing, Streams
from virlet.errors import NoSupport
from virlet.wire.link import Call

if TYPE_CHECKING:
    from virlet.daemon.compat import Compat
    from virlet.daemon.drivers import Drivers
    from virlet.daemon.events import Hub

__all__ = ["Host", "Session", "Wire"]


class Wire(Protocol):
    """What a session asks of the connection that carries it."""

    def send(self, data: bytes) -> None:
        """Queue *data* behind what waits already."""
        ...

    def open_stream(self, call: Call, console: Console) -> None:
        """Pump between *console* and the stream of *call*, beginning after the reply."""
        ...

    def watch(self) -> None:
        """The client promised to answer PINGs: begin to send them."""
        ...

    def hang_up(self) -> None:
        """Close when everything queued has been sent."""
        ...


class Host(Protocol):
    """What the sessions of a daemon share."""

    drivers: Drivers
    hub: Hub
    compat: Compat

    def serve_compat(self) -> None:
        """Serve libvirt's paths if that is switched on and nobody else does."""
        ...

    def drop_compat(self) -> None:
        """Switch it off and stop serving them."""
        ...


class Session:
    """A client: the driver it opened, whether it may only read, and who it is for AUTODESTROY (itself)."""

    __slots__ = ("__weakref__", "call", "driver", "host", "is_open", "readonly", "uri", "wire")

    driver: Driver
    """Set as soon as :attr:`is_open`; dispatch sees to it that no handler asks for it before."""

    def __init__(self, host: Host, wire: Wire) -> None:
        self.host = host
        self.wire = wire
        self.is_open = False
        self.readonly = False
        self.uri = ""
        self.call: Call | None = None
        """The call whose handler is being entered; not valid any more once a coroutine runs."""

    def opened(self, driver: Driver, uri: str, readonly: bool) -> None:
        """The client chose its driver."""
        self.driver, self.uri, self.readonly, self.is_open = driver, uri, readonly, True

    def devices(self, api: str) -> Devices:
        """The driver as one that has devices; :class:`NoSupport` naming *api* when it has none."""
        if not isinstance(self.driver, Devices):
            raise NoSupport(api)
        return self.driver

    def fd_passing(self, api: str) -> FdPassing:
        """The driver as one that takes descriptors; :class:`NoSupport` naming *api* when it does not."""
        if not isinstance(self.driver, FdPassing):
            raise NoSupport(api)
        return self.driver

    def streams(self, api: str) -> Streams:
        """The driver as one that has streams; :class:`NoSupport` naming *api* when it has none."""
        if not isinstance(self.driver, Streams):
            raise NoSupport(api)
        return self.driver

    def explain(self, api: str) -> Explain:
        """The driver as one that explains itself; :class:`NoSupport` naming *api* when it does not."""
        if not isinstance(self.driver, Explain):
            raise NoSupport(api)
        return self.driver
