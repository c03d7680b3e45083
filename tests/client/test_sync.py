"""virlet.client.sync against a server of our own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from virlet.client import ask, sync
from virlet.client.sync import Connection, Domain, connect
from virlet.enums import DomainState, EventId
from virlet.errors import (
    AuthFailed,
    InvalidArg,
    NoConnect,
    NoDomain,
    NoSupport,
    OperationFailed,
    OperationTimeout,
    RpcError,
)
from virlet.wire import remote, types, virlet
from virlet.wire.events import Call, StreamAbort, StreamData, StreamFinish
from virlet.wire.packet import PING, PONG

if TYPE_CHECKING:
    from tests.client.conftest import Peer, TinyServer

DOM = types.Domain("vm", bytes(range(16)), 3)


def lookup(peer: Peer, call: Call) -> bytes:
    name = call.procedure.decode_args(call.payload).name
    if name != "vm":
        return peer.link.error(call, NoDomain(f"no domain with matching name '{name}'"))
    return peer.link.reply(call, remote.DomainLookupByNameRet(DOM))


def domain(server: TinyServer, conn: Connection) -> Domain:
    server.answers[remote.DOMAIN_LOOKUP_BY_NAME] = lookup
    return conn.lookup_by_name("vm")


def test_a_connection_opens_asks_and_says_good_bye(server: TinyServer) -> None:
    server.answers[remote.CONNECT_GET_HOSTNAME] = lambda peer, call: peer.link.reply(
        call, remote.ConnectGetHostnameRet("h")
    )
    with connect(server.uri, readonly=True) as conn:
        assert conn.hostname() == "h"
    names = [call.procedure.name for call in server.calls]
    assert names == ["AUTH_LIST", "CONNECT_OPEN", "CONNECT_GET_HOSTNAME", "CONNECT_CLOSE"]
    assert [call.serial for call in server.calls] == [0, 1, 2, 3]
    opened = server.calls[1]
    assert opened.procedure.decode_args(opened.payload) == remote.ConnectOpenArgs("qemu:///session", 1)
    conn.close()
    with pytest.raises(RpcError, match="closed"):
        conn.hostname()


def test_domains_have_typed_answers(server: TinyServer) -> None:
    server.answers[remote.DOMAIN_GET_STATE] = lambda peer, call: peer.link.reply(call, remote.DomainGetStateRet(1, 1))
    server.answers[remote.DOMAIN_GET_INFO] = lambda peer, call: peer.link.reply(
        call, remote.DomainGetInfoRet(1, 2, 3, 4, 5)
    )
    server.answers[remote.CONNECT_LIST_ALL_DOMAINS] = lambda peer, call: peer.link.reply(
        call, remote.ConnectListAllDomainsRet((DOM,), 1)
    )
    with connect(server.uri) as conn:
        (one,) = conn.domains()
        assert (one.name, one.uuid) == ("vm", "00010203-0405-0607-0809-0a0b0c0d0e0f")
        assert one.state().state is DomainState.RUNNING
        assert one.info() == (DomainState.RUNNING, 2, 3, 4, 5)
        one.suspend()


def test_errors_are_exceptions_of_their_class(server: TinyServer) -> None:
    with connect(server.uri) as conn:
        assert repr(domain(server, conn)) == "<Domain vm>"
        with pytest.raises(NoDomain, match=r"^Domain not found: no domain with matching name 'x'$"):
            conn.lookup_by_name("x")
        with pytest.raises(InvalidArg):
            conn.lookup_by_uuid("x")
        with pytest.raises(NoDomain):
            conn.lookup_by_id(-1)


def test_any_procedure_can_be_called(server: TinyServer) -> None:
    server.answers[remote.NODE_GET_FREE_MEMORY] = lambda peer, call: peer.link.reply(
        call, remote.NodeGetFreeMemoryRet(7)
    )
    with connect(server.uri) as conn:
        assert conn.call(remote.NODE_GET_FREE_MEMORY, None).freeMem == 7


def test_a_ping_is_answered_while_a_call_waits(server: TinyServer) -> None:
    def slow(peer: Peer, call: Call) -> bytes:
        return PING + peer.link.reply(call, remote.ConnectGetUriRet("u"))

    server.answers[remote.CONNECT_GET_URI] = slow
    with connect(server.uri) as conn:
        assert conn.uri() == "u"
    assert PONG in server.peers[0].raw


def test_events_come_between_replies_and_in_order(server: TinyServer) -> None:
    def event(peer: Peer, detail: int) -> bytes:
        msg = remote.DomainEventCallbackLifecycleMsg(9, types.DomainEventLifecycleMsg(DOM, 2, detail))
        return peer.link.message(remote.DOMAIN_EVENT_CALLBACK_LIFECYCLE, msg)

    def register(peer: Peer, call: Call) -> bytes:
        args = call.procedure.decode_args(call.payload)
        assert args == remote.ConnectDomainEventCallbackRegisterAnyArgs(0, DOM)
        ret = remote.ConnectDomainEventCallbackRegisterAnyRet(9)
        return peer.link.reply(call, ret) + event(peer, 0)

    server.answers[remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY] = register
    server.answers[remote.DOMAIN_RESUME] = lambda peer, call: event(peer, 1) + peer.link.reply(call, None)
    with connect(server.uri) as conn:
        vm = domain(server, conn)
        with conn.events([EventId.LIFECYCLE], vm) as events:
            vm.resume()
            assert [next(iter(events)).values["detail"] for _ in range(2)] == [0, 1]
            assert events.next(0.01) is None
        assert server.calls[-1].procedure is remote.CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY
        with pytest.raises(InvalidArg, match="weather"):
            conn.events(["weather"])


def test_all_events_are_those_that_the_server_knows(server: TinyServer) -> None:
    def register(peer: Peer, call: Call) -> bytes:
        number = call.procedure.decode_args(call.payload).eventID
        if number > 5:
            return peer.link.error(call, RpcError(f"unsupported event ID {number}"))
        return peer.link.reply(call, remote.ConnectDomainEventCallbackRegisterAnyRet(number))

    def register_helper(peer: Peer, call: Call) -> bytes:
        msg = virlet.HelperEventMsg(0, DOM, "net0", "restarted", "passt is back")
        return peer.link.reply(call, virlet.HelperEventRegisterRet(0)) + peer.link.message(virlet.HELPER_EVENT, msg)

    server.answers[remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY] = register
    server.answers[virlet.HELPER_EVENT_REGISTER] = register_helper
    with connect(server.uri) as conn:
        events = conn.events()
        found = events.next()
        assert found is not None
        assert (found.kind, found.values["kind"], found.values["alias"]) == ("helper", "restarted", "net0")
        events.close()
    gone = [call for call in server.calls if "DEREGISTER" in call.procedure.name]
    assert len(gone) == 7


def open_console(peer: Peer, call: Call) -> bytes:
    return peer.link.reply(call, None) + peer.link.stream_data(call.stream, b"login: ")


def test_a_console_is_a_stream_both_ways(server: TinyServer) -> None:
    def echo(peer: Peer, event: StreamData) -> None:
        peer.send(peer.link.stream_data(event.stream, event.data.upper()) + peer.link.stream_data(event.stream, b""))

    def finish(peer: Peer, event: StreamFinish) -> None:
        peer.send(peer.link.stream_finish(event.stream))

    server.answers |= {remote.DOMAIN_OPEN_CONSOLE: open_console, StreamData: echo, StreamFinish: finish}
    with connect(server.uri) as conn:
        stream = domain(server, conn).open_console()
        assert stream.read() == b"login: "
        assert not stream.pending
        stream.write(b"root")
        assert stream.read() == b"ROOT"
        assert stream.read() == stream.read() == b""
        assert stream.ended
        stream.finish()
        assert list(stream.available()) == []


def test_a_console_that_is_left_is_aborted(server: TinyServer) -> None:
    def abort(peer: Peer, event: StreamAbort) -> None:
        peer.send(peer.link.stream_finish(event.stream))

    server.answers |= {remote.DOMAIN_OPEN_CONSOLE: open_console, StreamAbort: abort}
    with connect(server.uri) as conn, domain(server, conn).open_console():
        pass
    assert any(isinstance(event, StreamAbort) for event in server.log)


def test_a_stream_that_fails_raises_what_the_server_says(server: TinyServer) -> None:
    def fail(peer: Peer, call: Call) -> bytes:
        return peer.link.reply(call, None) + peer.link.stream_error(call.stream, OperationFailed("kicked out"))

    server.answers[remote.DOMAIN_OPEN_CONSOLE] = fail
    with connect(server.uri) as conn, domain(server, conn).open_console() as stream:
        for _ in range(2):
            with pytest.raises(OperationFailed, match="kicked out"):
                stream.read()
        with pytest.raises(OperationFailed):
            stream.finish()
        with pytest.raises(OperationFailed):
            stream.write(b"x")


def test_a_display_is_a_descriptor(server: TinyServer) -> None:
    def graphics(peer: Peer, call: Call) -> None:
        peer.send(peer.link.reply(call, None, fds=1))
        reading, writing = os.pipe()
        os.write(writing, b"RFB")
        peer.send_fd(reading)
        os.close(reading)
        os.close(writing)

    server.answers[remote.DOMAIN_OPEN_GRAPHICS_FD] = graphics
    with connect(server.uri) as conn:
        fd = domain(server, conn).open_graphics()
        assert os.read(fd, 9) == b"RFB"
        assert not os.get_inheritable(fd)
        os.close(fd)


def test_descriptors_go_along_each_with_a_byte_of_its_own(server: TinyServer) -> None:
    got: list[bytes] = []

    def associate(peer: Peer, call: Call) -> None:
        for fd in call.fds:
            got.append(os.read(fd, 9))
            os.close(fd)
        peer.send(PING + peer.link.reply(call, None))

    server.answers[remote.DOMAIN_FD_ASSOCIATE] = associate
    with connect(server.uri) as conn:
        one = domain(server, conn)
        pipes = [os.pipe() for _ in range(3)]
        for number, (_, writing) in enumerate(pipes):
            os.write(writing, b"%d" % number)
        for _ in range(2):
            one.fd_associate("g", [reading for reading, _ in pipes[1:]])
            for _, writing in pipes:
                os.write(writing, b"more")
        assert got == [b"1", b"2", b"more", b"more"]
        one.suspend()  # Nothing is left in between.
        for pipe in pipes:
            for fd in pipe:
                os.close(fd)
        for none in ([], [0] * 33):
            with pytest.raises(InvalidArg, match="1 to 32"):
                one.fd_associate("g", none)
        with pytest.raises(InvalidArg, match=f"file descriptor {pipes[0][0]} is not open"):
            one.fd_associate("g", [pipes[0][0]])
        one.suspend()  # The connection is as it was.


def test_a_server_that_dies_fails_the_call(server: TinyServer) -> None:
    server.answers[remote.CONNECT_GET_URI] = lambda peer, call: peer.hang_up()
    conn = connect(server.uri)
    with pytest.raises(RpcError, match="closed the connection"):
        conn.uri()
    with pytest.raises(RpcError, match="closed the connection"):
        conn.uri()
    conn.close()


def test_a_server_that_talks_nonsense_is_left(server: TinyServer) -> None:
    server.answers[remote.CONNECT_GET_URI] = lambda peer, call: b"HTTP/1.1 400 Bad Request"
    conn = connect(server.uri)
    with pytest.raises(RpcError, match="a packet cannot have"):
        conn.uri()


def test_a_server_that_wants_sasl_is_refused(server: TinyServer) -> None:
    server.answers[remote.AUTH_LIST] = lambda peer, call: peer.link.reply(call, remote.AuthListRet((1,)))
    with pytest.raises(AuthFailed, match="SASL"):
        connect(server.uri)


def test_polkit_is_asked_where_the_server_wants_it(server: TinyServer) -> None:
    server.answers[remote.AUTH_LIST] = lambda peer, call: peer.link.reply(call, remote.AuthListRet((2,)))
    server.answers[remote.AUTH_POLKIT] = lambda peer, call: peer.link.reply(call, remote.AuthPolkitRet(1))
    connect(server.uri).close()
    assert server.calls[1].procedure is remote.AUTH_POLKIT


def test_nobody_there_is_said_with_a_hint(tmp_path: object) -> None:
    with pytest.raises(NoConnect, match="nobody listens") as caught:
        connect(f"virlet:///session?socket={tmp_path}/none")
    assert caught.value.hint


def test_a_server_that_hangs_is_left_without_an_answer(server: TinyServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sync, "GOODBYE", 0.05)
    server.answers |= {remote.CONNECT_CLOSE: lambda peer, call: None, remote.CONNECT_GET_URI: lambda peer, call: None}
    with connect(server.uri) as conn, pytest.raises(OperationTimeout, match="virConnectGetURI"):
        conn.ask(ask.uri(), timeout=0.05)
    with pytest.raises(RpcError, match="is closed"):
        conn.uri()


def test_two_who_send_much_at_the_same_time_do_not_wait_for_each_other(server: TinyServer) -> None:
    def echo(peer: Peer, event: StreamData) -> None:
        peer.send(peer.link.stream_data(event.stream, event.data) + PING)

    opening = {remote.DOMAIN_OPEN_CONSOLE: lambda peer, call: peer.link.reply(call, None)}
    server.answers |= opening | {StreamData: echo}
    data = bytes(range(256)) * 40_000
    with connect(server.uri) as conn:
        stream = domain(server, conn).open_console()
        stream.write(data)
        got = b""
        while len(got) < len(data):
            got += stream.read()
    assert got == data


def test_answers_that_are_no_json_are_refused(server: TinyServer) -> None:
    server.answers[virlet.DOCTOR] = lambda peer, call: peer.link.reply(call, virlet.DoctorRet("{"))
    server.answers[virlet.COMPAT] = lambda peer, call: peer.link.reply(call, virlet.CompatRet('{"on": true}'))
    with connect(server.uri) as conn:
        with pytest.raises(RpcError, match="JSON"):
            conn.doctor()
        assert conn.compat("status") == {"on": True}


def test_a_call_of_virlets_own_at_libvirt_names_who_can(server: TinyServer) -> None:
    problem = RpcError("Cannot find program 544632948 version 1")
    server.answers[virlet.DOCTOR] = lambda peer, call: peer.link.error(call, problem)
    with connect(server.uri) as conn, pytest.raises(NoSupport, match="virlet:///session"):
        conn.doctor()


def test_importing_the_client_loads_no_asyncio_and_nothing_but_the_standard_library() -> None:
    code = """
import sys
before = set(sys.modules)
import virlet.client.sync
new = set(sys.modules) - before
heavy = {"asyncio", "subprocess", "json", "ssl", "threading", "logging"} & new
strange = {name.partition(".")[0] for name in new} - sys.stdlib_module_names - {"virlet"}
packages = {".".join(name.split(".")[:2]) for name in sys.modules if name.startswith("virlet.")}
print(sorted(heavy), sorted(strange), sorted(packages))
"""
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == (
        "[] [] ['virlet.client', 'virlet.enums', 'virlet.errors', 'virlet.paths', 'virlet.wire']"
    )
