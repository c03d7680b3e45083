"""A guest's monitor: commands, events, descriptors, and one promise about errors.

Whatever QEMU answers, a public call here raises only :class:`~virlet.errors.VirletError`: :class:`QmpError` when QEMU
refused the command, :class:`MonitorClosed` when it is gone or speaks no QMP, :class:`~virlet.errors.OperationTimeout`
when it does not answer.  An answer may be of any JSON type: callers check what they read.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from virlet.errors import InternalError, OperationTimeout, ResourceBusy, SystemFailure

if TYPE_CHECKING:
    from qemu.qmp.message import Message

    from virlet.qmp.client import Client

__all__ = ["Event", "EventCallback", "Monitor", "MonitorClosed", "QmpError"]

log = logging.getLogger(__name__)


class QmpError(InternalError):
    """QEMU refused a command."""

    def __init__(self, command: str, error_class: str, description: str) -> None:
        super().__init__(f"unable to execute QEMU command '{command}': {description}")
        self.command = command
        self.error_class = error_class
        """QEMU's class: ``GenericError``, ``CommandNotFound``, ``DeviceNotFound``, …"""
        self.description = description


class MonitorClosed(InternalError):
    """QEMU has closed the monitor, or says things that are no QMP."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something happened in QEMU."""

    name: str
    """As ``NETDEV_STREAM_DISCONNECTED``."""
    data: Mapping[str, object]
    time: float
    """Seconds since the epoch, by QEMU's clock; 0.0 where it did not say."""


_LATEST = 1 << 62
EventCallback = Callable[[Event], None]


class Monitor:
    """A negotiated QMP connection; belongs to the event loop in which it was connected."""

    def __init__(self, name: str, sock: socket.socket, on_event: EventCallback | None) -> None:
        """For :meth:`connect` only."""
        # Not at the top: a daemon without guests does without the library's 6 ms and 450 KiB.
        from virlet.qmp.client import Client

        self.name = name
        self._loop = asyncio.get_running_loop()
        self._socket = sock
        self._client: Client = Client(name, self._deliver)
        self._callbacks: list[EventCallback] = [on_event] if on_event is not None else []
        self._fd_lock = asyncio.Lock()
        self._asked: list[float] = []
        self._watcher: asyncio.Task[None] | None = None
        self.closed: asyncio.Future[str] = self._loop.create_future()
        """Done when the connection has ended; its result says why."""

    @classmethod
    async def connect(
        cls,
        where: socket.socket | Path,
        *,
        name: str,
        on_event: EventCallback | None = None,
        timeout: float | None = 30.0,
    ) -> Monitor:
        """Connect, await the greeting and negotiate; *on_event* misses no event.  With *timeout* None it waits on.

        A connected socket given is taken over, and closed when this fails.

        :raises MonitorClosed: QEMU hung up, as it does when it does not like its command line.
        :raises OperationTimeout: no greeting within *timeout* seconds: QEMU hangs, or somebody else is connected.
        :raises SystemFailure: nobody listens at that path.
        """
        from virlet.qmp.client import ConnectError

        sock = where if isinstance(where, socket.socket) else _dial(where)
        sock.setblocking(False)
        monitor = cls(name, sock, on_event)
        negotiated = False
        try:
            async with asyncio.timeout(timeout):
                await monitor._client.connect(sock)
            negotiated = True
        except TimeoutError as error:
            raise OperationTimeout(f"the monitor of {name} did not greet within {timeout or 0:g} s") from error
        except ConnectError as error:
            raise MonitorClosed(f"{name} closed the monitor: {_cause(error)}") from error
        finally:
            if not negotiated:
                sock.close()  # The library may have been cancelled before it took the socket.
        monitor._watcher = asyncio.create_task(monitor._watch(), name=f"monitor {name}")
        return monitor

    @classmethod
    def unreachable(cls, name: str, why: str) -> Monitor:
        """The monitor of a QEMU that cannot be talked to (yet): every command fails with :class:`MonitorClosed`."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        sock.close()
        monitor = cls(name, sock, None)
        monitor.closed.set_result(why)
        return monitor

    @property
    def connected(self) -> bool:
        """False from the moment at which the connection breaks."""
        return self._client.runstate.name == "RUNNING"

    @property
    def version(self) -> tuple[int, int, int]:
        """QEMU's, of the greeting; to be shown, not compared."""
        greeting = self._client.greeting
        numbers = greeting.QMP.version.get("qemu") if greeting is not None else None
        if not isinstance(numbers, Mapping):
            return (0, 0, 0)
        major, minor, micro = (numbers.get(key) for key in ("major", "minor", "micro"))
        if isinstance(major, int) and isinstance(minor, int) and isinstance(micro, int):
            return (major, minor, micro)
        return (0, 0, 0)

    @property
    def unanswered(self) -> float | None:
        """Seconds for which the oldest command has had no answer; None when there is none."""
        return self._loop.time() - min(self._asked) if self._asked else None

    def on_event(self, callback: EventCallback) -> None:
        """Have *callback* called for every event from now on, in order, from the event loop."""
        self._callbacks.append(callback)

    async def execute(
        self, command: str, arguments: Mapping[str, object] | None = None, *, timeout: float = 30.0, oob: bool = False
    ) -> object:
        """Run a command and return its answer.  *oob* asks QEMU to run it out of turn (``migrate-pause`` …).

        A cancelled call is still carried out by QEMU; only its answer is dropped.
        """
        from qemu.qmp import ExecInterruptedError, ExecuteError, StateError
        from qemu.qmp.error import ProtocolError

        begun = self._loop.time()
        self._asked.append(begun)
        try:
            async with asyncio.timeout(timeout):
                return await self._client.execute(command, arguments, oob=oob)
        except ExecuteError as error:
            raise QmpError(command, error.error_class, error.error.error.desc) from error
        except TimeoutError as error:
            raise OperationTimeout(
                f"{self.name} did not answer QEMU command '{command}' within {timeout:g} s"
            ) from error
        except (ExecInterruptedError, StateError) as error:
            raise MonitorClosed(f"{self.name} closed the monitor before it answered '{command}'") from error
        except ProtocolError as error:
            self._hang_up()
            raise MonitorClosed(f"{self.name} did not answer '{command}' in QMP: {_cause(error)}") from error
        finally:
            self._asked.remove(begun)

    async def send_fd(self, name: str, fd: int) -> None:
        """Give QEMU a copy of *fd*, to be named *name* in later commands (``getfd``); ours stays open.

        :raises QmpError: QEMU refuses; a name that exists already is replaced.
        """
        from qemu.qmp import StateError

        # QEMU keeps one descriptor waiting for its getfd: a second one sent before would replace it.
        async with self._fd_lock:
            try:
                self._client.send_fd_scm(fd)
            except (OSError, StateError) as error:
                raise MonitorClosed(f"{self.name} takes no file descriptor: {error}") from error
            await self.execute("getfd", {"fdname": name})

    async def close(self) -> None:
        """End the connection; QEMU goes on and awaits the next one."""
        self._hang_up()
        if self._watcher is not None:
            await asyncio.wait({self._watcher})

    async def __aenter__(self) -> Monitor:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    def _hang_up(self) -> None:
        """Not the library's way, which first waits for QEMU to read all that was written."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # QEMU has been quicker.

    async def _watch(self) -> None:
        """Wait for the end of the connection, clean up after the library, and tell."""
        while self.connected:
            await self._client.runstate_changed()
        ending = asyncio.ensure_future(self._client.disconnect())
        await asyncio.wait({ending})
        reason = ending.exception()
        if not self.closed.done():
            self.closed.set_result("end of file" if isinstance(reason, EOFError | None) else _cause(reason))

    def _deliver(self, message: Message) -> None:
        event = _event(message)
        if event is None:
            log.warning("%s sent an event that is none: %.200s", self.name, dict(message))
            return
        for callback in self._callbacks:
            # Not called here: what it raises would end the library's reader, and with it the connection.
            self._loop.call_soon(callback, event)


def _dial(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        sock.connect(str(path))
    except BlockingIOError as error:
        sock.close()
        raise ResourceBusy(f"the monitor at '{path}' has clients waiting already") from error
    except OSError as error:
        sock.close()
        raise SystemFailure.of(error, f"cannot connect to the monitor at '{path}'") from error
    return sock


def _event(message: Message) -> Event | None:
    name, data, stamp = message.get("event"), message.get("data", {}), message.get("timestamp", {})
    if not isinstance(name, str) or not isinstance(data, Mapping) or not isinstance(stamp, Mapping):
        return None
    seconds, micros = stamp.get("seconds", 0), stamp.get("microseconds", 0)
    if not isinstance(seconds, int) or not isinstance(micros, int) or not (0 <= seconds < _LATEST > micros >= 0):
        return Event(name, data, 0.0)  # QEMU says -1 where it does not know; more than that no clock shows.
    return Event(name, data, seconds + micros / 1e6)


def _cause(error: BaseException) -> str:
    """The innermost reason in one line, with nothing of what the other side sent."""
    while error.__cause__ is not None:
        error = error.__cause__
    if isinstance(error, EOFError):
        return "end of file"
    return str(error).partition("\n")[0][:200] or type(error).__name__
