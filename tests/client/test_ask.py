"""virlet.client.ask: each question leads to the right procedure, and its answer to the right value."""

from __future__ import annotations

import inspect

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from virlet.client import ask
from virlet.client.core import Core
from virlet.client.request import Request
from virlet.client.values import LogChunk, NodeInfo
from virlet.enums import Affect, CreateFlags
from virlet.errors import RpcError, VirletError
from virlet.wire import remote, types, virlet
from virlet.wire.packet import packet

DOM = types.Domain("vm", bytes(range(16)), 3)

QUESTIONS: list[tuple[Request[object], str, object]] = [
    (ask.driver_type(), "CONNECT_GET_TYPE", None),
    (ask.version(), "CONNECT_GET_VERSION", None),
    (ask.lib_version(), "CONNECT_GET_LIB_VERSION", None),
    (ask.hostname(), "CONNECT_GET_HOSTNAME", None),
    (ask.uri(), "CONNECT_GET_URI", None),
    (ask.capabilities(), "CONNECT_GET_CAPABILITIES", None),
    (ask.domain_capabilities(arch="x86_64"), "CONNECT_GET_DOMAIN_CAPABILITIES", (None, "x86_64", None, None, 0)),
    (ask.node_info(), "NODE_GET_INFO", None),
    (ask.domains(3), "CONNECT_LIST_ALL_DOMAINS", (1, 3)),
    (ask.lookup_by_name("a"), "DOMAIN_LOOKUP_BY_NAME", ("a",)),
    (ask.lookup_by_uuid("00010203-0405-0607-0809-0a0b0c0d0e0f"), "DOMAIN_LOOKUP_BY_UUID", (DOM.uuid,)),
    (ask.lookup_by_id(7), "DOMAIN_LOOKUP_BY_ID", (7,)),
    (ask.define("<x/>", 1), "DOMAIN_DEFINE_XML_FLAGS", ("<x/>", 1)),
    (ask.create("<x/>", CreateFlags.PAUSED), "DOMAIN_CREATE_XML", ("<x/>", 1)),
    (ask.domxml_to_native("<x/>"), "CONNECT_DOMAIN_XML_TO_NATIVE", ("qemu-argv", "<x/>", 0)),
    (ask.server_version(), "VERSION", None),
    (ask.explain_xml("<x/>"), "EXPLAIN", (None, "<x/>", 0)),
    (ask.doctor(), "DOCTOR", (0,)),
    (ask.compat("status"), "COMPAT", ("status", 0)),
    (ask.start(DOM, 1), "DOMAIN_CREATE_WITH_FLAGS", (DOM, 1)),
    (ask.destroy(DOM, 1), "DOMAIN_DESTROY_FLAGS", (DOM, 1)),
    (ask.shutdown(DOM), "DOMAIN_SHUTDOWN_FLAGS", (DOM, 0)),
    (ask.reboot(DOM), "DOMAIN_REBOOT", (DOM, 0)),
    (ask.reset(DOM), "DOMAIN_RESET", (DOM, 0)),
    (ask.suspend(DOM), "DOMAIN_SUSPEND", (DOM,)),
    (ask.resume(DOM), "DOMAIN_RESUME", (DOM,)),
    (ask.undefine(DOM, 4), "DOMAIN_UNDEFINE_FLAGS", (DOM, 4)),
    (ask.xml(DOM, 2), "DOMAIN_GET_XML_DESC", (DOM, 2)),
    (ask.info(DOM), "DOMAIN_GET_INFO", (DOM,)),
    (ask.state(DOM), "DOMAIN_GET_STATE", (DOM, 0)),
    (ask.id_(DOM), "DOMAIN_LOOKUP_BY_UUID", (DOM.uuid,)),
    (ask.is_active(DOM), "DOMAIN_IS_ACTIVE", (DOM,)),
    (ask.is_persistent(DOM), "DOMAIN_IS_PERSISTENT", (DOM,)),
    (ask.autostart(DOM), "DOMAIN_GET_AUTOSTART", (DOM,)),
    (ask.set_autostart(DOM, True), "DOMAIN_SET_AUTOSTART", (DOM, 1)),
    (ask.rename(DOM, "b"), "DOMAIN_RENAME", (DOM, "b", 0)),
    (ask.attach_device(DOM, "<x/>", Affect.LIVE), "DOMAIN_ATTACH_DEVICE_FLAGS", (DOM, "<x/>", 1)),
    (ask.detach_device(DOM, "<x/>"), "DOMAIN_DETACH_DEVICE_FLAGS", (DOM, "<x/>", 0)),
    (ask.update_device(DOM, "<x/>", Affect.CONFIG), "DOMAIN_UPDATE_DEVICE_FLAGS", (DOM, "<x/>", 2)),
    (ask.metadata(DOM, 2, "urn:x"), "DOMAIN_GET_METADATA", (DOM, 2, "urn:x", 0)),
    (ask.set_metadata(DOM, 1, "t"), "DOMAIN_SET_METADATA", (DOM, 1, "t", None, None, 0)),
    (ask.fd_associate(DOM, "g", [1]), "DOMAIN_FD_ASSOCIATE", (DOM, "g", 0)),
    (ask.console(DOM), "DOMAIN_OPEN_CONSOLE", (DOM, None, 0)),
    (ask.open_graphics(DOM), "DOMAIN_OPEN_GRAPHICS_FD", (DOM, 0, 0)),
    (ask.explain(DOM), "EXPLAIN", (DOM, None, 0)),
    (ask.ports(DOM), "PORT_LIST", (DOM, 0)),
    (ask.details(DOM), "DOMAIN_DETAILS", (DOM, 0)),
    (ask.logs(DOM, "passt", 5), "LOGS", (DOM, "passt", 5, 65_536, 0)),
]


@pytest.mark.parametrize(("question", "name", "args"), QUESTIONS, ids=[name for _, name, _ in QUESTIONS])
def test_a_question_is_a_call(question: Request[object], name: str, args: object) -> None:
    assert question.procedure.name == name
    assert question.args == args
    assert question.procedure.decode_args(question.procedure.encode_args(question.args)) == args


def test_every_question_is_tested() -> None:
    asked = {
        name for name, value in vars(ask).items() if inspect.isfunction(value) and value.__module__ == ask.__name__
    }
    assert len({name for name in asked if not name.startswith("_")}) == len(QUESTIONS)


class Slot:
    """Takes any end of a call."""

    def done(self) -> bool:
        return False

    def set_result(self, result: object) -> None:
        pass

    def set_exception(self, exception: VirletError) -> None:
        assert isinstance(exception, VirletError)


@given(payload=st.binary(max_size=200) | st.just(bytes(400)), status=st.sampled_from([0, 1, 2]))
@settings(max_examples=60)
def test_whatever_a_server_answers_a_call_ends_with_a_value_or_our_error(payload: bytes, status: int) -> None:
    """Invariant: no answer to any question makes the connection raise."""
    core = Core("here")
    for question, _, _ in QUESTIONS:
        serial, _ = core.begin(question, Slot())
        which = question.procedure
        core.received(packet(which.program, which.version, which.number, 1, serial, status, payload), [])
    assert core.lost is None


def test_answers_become_values() -> None:
    assert ask.node_info().convert(remote.NodeGetInfoRet(b"x86_64", 1, 2, 3, 4, 5, 6, 7)) == NodeInfo(
        "x86_64", 1, 2, 3, 4, 5, 6, 7
    )
    assert ask.id_(DOM).convert(remote.DomainLookupByUuidRet(DOM)) == 3
    assert ask.id_(DOM).convert(remote.DomainLookupByUuidRet(DOM._replace(id=-1))) is None
    assert ask.is_active(DOM).convert(remote.DomainIsActiveRet(1)) is True
    assert ask.logs(DOM).convert(virlet.LogsRet(b"x", 1, 0)) == LogChunk(b"x", 1, False)
    assert ask.server_version().convert(virlet.VersionRet("1", '{"a": 2}')) == ("1", {"a": 2})
    assert ask.ports(DOM).convert(virlet.PortListRet("[1]")) == {"result": [1]}
    with pytest.raises(RpcError, match="JSON"):
        ask.ports(DOM).convert(virlet.PortListRet("no"))
