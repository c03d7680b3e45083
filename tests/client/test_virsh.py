"""The real virsh against our ends of the wire: what it sends we read, what we send it reads."""

from __future__ import annotations

import asyncio
import shutil
from typing import TYPE_CHECKING

import pytest

from virlet.errors import OperationFailed
from virlet.wire import remote, types

if TYPE_CHECKING:
    from tests.client.conftest import TinyServer

VIRSH = shutil.which("virsh")
DOM = types.Domain("web", bytes(range(16)), 7)

pytestmark = [pytest.mark.e2e, pytest.mark.skipif(VIRSH is None, reason="virsh is not installed")]


async def virsh(server: TinyServer, commands: str) -> tuple[int, str, str]:
    uri = f"qemu+unix:///session?socket={server.path}"
    running = await asyncio.create_subprocess_exec(
        str(VIRSH), "-q", "-c", uri, commands, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(running.communicate(), 30)
    assert running.returncode is not None
    return running.returncode, out.decode(), err.decode()


async def test_virsh_reads_our_replies_and_we_read_its_calls(server: TinyServer) -> None:
    replies = {
        remote.CONNECT_SUPPORTS_FEATURE: remote.ConnectSupportsFeatureRet(1),
        remote.CONNECT_GET_HOSTNAME: remote.ConnectGetHostnameRet("högar"),
        remote.CONNECT_LIST_ALL_DOMAINS: remote.ConnectListAllDomainsRet((DOM,), 1),
        remote.NODE_GET_INFO: remote.NodeGetInfoRet(b"x86_64", 1024, 8, 2500, 1, 2, 4, 1),
        remote.DOMAIN_LOOKUP_BY_NAME: remote.DomainLookupByNameRet(DOM),
        remote.DOMAIN_GET_STATE: remote.DomainGetStateRet(1, 1),
        remote.DOMAIN_GET_XML_DESC: remote.DomainGetXmlDescRet("<domain/>"),
    }
    for procedure in replies:
        server.answers[procedure] = lambda peer, call: peer.link.reply(call, replies[call.procedure])
    code, out, err = await virsh(server, "hostname; list --all; nodeinfo; domstate web --reason; dumpxml web")
    assert (code, err) == (0, "")
    for words in ("högar", " 7   web   running", "x86_64", "2500 MHz", "running (booted)", "<domain/>"):
        assert words in out
    assert len(server.calls) > 10
    for call in server.calls:
        args = call.procedure.decode_args(call.payload)
        assert call.procedure.encode_args(args) == call.payload, call


async def test_virsh_shows_our_errors(server: TinyServer) -> None:
    server.answers[remote.CONNECT_GET_HOSTNAME] = lambda peer, call: peer.link.error(
        call, OperationFailed("the host has no name", hint="give it one")
    )
    code, _, err = await virsh(server, "hostname")
    assert code == 1
    assert "error: operation failed: the host has no name (hint: give it one)" in err
