"""Errors on the wire: libvirt's error struct to and from :mod:`virlet.errors`."""

from __future__ import annotations

from functools import cache
from typing import Final

from virlet.enums import ErrorCode, ErrorLevel
from virlet.errors import RpcError, VirletError, from_wire
from virlet.wire import types
from virlet.wire.xdr import Codec, DecodeError

__all__ = ["decode_error", "encode_error"]

_TEXT_MAX: Final = 1_048_576
"""Characters of an error that are sent: in UTF-8 they fit into a string of the protocol."""


@cache
def _codec() -> Codec[types.Error]:
    return types.SCHEMA.codec("error")


def encode_error(error: VirletError) -> bytes:
    """The payload that tells *error* to the peer, filled in as libvirt does it.

    ``message`` is the whole text, ``str1`` the printf format of its class, ``str2`` what is filled in; ``int1`` is the
    errno of a system error.
    """
    prefix = "" if error.remote else type(error).prefix
    message = _clean(error.message)
    int1 = error.errno if error.errno is not None and error.code == ErrorCode.SYSTEM_ERROR else -1
    value = types.Error(
        code=int(error.code) or int(ErrorCode.INTERNAL_ERROR),
        domain=int(error.domain),
        message=message,
        level=int(ErrorLevel.ERROR),
        dom=None,
        str1=prefix + "%1$s" if prefix else "%s",
        str2=message.removeprefix(prefix),
        str3=None,
        int1=int1,
        int2=-1,
        net=None,
    )
    return _codec().encode(value)


def decode_error(payload: bytes) -> VirletError:
    """The exception that the peer's payload means."""
    try:
        value = _codec().decode(payload)
    except DecodeError:
        return RpcError("the peer sent an error that cannot be decoded", remote=True)
    # Code 0 would mean success; libvirt's own clients show such an error as an unknown one.
    return from_wire(value.code or int(ErrorCode.INTERNAL_ERROR), value.domain, value.message, value.int1)


def _clean(text: str) -> str:
    # An error must always reach the client, whatever a guest or a file name put into its text.
    return text[:_TEXT_MAX].replace("\0", "\ufffd").encode("utf-8", "backslashreplace").decode()
