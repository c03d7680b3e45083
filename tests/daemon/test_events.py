"""Who is told what, in which order, in which style."""

from __future__ import annotations

import struct
from uuid import uuid4

import pytest

from virlet.daemon import events
from virlet.engine.api import DomainEvent, DomainRef, HelperEvent
from virlet.enums import ErrorCode, ErrorDomain, EventId
from virlet.errors import VirletError
from virlet.wire import remote, types, virlet
from virlet.wire.link import Message
from virlet.wire.procedure import Event

REGISTER = remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY
DEREGISTER = remote.CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY
XML = "<domain><name>a</name></domain>"


async def defined(client):
    return (await client.ask(remote.DOMAIN_DEFINE_XML, XML))[0]


async def test_the_event_comes_before_the_reply_with_the_running_id(client):
    dom = await defined(client)
    assert await client.ask(REGISTER, 0, None) == (0,)
    await client.ask(remote.DOMAIN_CREATE, dom)
    said = [(message.value.callbackID, message.value.msg) for message in client.messages()]
    running = types.Domain(dom.name, dom.uuid, 1)
    assert said == [(0, (running, 4, 0)), (0, (running, 2, 0))]


async def test_events_carry_serial_1_and_status_0(client):
    await client.ask(REGISTER, 0, None)
    await client.say(client.link.call(remote.DOMAIN_DEFINE_XML, (XML,)).data)
    head = struct.unpack(">7I", (await client.hear())[:28])
    assert head[1:] == (remote.PROGRAM.id, 1, 318, 2, 1, 0)


async def test_ids_rise_over_all_clients_and_are_never_used_again(client, connect):
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    assert await client.ask(REGISTER, 0, None) == (0,)
    assert await other.ask(REGISTER, 0, None) == (1,)
    await client.ask(DEREGISTER, 0)
    assert await client.ask(REGISTER, 0, None) == (2,)


async def test_a_filter_is_the_uuid_alone_and_two_matches_are_two_messages(client):
    dom = await defined(client)
    await client.ask(REGISTER, 0, None)
    await client.ask(REGISTER, 0, ("stale name", dom.uuid, 99))
    await client.ask(REGISTER, 0, ("a", uuid4().bytes, -1))
    await client.ask(remote.DOMAIN_CREATE, dom)
    assert [message.value.callbackID for message in client.messages()] == [0, 1, 0, 1]


async def test_nobody_is_told_after_deregistering_or_without_asking(client, connect):
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    (number,) = await client.ask(REGISTER, 0, None)
    await client.ask(DEREGISTER, number)
    await defined(client)
    await other.ask(remote.CONNECT_GET_TYPE)
    assert client.messages() == other.messages() == []


@pytest.mark.parametrize("event", [-1, 30, 1000])
async def test_an_unknown_event_is_refused(client, event):
    with pytest.raises(VirletError, match=f"unsupported event ID {event}") as caught:
        await client.ask(REGISTER, event, None)
    assert (caught.value.code, caught.value.domain) == (ErrorCode.INTERNAL_ERROR, ErrorDomain.RPC)


async def test_the_same_wish_twice_is_refused_in_whatever_styles(client):
    await client.ask(REGISTER, 0, None)
    for procedure, args in ((REGISTER, (0, None)), (remote.CONNECT_DOMAIN_EVENT_REGISTER_ANY, (0,))):
        with pytest.raises(VirletError, match="event callback already tracked") as caught:
            await client.ask(procedure, *args)
        assert caught.value.code == ErrorCode.INVALID_ARG


async def test_an_id_that_is_not_registered_or_anothers_is_refused(client, connect):
    other = connect()
    await other.ask(remote.CONNECT_OPEN, "", 0)
    (number,) = await other.ask(REGISTER, 0, None)
    for wrong in (number, 77):
        with pytest.raises(VirletError, match=f"domain event callback {wrong} not registered"):
            await client.ask(DEREGISTER, wrong)


async def test_the_oldest_style_has_no_callback_id(client):
    assert await client.ask(remote.CONNECT_DOMAIN_EVENT_REGISTER) == (0,)
    dom = await defined(client)
    (message,) = client.messages()
    assert message.event is remote.DOMAIN_EVENT_LIFECYCLE
    assert message.value == (dom, 0, 0)
    await client.ask(remote.CONNECT_DOMAIN_EVENT_DEREGISTER)
    with pytest.raises(VirletError, match="domain event 0 not registered"):
        await client.ask(remote.CONNECT_DOMAIN_EVENT_DEREGISTER)


async def test_the_middle_style_knows_sixteen_events(client):
    for event in range(16):
        await client.ask(remote.CONNECT_DOMAIN_EVENT_REGISTER_ANY, event)
    with pytest.raises(VirletError, match="unsupported event ID 16"):
        await client.ask(remote.CONNECT_DOMAIN_EVENT_REGISTER_ANY, 16)
    await client.ask(remote.CONNECT_DOMAIN_EVENT_DEREGISTER_ANY, 15)


SOME = {"i": 3, "u": 3, "s": "text"}


def example(event: EventId) -> DomainEvent:
    """An event with a value of the right kind in every field of its message."""
    message = events._MESSAGES[event]
    line = remote.PROGRAM.rows[message.name][1]
    if line.endswith("_msg"):
        line = types.SCHEMA._structs[line.rpartition(":")[2]].replace("dom:domain", "dom:domain", 1)
    fields = dict(word.split(":") for word in line.split() if word.split(":")[0] not in ("callbackID", "dom"))
    args = {name: SOME.get(kind[0], ()) for name, kind in fields.items()}
    address = (0, "127.0.0.1", "1")
    args.update({name: address for name in ("local", "remote") if name in args})
    args.update({name: () for name, kind in fields.items() if kind.endswith(">")})
    return DomainEvent(event, DomainRef("a", uuid4(), 1), args)


@pytest.mark.parametrize("event", list(EventId))
async def test_every_event_reaches_both_styles(client, connect, driver, event):
    old = connect()
    await old.ask(remote.CONNECT_OPEN, "", 0)
    await client.ask(REGISTER, event, None)
    if event < 16:
        await old.ask(remote.CONNECT_DOMAIN_EVENT_REGISTER_ANY, event)
    told = example(event)
    for sink in driver.sinks:
        sink(told)
    said = await client.next()
    assert isinstance(said, Message)
    assert said.event is events._MESSAGES[event]
    assert said.value[0] == 0
    if event < 16:
        legacy = await old.next()
        assert isinstance(legacy, Message)
        assert isinstance(legacy.event, Event)
        assert legacy.value == said.value[-1]


async def test_a_faulty_event_of_a_driver_harms_nobody(client, driver, caplog):
    await client.ask(REGISTER, 0, None)
    for sink in driver.sinks:
        sink(DomainEvent(EventId.LIFECYCLE, DomainRef("a", uuid4(), 1), {}))
    assert await client.ask(remote.CONNECT_GET_TYPE) == ("QEMU",)
    assert "cannot be sent" in caplog.text


async def test_helpers_have_events_of_our_own_program(client, driver):
    (number,) = await client.ask(virlet.HELPER_EVENT_REGISTER, None, 0)
    ref = DomainRef("a", uuid4(), 1)
    for sink in driver.sinks:
        sink(HelperEvent(ref, "net0", "lost", "passt was killed"))
    said = await client.next()
    assert said == (virlet.HELPER_EVENT, (number, ("a", ref.uuid.bytes, 1), "net0", "lost", "passt was killed"))
    await client.ask(virlet.HELPER_EVENT_DEREGISTER, number)


@pytest.mark.parametrize(
    ("register", "deregister"),
    [
        (remote.CONNECT_NETWORK_EVENT_REGISTER_ANY, remote.CONNECT_NETWORK_EVENT_DEREGISTER_ANY),
        (remote.CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY, remote.CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY),
        (remote.CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY, remote.CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY),
        (remote.CONNECT_SECRET_EVENT_REGISTER_ANY, remote.CONNECT_SECRET_EVENT_DEREGISTER_ANY),
    ],
)
async def test_events_of_things_that_we_do_not_have_can_be_waited_for(client, register, deregister):
    (number,) = await client.ask(register, 0, None)
    with pytest.raises(VirletError, match="unsupported event ID 9"):
        await client.ask(register, 9, None)
    await client.ask(deregister, number)
