"""virlet.wire.faults: errors to the wire and back."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from virlet.errors import BadConfig, NoDomain, OperationFailed, Problem, RpcError, SystemFailure, VirletError
from virlet.wire import types
from virlet.wire.faults import decode_error, encode_error


def struct(error: VirletError) -> types.Error:
    value: types.Error = types.SCHEMA.codec("error").decode(encode_error(error))
    return value


def test_the_fields_are_those_that_libvirt_fills_in() -> None:
    assert struct(NoDomain("no domain with matching name 'x'")) == types.Error(
        code=42,
        domain=10,
        message="Domain not found: no domain with matching name 'x'",
        level=2,
        dom=None,
        str1="Domain not found: %1$s",
        str2="no domain with matching name 'x'",
        str3=None,
        int1=-1,
        int2=-1,
        net=None,
    )


def test_a_class_without_prefix_has_a_bare_format() -> None:
    value = struct(RpcError("unknown procedure: 9"))
    assert (value.message, value.str1, value.str2) == ("unknown procedure: 9", "%s", "unknown procedure: 9")


def test_a_system_error_carries_its_errno() -> None:
    error = SystemFailure.of(OSError(errno.ENOENT, "x"), "cannot open '/nope'")
    assert struct(error).int1 == errno.ENOENT
    back = decode_error(encode_error(error))
    assert (type(back), back.errno, back.message) == (SystemFailure, errno.ENOENT, error.message)


def test_errors_come_back_as_their_class_with_the_same_text() -> None:
    back = decode_error(encode_error(OperationFailed("no", hint="try yes")))
    assert type(back) is OperationFailed
    assert back.remote
    assert str(back) == "operation failed: no (hint: try yes)"
    problems = BadConfig([Problem("devices", "bad"), Problem("os", "worse", hint="do")])
    assert str(decode_error(encode_error(problems))) == problems.message


def test_an_error_said_by_a_peer_can_be_passed_on_unchanged() -> None:
    heard = decode_error(encode_error(NoDomain("x")))
    assert decode_error(encode_error(heard)).message == heard.message


def test_code_zero_is_never_sent() -> None:
    assert struct(VirletError("x", code=0)).code == 1


@given(text=st.text())
def test_whatever_the_text_the_error_arrives(text: str) -> None:
    assert isinstance(decode_error(encode_error(RpcError(text))), RpcError)


@given(data=st.binary(max_size=100))
def test_whatever_the_payload_it_means_some_error(data: bytes) -> None:
    assert isinstance(decode_error(data), VirletError)


def test_an_unreadable_error_says_so() -> None:
    with pytest.raises(RpcError, match="cannot be decoded"):
        raise decode_error(b"")
