"""virlet.client.core: memory between bytes, without a socket."""

from __future__ import annotations

from typing import Any

import pytest

from virlet.client import ask
from virlet.client.core import Core
from virlet.client.mail import Inbox, Mailbox
from virlet.client.request import Request
from virlet.errors import RpcError, VirletError
from virlet.wire import remote, types
from virlet.wire.events import Call, StreamAbort
from virlet.wire.link import ServerLink

DOM = types.Domain("vm", bytes(range(16)), 3)


class Slot:
    """Remembers how a call ended."""

    def __init__(self) -> None:
        self.results: list[Any] = []

    def done(self) -> bool:
        return bool(self.results)

    def set_result(self, result: Any) -> None:
        self.results.append(result)

    def set_exception(self, exception: VirletError) -> None:
        self.results.append(exception)


class Ends:
    """A core and the server it talks to."""

    def __init__(self) -> None:
        self.core = Core("here")
        self.server = ServerLink([remote.PROGRAM.id])

    def begin(self, request: Request[Any]) -> tuple[Slot, Call]:
        slot = Slot()
        _, data = self.core.begin(request, slot)
        (call,) = self.server.feed(data)
        assert isinstance(call, Call)
        return slot, call


def test_replies_are_converted_for_who_waits() -> None:
    ends = Ends()
    slot, call = ends.begin(ask.hostname())
    assert ends.core.received(ends.server.reply(call, remote.ConnectGetHostnameRet("h")), []) == b""
    assert slot.results == ["h"]


def test_the_end_is_told_to_everybody_once_and_to_who_asks_later() -> None:
    ends = Ends()
    waiting, _ = ends.begin(ask.hostname())
    opening, call = ends.begin(ask.console(DOM))
    ends.core.received(ends.server.reply(call, None), [])
    (inbox,) = opening.results
    woken: list[int] = []
    inbox.wake = lambda: woken.append(1)
    assert ends.core.end() == []
    assert [str(one) for one in waiting.results] == ["the server closed the connection to here"]
    assert woken == [1]
    with pytest.raises(RpcError, match="closed the connection"):
        ends.core.take(inbox)
    with pytest.raises(RpcError, match="closed the connection"):
        ends.core.begin(ask.hostname(), Slot())
    ends.core.end(RpcError("another reason"))
    assert len(waiting.results) == 1


def test_what_came_before_the_end_of_a_stream_is_still_read() -> None:
    ends = Ends()
    opening, call = ends.begin(ask.console(DOM))
    data = ends.server.reply(call, None) + ends.server.stream_data(call.stream, b"abc")
    ends.core.received(data, [])
    (inbox,) = opening.results
    ends.core.end()
    assert ends.core.take(inbox) == b"abc"
    assert ends.core.backlog == 0
    with pytest.raises(RpcError):
        ends.core.take(inbox)


def test_an_answer_that_nobody_can_take_any_more_is_undone() -> None:
    ends = Ends()
    opening, call = ends.begin(ask.console(DOM))
    ends.core.received(ends.server.reply(call, None), [])
    (inbox,) = opening.results
    assert isinstance(inbox, Inbox)
    assert ends.server.feed(ends.core.drop(ask.console(DOM), inbox)) == [StreamAbort(inbox.stream, None)]
    assert ends.core.drop(ask.open_graphics(DOM), 77) == b""
    assert ends.core.drop(ask.hostname(), "h") == b""
    assert ends.core.end() == [77]


def test_descriptors_that_nobody_asked_for_are_to_be_closed() -> None:
    ends = Ends()
    asking, call = ends.begin(ask.hostname())
    data = ends.server.reply(call, remote.ConnectGetHostnameRet("h"), fds=1) + b"\0"
    ends.core.received(data, [77])
    assert asking.results == ["h"]
    wanting, call = ends.begin(ask.open_graphics(DOM))
    ends.core.received(ends.server.reply(call, None, fds=2) + b"\0\0", [78, 79])
    assert wanting.results == [78]
    lacking, call = ends.begin(ask.open_graphics(DOM))
    ends.core.received(ends.server.reply(call, None), [])
    assert "gave no file descriptor" in str(lacking.results[0])
    assert ends.core.end() == [77, 79]


def test_an_abandoned_call_is_heard_no_more() -> None:
    ends = Ends()
    slot = Slot()
    serial, data = ends.core.begin(ask.hostname(), slot)
    (call,) = ends.server.feed(data)
    assert isinstance(call, Call)
    ends.core.abandon(serial)
    ends.core.abandon(serial)
    ends.core.received(ends.server.reply(call, remote.ConnectGetHostnameRet("h")), [])
    assert slot.results == []


def test_events_reach_those_mailboxes_that_registered() -> None:
    ends = Ends()
    box = Mailbox()
    box.keys[remote.PROGRAM.id, 5] = "reboot"
    ends.core.listen(box)

    def say(number: int) -> None:
        msg = remote.DomainEventCallbackRebootMsg(number, types.DomainEventRebootMsg(DOM))
        ends.core.received(ends.server.message(remote.DOMAIN_EVENT_CALLBACK_REBOOT, msg), [])

    say(5)
    say(6)
    network = remote.NetworkEventLifecycleMsg(5, types.Network("n", bytes(16)), 0, 0)
    ends.core.received(ends.server.message(remote.NETWORK_EVENT_LIFECYCLE, network), [])
    old = remote.DomainEventRebootMsg(DOM)
    ends.core.received(ends.server.message(remote.DOMAIN_EVENT_REBOOT, old), [])
    assert [event.kind for event in box.events] == ["reboot"]
    ends.core.unlisten(box)
    say(5)
    assert len(box.events) == 1


def test_nonsense_ends_the_connection_with_its_reason() -> None:
    ends = Ends()
    ends.core.received(b"\0\0\0\0", [])
    assert "cannot have 0 bytes" in str(ends.core.lost)
