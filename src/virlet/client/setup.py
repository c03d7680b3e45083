"""Calls that the facades make by themselves: how a connection begins and ends, and how events are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from virlet.client.mail import Mailbox
from virlet.client.request import Request, request, same
from virlet.client.uri import Target
from virlet.client.values import HELPER, kind_name
from virlet.enums import ErrorCode, EventId, Feature
from virlet.errors import AuthFailed, InvalidArg, VirletError
from virlet.wire import remote, virlet
from virlet.wire.types import Domain

__all__ = [
    "auth_request",
    "close_request",
    "deregister_requests",
    "event_kinds",
    "keepalive_request",
    "open_request",
    "polkit_request",
    "register_request",
    "tolerable",
    "wants_polkit",
]

_NONE, _POLKIT = 0, 2
_RO = 1
_KINDS = {kind_name(event): event for event in EventId}


def auth_request() -> Request[Sequence[int]]:
    """How may we prove who we are?"""
    return request(remote.AUTH_LIST, None, lambda ret: ret.types)


def wants_polkit(types: Sequence[int]) -> bool:
    """Whether polkit has to be asked before anything else; AuthFailed when the server wants what we cannot do."""
    if not types or types[0] == _NONE:
        return False
    if _POLKIT in types:
        return True
    raise AuthFailed("the server wants SASL", hint="virlet's client knows polkit and a user's own socket")


def polkit_request() -> Request[None]:
    """Let polkit decide."""
    return request(remote.AUTH_POLKIT, None, lambda ret: None)


def keepalive_request() -> Request[bool]:
    """Does the server answer a PING?  To ask is to promise a PONG: from now on it may send PINGs of its own."""
    args = remote.ConnectSupportsFeatureArgs(int(Feature.PROGRAM_KEEPALIVE))
    return request(remote.CONNECT_SUPPORTS_FEATURE, args, lambda ret: bool(ret.supported))


def open_request(target: Target, *, readonly: bool) -> Request[None]:
    """Connect to the driver."""
    args = remote.ConnectOpenArgs(target.name, _RO if readonly else 0)
    return request(remote.CONNECT_OPEN, args, same)


def close_request() -> Request[None]:
    """Good-bye; the server hangs up after its answer."""
    return request(remote.CONNECT_CLOSE, None, same)


def event_kinds(kinds: Iterable[EventId | str] | None) -> list[str]:
    """Names of kinds of events, checked; all there are for None."""
    if kinds is None:
        return [*_KINDS, HELPER]
    names = [kind_name(kind) if isinstance(kind, EventId) else kind for kind in kinds]
    for name in names:
        if name not in _KINDS and name != HELPER:
            raise InvalidArg(f"there are no '{name}' events", hint="known: " + ", ".join([*_KINDS, HELPER]))
    return names


def register_request(mailbox: Mailbox, kind: str, dom: Domain | None) -> Request[None]:
    """Ask for one kind of events; *mailbox* knows their callback id before the first one is read."""
    if kind == HELPER:

        def remember_helper(ret: virlet.HelperEventRegisterRet) -> None:
            mailbox.keys[virlet.PROGRAM.id, ret.callbackID] = kind

        return request(virlet.HELPER_EVENT_REGISTER, virlet.HelperEventRegisterArgs(dom, 0), remember_helper)

    def remember(ret: remote.ConnectDomainEventCallbackRegisterAnyRet) -> None:
        mailbox.keys[remote.PROGRAM.id, ret.callbackID] = kind

    args = remote.ConnectDomainEventCallbackRegisterAnyArgs(int(_KINDS[kind]), dom)
    return request(remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY, args, remember)


def tolerable(error: VirletError) -> bool:
    """Whether a server merely does not know a kind of events that nobody asked for by name."""
    return error.code in (ErrorCode.NO_SUPPORT, ErrorCode.RPC, ErrorCode.INTERNAL_ERROR, ErrorCode.INVALID_ARG)


def deregister_requests(mailbox: Mailbox) -> list[Request[None]]:
    """What undoes the registrations."""
    requests: list[Request[None]] = []
    for program, number in mailbox.keys:
        if program == virlet.PROGRAM.id:
            args = virlet.HelperEventDeregisterArgs(number)
            requests.append(request(virlet.HELPER_EVENT_DEREGISTER, args, same))
        else:
            any_args = remote.ConnectDomainEventCallbackDeregisterAnyArgs(number)
            requests.append(request(remote.CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY, any_args, same))
    return requests
