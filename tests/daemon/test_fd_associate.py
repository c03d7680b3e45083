"""Descriptors that come with a call, over a real socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from virlet.enums import Feature
from virlet.errors import InvalidArg, NoDomain
from virlet.wire import remote
from virlet.wire.link import Failed, Reply

XML = "<domain><name>vm</name></domain>"


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


async def give(client, dom, fds, flags=0):
    """Associate *fds* as the group "net0"; raises the server's error."""
    args = remote.DomainFdAssociateArgs(dom, "net0", flags)
    request = client.link.call(remote.DOMAIN_FD_ASSOCIATE, args, fds=len(fds))
    await client.say(request.data)
    for fd in fds:
        socket.send_fds(client.sock, [b"\0"], [fd])
    said = await client.next()
    assert isinstance(said, (Reply, Failed))
    if isinstance(said, Failed):
        raise said.error


async def test_the_server_says_that_it_takes_descriptors(client):
    assert await client.ask(remote.CONNECT_SUPPORTS_FEATURE, Feature.FD_PASSING) == (1,)


async def test_the_driver_is_shown_them_and_the_daemon_closes_its_own(client, driver, pipe):
    dom = (await client.ask(remote.DOMAIN_DEFINE_XML, XML)).dom
    before = descriptors()
    for _ in range(20):
        await give(client, dom, [*pipe, pipe[0]])
    ((_, found),) = driver.given.values()
    assert found == [os.fstat(pipe[0]).st_ino] * 3
    assert descriptors() == before


async def test_a_call_that_fails_leaves_none_open(client, pipe):
    dom = (await client.ask(remote.DOMAIN_DEFINE_XML, XML)).dom
    before = descriptors()
    with pytest.raises(InvalidArg):
        await give(client, dom, pipe, flags=1)
    with pytest.raises(NoDomain):
        await give(client, dom._replace(uuid=bytes(16)), [pipe[0]] * 32)
    assert descriptors() == before


async def test_a_client_that_leaves_in_the_middle_leaves_none_open(client, connect, pipe):
    dom = (await client.ask(remote.DOMAIN_DEFINE_XML, XML)).dom
    one = connect()
    await one.ask(remote.CONNECT_OPEN, "qemu:///session", 0)
    before = descriptors()
    request = one.link.call(remote.DOMAIN_FD_ASSOCIATE, remote.DomainFdAssociateArgs(dom, "net0", 0), fds=3)
    await one.say(request.data)
    socket.send_fds(one.sock, [b"\0"], [pipe[0]])
    one.sock.shutdown(socket.SHUT_WR)
    assert await one.hear() == b""
    assert descriptors() == before - 1, "the daemon's end of the connection is all that was closed"
