"""A server over real sockets."""

from __future__ import annotations

import pytest

from virlet.errors import NoDomain
from virlet.wire import remote

XML = "<domain><name>{name}</name></domain>"


async def test_a_client_opens_defines_starts_and_looks(client, driver):
    (dom,) = await client.ask(remote.DOMAIN_DEFINE_XML, XML.format(name="a"))
    assert dom.id == -1
    await client.ask(remote.DOMAIN_CREATE, dom)
    (dom,) = await client.ask(remote.DOMAIN_LOOKUP_BY_UUID, dom.uuid)
    assert dom.id == 1
    assert await client.ask(remote.DOMAIN_GET_STATE, dom, 0) == (1, 1)


async def test_unknown_domain_is_42(client):
    with pytest.raises(NoDomain, match="no domain with matching name 'x'"):
        await client.ask(remote.DOMAIN_LOOKUP_BY_NAME, "x")
