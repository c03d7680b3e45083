"""One conversation, held with the fake QEMU and with the real one: what the fake says, the real one says too."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from virlet.engine.probe.qemu import probe_qemu
from virlet.fake.programs import install
from virlet.proc.process import ExitStatus, Process
from virlet.proc.spawn import Command, spawn
from virlet.qmp.monitor import Event, Monitor, MonitorClosed, QmpError

REAL = shutil.which("qemu-system-x86_64")


@dataclass
class Running:
    """A QEMU and what it said."""

    process: Process
    monitor: Monitor
    net: Path
    events: list[Event]
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def names(self) -> list[str]:
        return [event.name for event in self.events]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                self.changed.clear()
                await self.changed.wait()

    async def told(self, name: str) -> Mapping[str, object]:
        """Wait for an event, and forget it and those before it."""
        await self.until(lambda: name in self.names())
        at = self.names().index(name)
        event = self.events[at]
        del self.events[: at + 1]
        return event.data


def listener(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(path))
    sock.listen(1)
    return sock


async def launch(program: Path, tmp_path: Path, *more: str) -> Running:
    paths = [tmp_path / "m", tmp_path / "n"]
    for path in paths:
        path.unlink(missing_ok=True)
    with listener(paths[0]) as monitor_socket, listener(paths[1]) as net_socket:
        fd, net = monitor_socket.fileno(), net_socket.fileno()
        netdev = {"type": "stream", "id": "hostnet0", "server": True, "addr": {"type": "fd", "str": str(net)}}
        argv = (
            str(program), "-S", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc", "-m", "32",
            "-accel", "tcg",
            "-chardev", f"socket,id=charmonitor,fd={fd},server=on,wait=off",
            "-mon", "chardev=charmonitor,id=monitor,mode=control",
            "-netdev", json.dumps(netdev),
            "-device", '{"driver":"virtio-net-pci","netdev":"hostnet0","id":"net0","mac":"52:54:00:00:00:01"}',
            "-chardev", "pty,id=charserial0",
            "-device", "isa-serial,chardev=charserial0,id=serial0",
            *more,
        )  # fmt: skip
        ours = socket.socket(socket.AF_UNIX)
        ours.connect(str(paths[0]))  # One that ends at once is heard to hang up.
        process = await spawn(Command(argv, fds=(fd, net)), "qemu")
    events: list[Event] = []
    changed = asyncio.Event()

    def note(event: Event) -> None:
        events.append(event)
        changed.set()

    try:
        monitor = await Monitor.connect(ours, name="qemu", on_event=note)
    except MonitorClosed:
        assert await process.exited() == ExitStatus(code=1)
        raise
    return Running(process, monitor, paths[1], events, changed)


@asynccontextmanager
async def running(program: Path, tmp_path: Path, *more: str) -> AsyncIterator[Running]:
    qemu = await launch(program, tmp_path, *more)
    try:
        yield qemu
    finally:
        await qemu.monitor.close()
        if qemu.process.running:
            qemu.process.signal(9)
            await qemu.process.exited()


@pytest.fixture(params=["fake", "real"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    if request.param == "fake":
        return install(tmp_path / "qemu", "qemu")
    if REAL is None:
        pytest.skip("no real QEMU here")
    return Path(REAL)


async def test_it_starts_stopped_and_runs_and_stops(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        status = await qemu.monitor.execute("query-status")
        assert isinstance(status, dict)
        assert (status["status"], status["running"]) == ("prelaunch", False)
        assert await qemu.monitor.execute("cont") == {}
        await qemu.told("RESUME")
        assert await qemu.monitor.execute("stop") == {}
        await qemu.told("STOP")
        status = await qemu.monitor.execute("query-status")
        assert isinstance(status, dict)
        assert status["status"] == "paused"


async def test_a_network_peer_comes_and_goes_and_comes_again(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        for _ in range(3):
            with socket.socket(socket.AF_UNIX) as peer:
                peer.connect(str(qemu.net))
                assert (await qemu.told("NETDEV_STREAM_CONNECTED"))["netdev-id"] == "hostnet0"
            assert await qemu.told("NETDEV_STREAM_DISCONNECTED") == {"netdev-id": "hostnet0"}


async def frames(peer: socket.socket) -> AsyncIterator[bytes]:
    """What comes from a stream netdev, each behind its length."""
    data = b""
    while True:
        while len(data) >= 4 and len(data) >= (end := 4 + int.from_bytes(data[:4], "big")):
            yield data[4:end]
            data = data[end:]
        more = await asyncio.get_running_loop().sock_recv(peer, 65_536)
        assert more, "it has hung up"
        data += more


async def test_it_announces_itself_to_its_peer(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(qemu.net))
            await qemu.told("NETDEV_STREAM_CONNECTED")
            await qemu.monitor.execute("cont")
            await qemu.monitor.execute("announce-self", {"initial": 5, "max": 50, "rounds": 1, "step": 10})
            peer.setblocking(False)
            async for frame in frames(peer):  # The real one's firmware may have had the time to ask for an address.
                if frame[12:14] == b"\x80\x35":
                    break


async def dialled(peer: socket.socket, path: Path, monitor: Monitor) -> None:
    """Connect to a path that the real one binds in a thread of its own, soon after it has answered."""
    async with asyncio.timeout(30):
        while True:
            try:
                peer.connect(str(path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                await monitor.execute("query-status")


async def test_an_interface_is_plugged_and_unplugged(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        path = tmp_path / "n1"
        address = {"type": "unix", "path": str(path)}
        await qemu.monitor.execute("netdev_add", {"type": "stream", "id": "hostnet1", "server": True, "addr": address})
        with pytest.raises(QmpError, match="hostnet1"):
            await qemu.monitor.execute("netdev_add", {"type": "user", "id": "hostnet1"})
        with socket.socket(socket.AF_UNIX) as peer:
            await dialled(peer, path, qemu.monitor)
            assert (await qemu.told("NETDEV_STREAM_CONNECTED"))["netdev-id"] == "hostnet1"
        await qemu.told("NETDEV_STREAM_DISCONNECTED")
        await qemu.monitor.execute("netdev_del", {"id": "hostnet1"})
        with pytest.raises(QmpError) as caught:
            await qemu.monitor.execute("netdev_del", {"id": "hostnet1"})
        assert caught.value.error_class == "DeviceNotFound"


async def test_a_listener_named_by_getfd_is_accepted_and_never_works(program: Path, tmp_path: Path) -> None:
    """The reason why a hot-plugged stream is given a path: see :func:`virlet.fake.netdevs.stream_socket`."""
    async with running(program, tmp_path) as qemu:
        path = tmp_path / "n1"
        with listener(path) as sock:
            await qemu.monitor.send_fd("net1", sock.fileno())
        address = {"type": "fd", "str": "net1"}
        await qemu.monitor.execute("netdev_add", {"type": "stream", "id": "hostnet1", "server": True, "addr": address})
        with socket.socket(socket.AF_UNIX) as peer:
            peer.connect(str(path))
            await qemu.monitor.execute("query-status")
            assert qemu.events == []


async def test_a_descriptor_is_kept_under_its_name_until_it_is_closed(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        read, write = os.pipe()
        await qemu.monitor.send_fd("pipe", write)
        os.close(write)
        await qemu.monitor.execute("closefd", {"fdname": "pipe"})
        assert os.read(read, 1) == b""
        with pytest.raises(QmpError, match="pipe"):
            await qemu.monitor.execute("closefd", {"fdname": "pipe"})
        os.close(read)


async def test_links_devices_and_unknown_commands(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        await qemu.monitor.execute("set_link", {"name": "net0", "up": False})
        for command, arguments in [("set_link", {"name": "x", "up": True}), ("device_del", {"id": "x"})]:
            with pytest.raises(QmpError) as caught:
                await qemu.monitor.execute(command, arguments)
            assert caught.value.error_class == "DeviceNotFound"
        with pytest.raises(QmpError) as caught:
            await qemu.monitor.execute("nonesuch")
        assert caught.value.error_class == "CommandNotFound"
        assert caught.value.description == "The command nonesuch has not been found"
        with pytest.raises(QmpError):
            await qemu.monitor.execute("getfd", {"fdname": "none"})
        devices = await qemu.monitor.execute("qom-list", {"path": "/machine/peripheral"})
        assert isinstance(devices, list)
        assert "net0" in {each["name"] for each in devices}


async def test_its_serial_console_is_a_terminal(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        answer = await qemu.monitor.execute("query-chardev")
        assert isinstance(answer, list)
        (serial,) = (each["filename"] for each in answer if each["label"] == "charserial0")
        assert serial.startswith("pty:/dev/pts/")
        os.close(os.open(serial.removeprefix("pty:"), os.O_RDWR | os.O_NOCTTY))


async def test_a_reset_is_told(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        await qemu.monitor.execute("cont")
        await qemu.monitor.execute("system_reset")
        assert await qemu.told("RESET") == {"guest": False, "reason": "host-qmp-system-reset"}


async def test_the_power_button_is_told(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        await qemu.monitor.execute("cont")
        await qemu.monitor.execute("system_powerdown")
        await qemu.told("POWERDOWN")


@pytest.mark.parametrize(("way", "reason"), [("quit", "host-qmp-quit"), ("SIGTERM", "host-signal")])
async def test_it_ends_when_told_to_and_says_why(program: Path, tmp_path: Path, way: str, reason: str) -> None:
    async with running(program, tmp_path) as qemu:
        if way == "quit":
            assert await qemu.monitor.execute("quit") == {}
        else:
            qemu.process.signal(15)
        assert await qemu.told("SHUTDOWN") == {"guest": False, "reason": reason}
        assert await qemu.process.exited() == ExitStatus(code=0)
        assert await qemu.monitor.closed == "end of file"


async def test_another_monitor_may_come_after_the_first_has_gone(program: Path, tmp_path: Path) -> None:
    async with running(program, tmp_path) as qemu:
        await qemu.monitor.close()
        async with await Monitor.connect(tmp_path / "m", name="again") as monitor:
            assert await monitor.execute("query-status")


async def test_a_fake_guest_that_obeys_the_power_button_ends(tmp_path: Path) -> None:
    async with running(install(tmp_path / "qemu", "qemu"), tmp_path) as qemu:
        await qemu.monitor.execute("cont")
        await qemu.monitor.execute("system_powerdown")
        await qemu.told("POWERDOWN")
        assert await qemu.told("SHUTDOWN") == {"guest": True, "reason": "guest-shutdown"}
        assert await qemu.process.exited() == ExitStatus(code=0)


async def test_a_fake_can_be_told_to_misbehave(tmp_path: Path) -> None:
    behaviour = {"sigterm": "ignore", "powerdown": "ignore", "unplug": "refuse", "fail": {"stop": "no"}}
    async with running(install(tmp_path / "qemu", "qemu", behaviour), tmp_path) as qemu:
        qemu.process.signal(15)
        with pytest.raises(QmpError, match="unable to execute QEMU command 'stop': no"):
            await qemu.monitor.execute("stop")
        await qemu.monitor.execute("device_del", {"id": "net0"})
        await qemu.told("DEVICE_UNPLUG_GUEST_ERROR")
        await qemu.monitor.execute("system_powerdown")
        assert await qemu.process.terminate(0.01) == ExitStatus(signal=9)


async def test_a_fake_that_refuses_its_command_line_never_greets(tmp_path: Path) -> None:
    with pytest.raises(MonitorClosed):
        await launch(install(tmp_path / "qemu", "qemu", {"refuse": "bad option"}), tmp_path)


async def test_the_newer_form_of_the_monitor_is_understood(tmp_path: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        words = ("-chardev", f"socket,id=c,fd={theirs.fileno()}", "-object", '{"qom-type":"monitor-qmp","chardev":"c"}')
        command = Command((str(install(tmp_path / "qemu", "qemu")), *words), fds=(theirs.fileno(),))
        process = await spawn(command, "fake")
    async with await Monitor.connect(ours, name="fake") as monitor:
        status = await monitor.execute("query-status")
        assert isinstance(status, dict)
        assert status["status"] == "running"
        await monitor.execute("quit")
    await process.exited()


async def test_the_fake_can_be_probed(tmp_path: Path) -> None:
    facts = await probe_qemu(install(tmp_path / "qemu", "qemu"))
    assert facts.arch == "x86_64"
    assert facts.stream
    assert facts.sandbox
    assert facts.default_machine is not None
    assert facts.default_machine.alias == "pc"
    assert facts.has_device("virtio-net-pci")
    assert "server" in facts.chardevs["socket"]
    assert "memory-backend-memfd" in facts.objects
    assert "qcow2" in facts.blockdevs
    if REAL is not None:
        real = await probe_qemu(Path(REAL))
        assert facts.devices <= real.devices
        assert facts.objects <= real.objects
        assert facts.commands <= real.commands
        # It plays vhost-user as QEMU 10 does, for helpers that QEMU dials.
        assert {each for each in facts.events if "VHOST_USER" not in each} <= real.events
        older = {name: each for name, each in facts.netdevs.items() if name != "passt"}  # see test_own_passt.py
        assert all(members <= real.netdevs[name] for name, members in older.items())
