"""What happens when QEMU says that something has happened: its events, and what libvirt makes of them.

What QEMU says is not trusted: a field of a wrong type is as good as absent, and an event that makes no sense in the
present state changes nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

from virlet.engine.crash import after_crash, restart
from virlet.engine.ending import end_qemu
from virlet.engine.guest import Guest, Run
from virlet.engine.supervision.anew import given_back
from virlet.engine.supervision.helper import Helper
from virlet.engine.unplug import refused
from virlet.enums import DomainState, EventId, Lifecycle, PmSuspendedDetail
from virlet.model.lifecycle import TABLE, Action
from virlet.model.machine import PowerAction
from virlet.qmp.monitor import Event

__all__ = ["Reactions"]

log = logging.getLogger(__name__)

Data = Mapping[str, object]

_WATCHDOG = ("none", "pause", "reset", "poweroff", "shutdown", "debug", "inject-nmi")
_IO_ERROR = {"ignore": 0, "stop": 1, "report": 2}
_CONNECTED, _DISCONNECTED, _BY_CHANNEL = 1, 2, 2


class Reactions:
    """The ear of one run of a guest."""

    def __init__(self, guest: Guest, run: Run) -> None:
        self._guest = guest
        self._run = run
        self._table: Mapping[str, Callable[[Data], None]] = {
            "SHUTDOWN": self._shutdown,
            "RESET": self._reset,
            "STOP": self._stop,
            "RESUME": self._resume,
            "SUSPEND": self._suspend,
            "SUSPEND_DISK": self._suspend_disk,
            "WAKEUP": self._wakeup,
            "GUEST_PANICKED": self._panicked,
            "RTC_CHANGE": self._rtc_change,
            "WATCHDOG": self._watchdog,
            "BLOCK_IO_ERROR": self._io_error,
            "BALLOON_CHANGE": self._balloon,
            "DEVICE_DELETED": self._deleted,
            "DEVICE_UNPLUG_GUEST_ERROR": self._not_deleted,
            "DEVICE_TRAY_MOVED": self._tray,
            "VSERPORT_CHANGE": self._channel,
            "NETDEV_STREAM_CONNECTED": self._connected,
            "NETDEV_STREAM_DISCONNECTED": self._disconnected,
            # Not its counterpart: it may be heard after the connection that came next.
            "NETDEV_VHOST_USER_CONNECTED": self._connected,
        }

    def on_event(self, event: Event) -> None:
        """React; an event of a run that is over, or that nobody needs, is dropped."""
        handler = self._table.get(event.name)
        if handler is not None and self._guest.run is self._run:
            handler(event.data)

    # The guest's power

    def _shutdown(self, data: Data) -> None:
        guest, run = self._guest, self._run
        asked = data.get("guest") is True
        if run.rebooting or guest.state not in TABLE[Action.QEMU_QUIT] or guest.state is DomainState.CRASHED:
            return
        # A reset comes here only where on_reboot is not "restart" (QEMU's -no-reboot).
        reset = data.get("reason") == "guest-reset"
        if asked and not reset and run.ending is None and (run.fake_reboot or self._restarts_at_poweroff()):
            run.fake_reboot, run.rebooting = False, True
            guest.tasks.start(restart(guest, run), f"reboot of '{guest.name}'")
            return
        guest.react(Action.GUEST_POWEROFF if asked else Action.QEMU_QUIT)
        if asked:
            # QEMU stays, stopped, so that it can be asked what it was; nobody asks.
            self._end()

    def _restarts_at_poweroff(self) -> bool:
        return self._guest.domain.on_poweroff is PowerAction.RESTART

    def _end(self) -> None:
        guest, run = self._guest, self._run
        guest.context.tasks.start(end_qemu(guest, run, Action.GONE), f"end of QEMU of '{guest.name}'")

    def _panicked(self, data: Data) -> None:
        guest = self._guest
        if data.get("action") == "run" or guest.state not in TABLE[Action.GUEST_PANIC]:
            return
        guest.act(Action.GUEST_PANIC)
        after_crash(guest, self._run)

    def _reset(self, data: Data) -> None:
        self._guest.emit_other(EventId.REBOOT)

    # Its CPUs

    def _stop(self, data: Data) -> None:
        run = self._run
        if run.rebooting or run.ending is not None or self._guest.state is not DomainState.RUNNING:
            return
        why, run.why_stop = run.why_stop, Action.STOPPED
        self._guest.react(why)

    def _resume(self, data: Data) -> None:
        self._run.why_stop = Action.STOPPED
        if not self._run.rebooting and self._run.ending is None:
            self._guest.react(Action.CONTINUED)
        for helper in self._run.helpers.values():
            helper.on_resumed()

    def _suspend(self, data: Data) -> None:
        if self._guest.state is DomainState.RUNNING:
            self._guest.act(Action.GUEST_SLEEP)
            self._guest.emit_other(EventId.PMSUSPEND, reason=0)

    def _suspend_disk(self, data: Data) -> None:
        guest = self._guest
        if guest.state is DomainState.RUNNING:
            guest.move(DomainState.PMSUSPENDED, 0)
            guest.emit(Lifecycle.PMSUSPENDED, PmSuspendedDetail.DISK)
            guest.emit_other(EventId.PMSUSPEND_DISK, reason=0)

    def _wakeup(self, data: Data) -> None:
        if self._guest.state is DomainState.PMSUSPENDED:
            self._guest.act(Action.GUEST_WAKEUP)
            self._guest.emit_other(EventId.PMWAKEUP, reason=0)

    # Its devices

    def _watchdog(self, data: Data) -> None:
        action = _text(data, "action")
        if action not in _WATCHDOG:
            return
        if action == "pause":
            self._run.why_stop = Action.WATCHDOG_PAUSE
        self._guest.emit_other(EventId.WATCHDOG, action=_WATCHDOG.index(action))

    def _io_error(self, data: Data) -> None:
        action = _text(data, "action")
        if action not in _IO_ERROR:
            return
        if action == "stop":
            self._run.why_stop = Action.IO_ERROR_PAUSE
        alias, path = self._disk(data)
        said: dict[str, int | str] = {"srcPath": path, "devAlias": alias, "action": _IO_ERROR[action]}
        self._guest.emit_other(EventId.IO_ERROR, **said)
        reason = "enospc" if data.get("nospace") is True else ""
        self._guest.emit_other(EventId.IO_ERROR_REASON, **said, reason=reason)

    def _disk(self, data: Data) -> tuple[str, str]:
        """Alias and path of the disk that QEMU means: by drive, or by QOM path of its device."""
        names = {_text(data, "device").removeprefix("drive-"), *_text(data, "qom-path").split("/")}
        for disk in self._guest.domain.devices.disks:
            if disk.alias is not None and disk.alias in names:
                return disk.alias, (disk.source.file or "") if disk.source is not None else ""
        return "", ""

    def _rtc_change(self, data: Data) -> None:
        offset = data.get("offset")
        if type(offset) is int and abs(offset) < 1 << 62:
            self._guest.emit_other(EventId.RTC_CHANGE, offset=offset)

    def _balloon(self, data: Data) -> None:
        actual = data.get("actual")
        if type(actual) is int and 0 <= actual < 1 << 62:
            self._guest.balloon_kib = actual // 1024
            self._guest.emit_other(EventId.BALLOON_CHANGE, actual=actual // 1024)

    def _deleted(self, data: Data) -> None:
        alias, guest = _text(data, "device"), self._guest
        if any(nic.alias == alias for nic in guest.domain.devices.interfaces):
            guest.tasks.start(given_back(guest, self._run, alias), f"removal of {alias} of '{guest.name}'")
        elif alias:
            guest.emit_other(EventId.DEVICE_REMOVED, devAlias=alias)

    def _not_deleted(self, data: Data) -> None:
        if alias := _text(data, "device"):
            self._guest.emit_other(EventId.DEVICE_REMOVAL_FAILED, devAlias=alias)
            refused(self._guest, self._run, alias)

    def _tray(self, data: Data) -> None:
        if alias := _text(data, "id"):
            self._guest.emit_other(
                EventId.TRAY_CHANGE, devAlias=alias, reason=0 if data.get("tray-open") is True else 1
            )

    def _channel(self, data: Data) -> None:
        found = next((each for each in self._guest.domain.devices.channels if each.alias == data.get("id")), None)
        if found is None:
            return
        state = _CONNECTED if data.get("open") is True else _DISCONNECTED
        if found.is_agent:
            self._guest.emit_other(EventId.AGENT_LIFECYCLE, state=state, reason=_BY_CHANNEL)
        name = found.target_name or ""
        self._guest.emit_other(EventId.CHANNEL_LIFECYCLE, channelName=name, state=state, reason=_BY_CHANNEL)

    # Its networks

    def _helper(self, data: Data) -> Helper | None:
        netdev = data.get("netdev-id")
        return next((each for each in self._run.helpers.values() if each.record.netdev == netdev), None)

    def _connected(self, data: Data) -> None:
        if (peer := self._run.peers.get(_text(data, "netdev-id"))) is not None:
            peer.connected.set()
        if (helper := self._helper(data)) is not None:
            helper.on_connected()

    def _disconnected(self, data: Data) -> None:
        if (peer := self._run.peers.get(_text(data, "netdev-id"))) is not None:
            peer.lost = True
        if (helper := self._helper(data)) is not None:
            helper.on_disconnected()


def _text(data: Data, name: str) -> str:
    value = data.get(name)
    return value if isinstance(value, str) else ""
