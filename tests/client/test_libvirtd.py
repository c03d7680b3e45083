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
from virlet.client.transport import dial
from virlet.enums import DomainState, ListDomainsFlags, XmlFlags
from virlet.errors import NoDomain, NoSupport, OperationInvalid, VirletError, XmlDetail
from virlet.wire import remote, types
from virlet.wire.link import ClientLink
from virlet.wire.packet import Framer
from virlet.wire.procedure import AnyProcedure

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
            if not select.select([ready], [], [], 100)[0]:
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
        # Its events come from a thread of its own, after its answers if that is late.
        expected = [("one", 0), ("one", 1), ("two", 0), ("two", 1)]
        told = [events.next(30) for _ in expected]
        assert [(event.name, event.values["event"]) for event in told if event] == expected
        assert events.next(0.1) is None


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


def _answer(sock: socket.socket, link: ClientLink, procedure: AnyProcedure, args: object) -> tuple[bytes, bytes]:
    """The payload of the answer to one call, and what our codecs make of it and back."""
    sock.sendall(link.call(procedure, args).data)
    framer = Framer()
    while not (packets := framer.feed(sock.recv(1 << 16))):
        pass
    (got,) = packets
    if got.status == 0:
        return got.payload, procedure.encode_ret(procedure.decode_ret(got.payload))
    error = types.SCHEMA.codec("error")
    return got.payload, error.encode(error.decode(got.payload))


def test_what_libvirtd_sends_is_what_we_would_send(uri: str) -> None:
    """Decoding and encoding a real answer gives the same bytes: our layouts are libvirt's."""
    with sync.connect(uri) as conn:
        vm = conn.define(XML.format("bytes"))
        calls: list[tuple[AnyProcedure, object]] = [
            (remote.CONNECT_GET_TYPE, None),
            (remote.NODE_GET_INFO, None),
            (remote.NODE_GET_SECURITY_MODEL, None),
            (remote.NODE_GET_FREE_MEMORY, None),
            (remote.NODE_GET_MEMORY_STATS, remote.NodeGetMemoryStatsArgs(4, -1, 0)),
            (remote.NODE_GET_CPU_STATS, remote.NodeGetCpuStatsArgs(4, -1, 0)),
            (remote.NODE_GET_CPU_MAP, remote.NodeGetCpuMapArgs(1, 1, 0)),
            (remote.CONNECT_GET_CPU_MODEL_NAMES, remote.ConnectGetCpuModelNamesArgs("x86_64", 1, 0)),
            (remote.CONNECT_GET_ALL_DOMAIN_STATS, remote.ConnectGetAllDomainStatsArgs((), 0, 0)),
            (remote.CONNECT_LIST_ALL_DOMAINS, remote.ConnectListAllDomainsArgs(1, 0)),
            (remote.CONNECT_LIST_DEFINED_DOMAINS, remote.ConnectListDefinedDomainsArgs(100)),
            (remote.DOMAIN_LOOKUP_BY_NAME, remote.DomainLookupByNameArgs("bytes")),
            (remote.DOMAIN_LOOKUP_BY_NAME, remote.DomainLookupByNameArgs("there is an error for this")),
            (remote.DOMAIN_GET_INFO, remote.DomainGetInfoArgs(vm.ref)),
            (remote.DOMAIN_GET_STATE, remote.DomainGetStateArgs(vm.ref, 0)),
            (remote.DOMAIN_GET_XML_DESC, remote.DomainGetXmlDescArgs(vm.ref, 2)),
            (remote.DOMAIN_GET_OS_TYPE, remote.DomainGetOsTypeArgs(vm.ref)),
            (remote.DOMAIN_GET_MAX_MEMORY, remote.DomainGetMaxMemoryArgs(vm.ref)),
            (remote.DOMAIN_LIST_ALL_SNAPSHOTS, remote.DomainListAllSnapshotsArgs(vm.ref, 1, 0)),
        ]
        try:
            with dial(conn.target) as sock:
                link = ClientLink()
                _answer(sock, link, remote.CONNECT_OPEN, remote.ConnectOpenArgs(conn.target.name, 0))
                for procedure, args in calls:
                    theirs, ours = _answer(sock, link, procedure, args)
                    assert theirs == ours, procedure
        finally:
            vm.undefine()
