"""Real virsh against a server of ours with the driver in memory."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
from contextlib import ExitStack

import pytest

pytestmark = pytest.mark.skipif(shutil.which("virsh") is None, reason="virsh is not installed")

XML = "<domain type='qemu'><name>{name}</name><title>The {name}</title></domain>"


@pytest.fixture
def begin(socket_path, tmp_path):
    async def process(*args, output=asyncio.subprocess.PIPE):
        return await asyncio.create_subprocess_exec(
            "virsh", "-c", f"qemu+unix:///session?socket={socket_path}", *args,
            stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=asyncio.subprocess.STDOUT,
            env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )  # fmt: skip

    return process


@pytest.fixture
def virsh(begin, tmp_path):
    (tmp_path / "a.xml").write_text(XML.format(name="a"))

    async def run(*args, fails=False):
        process = await begin(*args)
        out = (await asyncio.wait_for(process.communicate(), 30))[0].decode()
        assert (process.returncode != 0) is fails, out
        return out

    return run


async def test_a_life(virsh, tmp_path):
    assert "Using API: QEMU 9.0.0\nRunning hypervisor: QEMU 7.2.0" in await virsh("version")
    await virsh("define", str(tmp_path / "a.xml"))
    await virsh("autostart", "a")
    await virsh("start", "a")
    assert "a      running   The a" in await virsh("list", "--all", "--title")
    assert (await virsh("domstate", "--reason", "a")).strip() == "running (booted)"
    info = await virsh("dominfo", "a")
    assert "Id:             1\n" in info
    assert "Autostart:      enable\n" in info
    assert "Security model: none\n" in info
    await virsh("suspend", "a")
    await virsh("resume", "a")
    assert (await virsh("domid", "a")).strip() == "1"
    uuid = (await virsh("domuuid", "a")).strip()
    assert (await virsh("domname", uuid)).strip() == "a"
    assert (await virsh("domcontrol", "a")).strip() == "ok"
    assert (await virsh("dumpxml", "a")).strip() == XML.format(name="a")
    await virsh("destroy", "--graceful", "a")
    await virsh("undefine", "a")
    assert "failed to get domain 'a'" in await virsh("domstate", "a", fails=True)


async def test_the_host(virsh):
    assert (await virsh("hostname")).strip() == "here"
    assert "Memory size:         2097152 KiB" in await virsh("nodeinfo")
    assert "total  :" in await virsh("nodememstats")
    assert "idle:" in await virsh("nodecpustats")
    assert "CPUs present:" in await virsh("nodecpumap")
    assert "<host/>" in await virsh("capabilities")
    for command in ("net-list", "pool-list", "iface-list", "nodedev-list", "nwfilter-list", "secret-list"):
        await virsh(command)


async def test_errors_in_its_words(virsh, tmp_path):
    said = await virsh("-r", "define", str(tmp_path / "a.xml"), fails=True)
    assert "operation forbidden: read only access prevents virDomainDefineXML" in said
    await virsh("define", str(tmp_path / "a.xml"))
    assert "Requested operation is not valid: domain is not running" in await virsh("suspend", "a", fails=True)
    assert "not supported by the connection driver: virDomainQemuMonitorCommand" in await virsh(
        "qemu-monitor-command", "a", "{}", fails=True
    )


async def test_events_are_seen_in_order(begin, virsh, tmp_path, server):
    screen, near = os.openpty()  # At a terminal it prints each line at once.
    watching = await begin("event", "--all", "--loop", output=near)
    os.close(near)
    with ExitStack() as stack:
        stack.callback(os.close, screen)
        while not server.hub._wishes:  # noqa: ASYNC110  virsh has no other sign that it waits
            await asyncio.sleep(0.01)
        await virsh("define", str(tmp_path / "a.xml"))
        await virsh("start", "a")
        await virsh("destroy", "a")
        seen = b""
        while b"Stopped" not in seen or not seen.endswith(b"\n"):
            seen += await asyncio.to_thread(os.read, screen, 65_536)
        watching.send_signal(signal.SIGINT)
        assert await watching.wait() == 0
    assert [line for line in seen.decode().splitlines() if line.startswith("event '")] == [
        "event 'lifecycle' for domain 'a': Defined Added",
        "event 'lifecycle' for domain 'a': Resumed Unpaused",
        "event 'lifecycle' for domain 'a': Started Booted",
        "event 'lifecycle' for domain 'a': Stopped Destroyed",
    ]
