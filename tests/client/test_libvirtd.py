"""The client against a real libvirtd, as an ordinary user."""

from __future__ import annotations

import asyncio
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from virlet.client import aio, sync
from virlet.enums import DomainState, ListDomainsFlags, XmlFlags
from virlet.errors import NoDomain, NoSupport, OperationInvalid, VirletError, XmlDetail

LIBVIRTD = shutil.which("libvirtd", path="/usr/sbin:/usr/bin:/sbin:/bin")
EMULATOR = shutil.which(f"qemu-system-{os.uname().machine}")
XML = "<domain type='qemu'><name>{}</name><memory unit='KiB'>65536</memory><os><type>hvm</type></os></domain>"

REAPER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)  # PR_SET_CHILD_SUBREAPER
daemon = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
signal.signal(signal.SIGTERM, lambda *_: os.kill(daemon, signal.SIGTERM))
while os.waitpid(-1, 0)[0] != daemon:
    pass
"""
"""libvirtd waits for the QEMU it has probed to be reaped by somebody, and its parent here reaps nothing."""

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.skipif(LIBVIRTD is None or EMULATOR is None, reason="libvirtd and QEMU are not installed"),
    pytest.mark.skipif(os.getuid() == 0, reason="a session daemon belongs to an ordinary user"),
]


@pytest.fixture(scope="module")
def uri() -> Iterator[str]:
    """A libvirtd of our own; it tells us that it is ready as it would tell systemd."""
    # Not pytest's directory: its long name would not leave room for the names of sockets.
    with tempfile.TemporaryDirectory(prefix="vt") as name, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ready:
        folder = Path(name)
        ready.bind(str(folder / "notify"))
        env = {**os.environ, "HOME": name, "NOTIFY_SOCKET": str(folder / "notify")}
        for kind in ("RUNTIME_DIR", "CONFIG_HOME", "CACHE_HOME", "DATA_HOME"):
            (folder / kind).mkdir(mode=0o700)
            env[f"XDG_{kind}"] = str(folder / kind)
        # libvirtd asks every emulator in PATH what it can do, which takes seconds for each: one is enough.
        (folder / "bin").mkdir()
        (folder / "bin" / Path(str(EMULATOR)).name).symlink_to(str(EMULATOR))
        env["PATH"] = str(folder / "bin")
        with (folder / "log").open("wb") as log:
            command = [sys.executable, "-c", REAPER, str(LIBVIRTD), "--timeout=30"]
            daemon = subprocess.Popen(command, env=env, stdout=log, stderr=log)
        try:
            if not select.select([ready], [], [], 30)[0]:
                pytest.fail((folder / "log").read_text())
            yield f"qemu:///session?socket={folder}/RUNTIME_DIR/libvirt/libvirt-sock"
        finally:
            daemon.terminate()
            daemon.wait(30)


def test_a_definition_comes_and_goes(uri: str) -> None:
    with sync.connect(uri) as conn, conn.events(["lifecycle"]) as events:
        assert conn.driver_type() == "QEMU"
        assert conn.uri() == "qemu:///session"
        assert conn.lib_version() > 1_000_000
        assert conn.hostname()
        assert conn.node_info().cpus == os.cpu_count()
        assert "<capabilities>" in conn.capabilities()
        vm = conn.define(XML.format("one"))
        assert "one" in [domain.name for domain in conn.domains(ListDomainsFlags.INACTIVE)]
        assert "<name>one</name>" in vm.xml(XmlFlags.INACTIVE)
        assert vm.state().state is DomainState.SHUTOFF
        assert vm.info().max_memory == 65536
        assert (vm.is_active(), vm.is_persistent(), vm.autostart(), vm.id()) == (False, True, False, None)
        vm.set_metadata(1, "A title")
        assert vm.metadata(1) == "A title"
        vm.rename("two")
        assert conn.lookup_by_uuid(vm.uuid).name == "two"
        with pytest.raises(OperationInvalid, match="domain is not running"):
            vm.suspend()
        vm.undefine()
        with pytest.raises(NoDomain) as caught:
            conn.lookup_by_name("two")
        assert (int(caught.value.code), int(caught.value.domain)) == (42, 10)
        seen = [(event.name, event.values["event"]) for event in iter(lambda: events.next(0.5), None)]
        assert seen == [("one", 0), ("one", 1), ("two", 0), ("two", 1)]


def test_bad_xml_is_libvirts_error(uri: str) -> None:
    with sync.connect(uri) as conn, pytest.raises(XmlDetail, match="line 1"):
        conn.define("<domain")


def test_what_only_virletd_can_do_is_said(uri: str) -> None:
    with sync.connect(uri) as conn:
        for ask in (conn.doctor, conn.server_version, lambda: conn.compat("status")):
            with pytest.raises(NoSupport, match="virlet:///session"):
                ask()
        with conn.events() as events:
            assert events.next(0) is None


def test_a_readonly_connection_may_not_define(uri: str) -> None:
    with sync.connect(uri, readonly=True) as conn, pytest.raises(VirletError, match="read only"):
        conn.define(XML.format("one"))


async def test_many_calls_at_once_and_keepalive(uri: str) -> None:
    async with await aio.connect(uri, keepalive=(5, 5)) as conn:
        vm = await conn.define(XML.format("async"))
        states = await asyncio.gather(*(vm.state() for _ in range(50)))
        assert {one.state for one in states} == {DomainState.SHUTOFF}
        await vm.undefine()
