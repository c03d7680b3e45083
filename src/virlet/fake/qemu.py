"""A QEMU that runs no guest: the command line and the monitor of the real one, in 20 ms and 10 MB.

For thousands of cycles of an engine.  It speaks QMP on the chardev that ``-mon`` or ``-object monitor-qmp`` names,
opens pseudo-terminals, listens with ``-netdev stream`` and reports its peers, runs the passt of ``-netdev passt``, and
obeys what stops a real one.  What it should do wrong is said in JSON in ``$VIRLET_FAKE_QEMU``, see :data:`DEFAULTS`.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

from virlet.fake import qemu_answers
from virlet.fake.command_line import fields_of, options_of
from virlet.fake.netdevs import Backend, Dialler, backend_of, network_of
from virlet.fake.qmp_server import CommandError, QmpServer, watcher

__all__ = ["DEFAULTS", "FakeQemu", "main"]

DEFAULTS: Mapping[str, object] = {
    "refuse": "",  # Say this and exit 1 at once, as for a bad command line.
    "fail": {},  # Command → description: that command is refused.
    "lie": {},  # Command → what it answers instead of the truth, any JSON; it is obeyed all the same.
    "cry": [],  # (name, data) of events that it tells after "cont", any JSON.
    "powerdown": "obey",  # What the guest does when the power button is pressed: obey or ignore.
    "unplug": "obey",  # A device is to be taken away: obey, second (obeys when asked again), ignore or refuse.
    "sigterm": "obey",  # obey or ignore.
    "passt": "again",  # Its own passt has ended: again (it starts another one) or never.
    "links": "",  # "say": what becomes of a network card's link is said on standard output.
}


def _pairs(value: object) -> Iterator[tuple[Any, Any]]:
    """Events to be told; nothing about them need be true, or of a right type."""
    if isinstance(value, list):
        yield from ((name, data) for name, data in value)


class _Stop(Exception):
    """The process ends with exit status 0."""


class FakeQemu:
    """The machine and its monitor."""

    def __init__(self, argv: Sequence[str], behaviour: Mapping[str, object]) -> None:
        self.behaviour = {**DEFAULTS, **behaviour}
        self._selector = selectors.DefaultSelector()
        self.watch = watcher(self._selector)
        self._options = options_of(argv)
        self._chardevs: dict[str, dict[str, str]] = {}
        self._netdevs: dict[str, Backend] = {}
        self._diallers: dict[str, Dialler] = {}
        self._devices: dict[str, str] = {}
        self._named: dict[str, int] = {}
        self._status = "prelaunch" if ("-S", "") in self._options else "running"
        self._monitor: QmpServer | None = None
        self._later: list[Callable[[], None]] = []
        """What a command brings about once it has been answered, as the real one's main loop does."""
        self._build()

    def _build(self) -> None:
        for option, value in self._options:
            if option == "-chardev":
                self._chardev(fields_of(value))
            elif option == "-netdev":
                self._netdev_add(json.loads(value) if value.startswith("{") else dict(fields_of(value)))
            elif option == "-device":
                self._device_add(fields_of(value))
        for option, value in self._options:
            fields = fields_of(value) if option in ("-mon", "-object") else {}
            if option == "-mon" or fields.get("qom-type") == "monitor-qmp":
                fd = int(self._chardevs[fields["chardev"]]["fd"])
                self._monitor = QmpServer(socket.socket(fileno=fd), self.watch, self._command)

    def _chardev(self, fields: dict[str, str]) -> None:
        if fields["type"] == "pty":
            master, slave = os.openpty()
            fields["path"] = os.ttyname(slave)  # The slave stays open: the real one waits for its user as well.
            self.watch(master, lambda: self._echo(master))
        self._chardevs[fields["id"]] = fields
        if "reconnect-ms" in fields:
            self._diallers[fields["id"]] = Dialler(self, fields["id"], fields["path"], int(fields["reconnect-ms"]))

    def _echo(self, master: int) -> None:
        """The guest on a serial console: it gives back what it is told."""
        os.write(master, os.read(master, 4096))

    def event(self, name: str, data: Mapping[str, object] | None = None) -> None:
        """Tell the monitor's client."""
        if self._monitor is not None:
            self._monitor.event(name, data)

    def run(self) -> None:
        """Serve until something ends it."""
        wake, wakeup = socket.socketpair()
        for end in (wake, wakeup):
            end.setblocking(False)
        signal.set_wakeup_fd(wakeup.fileno())
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2, signal.SIGPWR):
            signal.signal(number, lambda *_: None)
        self.watch(wake.fileno(), lambda: self._signalled(wake))
        try:
            while True:
                ticks = [tick for each in self._diallers.values() if (tick := each.tick()) is not None]
                for key, _ in self._selector.select(min(ticks, default=None)):
                    if key.fd in self._selector.get_map():  # The one before may have closed it.
                        key.data()
                    while self._later:
                        self._later.pop(0)()
        except _Stop:
            return

    def _signalled(self, wake: socket.socket) -> None:
        """SIGTERM ends it; at SIGUSR1 its guest panics, at SIGUSR2 it reboots, at SIGPWR it powers off."""
        for number in wake.recv(100):
            if number == signal.SIGUSR1:
                self._panic()
            elif number == signal.SIGUSR2:
                self._reboot()
            elif number == signal.SIGPWR:
                self._power_off()
            elif self.behaviour["sigterm"] == "obey":
                self._end("host-signal")

    def _panic(self) -> None:
        self.event("GUEST_PANICKED", {"action": "pause"})
        self._status = "guest-panicked"
        self.event("STOP")

    def _reboot(self) -> None:
        if ("-no-reboot", "") in self._options:
            self.event("SHUTDOWN", {"guest": True, "reason": "guest-reset"})
            self._status = "shutdown"
            self.event("STOP")
        else:
            self.event("RESET", {"guest": True, "reason": "guest-reset"})

    def _dump(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["protocol"]).removeprefix("fd:")
        if name not in self._named:
            raise CommandError(f"File descriptor named '{name}' not found")
        with open(self._named.pop(name), "wb") as file:
            file.write(b"\x7fELF of a guest that is not there")
        return {}

    def _end(self, reason: str) -> None:
        self.event("SHUTDOWN", {"guest": reason.startswith("guest"), "reason": reason})
        for backend in self._netdevs.values():
            backend.quit()
        raise _Stop

    def _command(self, name: str, arguments: Mapping[str, object]) -> object:
        failures = self.behaviour["fail"]
        if isinstance(failures, dict) and name in failures:
            raise CommandError(str(failures[name]))
        handler = _COMMANDS.get(name)
        if handler is None:
            raise CommandError(f"The command {name} has not been found", "CommandNotFound")
        truth = handler(self, arguments)
        if name == "cont":
            for event, data in _pairs(self.behaviour["cry"]):
                self._later.append(partial(self.event, event, data))
        lies = self.behaviour["lie"]
        return lies[name] if isinstance(lies, dict) and name in lies else truth

    def _query_status(self, arguments: Mapping[str, object]) -> object:
        return {"status": self._status, "singlestep": False, "running": self._status == "running"}

    def _query_chardev(self, arguments: Mapping[str, object]) -> object:
        return [
            {
                "label": name,
                "filename": f"pty:{each['path']}" if each["type"] == "pty" else each["type"],
                "frontend-open": True,
            }
            for name, each in self._chardevs.items()
        ]

    def _query_commands(self, arguments: Mapping[str, object]) -> object:
        return [{"name": name} for name in _COMMANDS]

    def _cont(self, arguments: Mapping[str, object]) -> object:
        if self._status in ("shutdown", "guest-panicked"):
            raise CommandError("Resetting the Virtual Machine is required")
        if self._status != "running":
            self._status = "running"
            self.event("RESUME")
        return {}

    def _stop(self, arguments: Mapping[str, object]) -> object:
        if self._status == "running":
            self._status = "paused"
            self.event("STOP")
        return {}

    def _system_reset(self, arguments: Mapping[str, object]) -> object:
        if self._status in ("shutdown", "guest-panicked"):
            self._status = "prelaunch"
        self._later.append(lambda: self.event("RESET", {"guest": False, "reason": "host-qmp-system-reset"}))
        return {}

    def _system_powerdown(self, arguments: Mapping[str, object]) -> object:
        self._later.append(self._press)
        return {}

    def _press(self) -> None:
        self.event("POWERDOWN")
        if self.behaviour["powerdown"] == "obey":
            self._power_off()

    def _power_off(self) -> None:
        if self._status == "running" and ("-no-shutdown", "") in self._options:
            self.event("SHUTDOWN", {"guest": True, "reason": "guest-shutdown"})
            self._status = "shutdown"
            self.event("STOP")
        elif self._status == "running":
            self._end("guest-shutdown")

    def _quit(self, arguments: Mapping[str, object]) -> object:
        self._later.append(lambda: self._end("host-qmp-quit"))
        return {}

    def _getfd(self, arguments: Mapping[str, object]) -> object:
        assert self._monitor is not None
        if not self._monitor.fds:
            raise CommandError("No file descriptor supplied via SCM_RIGHTS")
        name = str(arguments["fdname"])
        if name in self._named:
            os.close(self._named.pop(name))
        self._named[name] = self._monitor.fds.pop(0)
        return {}

    def _closefd(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["fdname"])
        if name not in self._named:
            raise CommandError(f"File descriptor named '{name}' not found")
        os.close(self._named.pop(name))
        return {}

    def _netdev_add(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["id"])
        if name in self._netdevs:
            raise CommandError(f"Duplicate ID '{name}' for netdev")
        self._netdevs[name] = backend_of(self, name, arguments, self._netdevs)
        if (dialler := self._diallers.get(str(arguments.get("chardev")))) is not None:
            dialler.netdev = name
            dialler.tell()
        return {}

    def _chardev_add(self, arguments: Mapping[str, object]) -> object:
        match arguments:
            case {"id": str(name), "backend": {"type": "socket", "data": {"addr": addr, **data}}}:
                path = addr["data"]["path"]
                more = {"reconnect-ms": str(data["reconnect-ms"])} if "reconnect-ms" in data else {}
                self._chardev({"id": name, "type": "socket", "path": path, **more})
                return {}
        raise CommandError("the fake QEMU adds socket chardevs only")

    def _chardev_remove(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["id"])
        if self._chardevs.pop(name, None) is None:
            raise CommandError(f"Chardev '{name}' not found")
        dialler = self._diallers.pop(name, None)
        if dialler is not None:
            dialler.close()
        return {}

    def _netdev_del(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["id"])
        if name not in self._netdevs:
            raise CommandError(f"Device '{name}' not found", "DeviceNotFound")
        self._netdevs.pop(name).close()
        for dialler in self._diallers.values():
            dialler.netdev = "" if dialler.netdev == name else dialler.netdev
        return {}

    def _device_add(self, arguments: Mapping[str, object]) -> object:
        name, netdev = str(arguments.get("id", "")), arguments.get("netdev")
        if name in self._devices:
            raise CommandError(f"Duplicate device ID '{name}'")
        if netdev is not None and netdev not in self._netdevs:
            raise CommandError(f"Property '{arguments.get('driver')}.netdev' can't find value '{netdev}'")
        if name:
            self._devices[name] = str(arguments.get("driver"))
            if netdev is not None:
                self._say_link(name, "up")
        return {}

    def _device_del(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["id"])
        if name not in self._devices:
            raise CommandError(f"Device '{name}' not found", "DeviceNotFound")
        path = f"/machine/peripheral/{name}"
        if self.behaviour["unplug"] == "second":
            self.behaviour["unplug"] = "obey"
        elif self.behaviour["unplug"] == "obey":
            del self._devices[name]
            self._later.append(lambda: self.event("DEVICE_DELETED", {"device": name, "path": path}))
        elif self.behaviour["unplug"] == "refuse":
            self._later.append(lambda: self.event("DEVICE_UNPLUG_GUEST_ERROR", {"device": name, "path": path}))
        return {}

    def _set_link(self, arguments: Mapping[str, object]) -> object:
        name = str(arguments["name"])
        if name not in self._devices and name not in self._netdevs:
            raise CommandError(f"Device '{name}' not found", "DeviceNotFound")
        self._say_link(name, "up" if arguments["up"] is True else "down")
        return {}

    def _say_link(self, name: str, state: str) -> None:
        if self.behaviour["links"] == "say":
            print(f"fake-qemu: link of {name}: {state}", flush=True)

    def _announce_self(self, arguments: Mapping[str, object]) -> object:
        for backend in self._netdevs.values():
            backend.announce()
        return {}

    def _human(self, arguments: Mapping[str, object]) -> object:
        line = str(arguments["command-line"])
        return network_of(self._netdevs) if line == "info network" else f"unknown command: '{line}'\r\n"

    def _qom_list(self, arguments: Mapping[str, object]) -> object:
        if arguments.get("path") != "/machine/peripheral":
            return []
        return [{"name": name, "type": f"child<{driver}>"} for name, driver in self._devices.items()]


def _same(answer: object) -> Callable[[FakeQemu, Mapping[str, object]], object]:
    return lambda machine, arguments: answer


_COMMANDS: dict[str, Callable[[FakeQemu, Mapping[str, object]], object]] = {
    "announce-self": FakeQemu._announce_self,
    "chardev-add": FakeQemu._chardev_add,
    "chardev-remove": FakeQemu._chardev_remove,
    "closefd": FakeQemu._closefd,
    "cont": FakeQemu._cont,
    "device_add": FakeQemu._device_add,
    "device_del": FakeQemu._device_del,
    "dump-guest-memory": FakeQemu._dump,
    "getfd": FakeQemu._getfd,
    "human-monitor-command": FakeQemu._human,
    "netdev_add": FakeQemu._netdev_add,
    "netdev_del": FakeQemu._netdev_del,
    "qom-list": FakeQemu._qom_list,
    "qom-list-types": lambda machine, arguments: qemu_answers.types(arguments),
    "query-chardev": FakeQemu._query_chardev,
    "query-commands": FakeQemu._query_commands,
    "query-kvm": _same({"enabled": False, "present": False}),
    "query-command-line-options": _same(qemu_answers.OPTIONS),
    "query-cpu-definitions": _same(qemu_answers.CPUS),
    "query-machines": _same(qemu_answers.MACHINES),
    "query-qmp-schema": lambda machine, arguments: qemu_answers.schema(_COMMANDS),
    "query-target": _same({"arch": "x86_64"}),
    "query-status": FakeQemu._query_status,
    "query-version": _same({"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": "fake"}),
    "query-vnc-servers": _same([]),
    "quit": FakeQemu._quit,
    "set_link": FakeQemu._set_link,
    "stop": FakeQemu._stop,
    "system_powerdown": FakeQemu._system_powerdown,
    "system_reset": FakeQemu._system_reset,
}


def main(argv: Sequence[str] | None = None, behaviour: Mapping[str, object] | None = None) -> int:
    """Be a QEMU; returns its exit status."""
    wanted = {**(behaviour or {}), **json.loads(os.environ.get("VIRLET_FAKE_QEMU", "{}"))}
    if refusal := wanted.get("refuse"):
        print(f"fake-qemu: {refusal}", file=sys.stderr)
        return 1
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):  # That of the listing.
            os.set_inheritable(int(name), int(name) < 3)  # What we were given is not our passt's.
    FakeQemu(sys.argv[1:] if argv is None else argv, wanted).run()
    return 0


if __name__ == "__main__":
    sys.exit(main())
