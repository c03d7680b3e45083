"""Opening a connection and what it is: versions, names, capabilities, features."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

from virlet.daemon.dispatch import Access, Table, check_flags, not_open
from virlet.daemon.drivers import DEFAULT_URI, canonical
from virlet.daemon.session import Session
from virlet.enums import ConnectFlags, ErrorDomain, Feature
from virlet.errors import AuthFailed, InternalError, InvalidArg
from virlet.wire import remote

__all__ = ["LIBVIRT_VERSION", "TABLE"]

LIBVIRT_VERSION = 9_000_000
"""The libvirt that we claim to be, for clients that choose their XML and calls by GET_LIB_VERSION: 9.0.0 is the first
whose domain XML has passt and port forwards, and the oldest in a Debian that we serve."""

FEATURES = {
    Feature.TYPED_PARAM_STRING,
    Feature.PROGRAM_KEEPALIVE,
    Feature.FD_PASSING,
    Feature.REMOTE_EVENT_CALLBACK,
    Feature.REMOTE_CLOSE_CALLBACK,
    Feature.NETWORK_UPDATE_HAS_CORRECT_ORDER,
}
"""What is true of us; migration comes with migration."""

AUTH_NONE = 0

TABLE = Table()


@TABLE.on(remote.AUTH_LIST, Access.ALWAYS)
def auth_list(_session: Session, _args: None) -> remote.AuthListRet:
    # The kernel has said already who the peer is (SO_PEERCRED).
    return remote.AuthListRet((AUTH_NONE,))


@TABLE.on(remote.AUTH_POLKIT, Access.ALWAYS)
def auth_polkit(_session: Session, _args: None) -> remote.AuthPolkitRet:
    raise AuthFailed("authentication failed")


@TABLE.on(remote.AUTH_SASL_INIT, Access.ALWAYS)
def auth_sasl_init(_session: Session, _args: None) -> remote.AuthSaslInitRet:
    raise AuthFailed("authentication failed")


@TABLE.on(remote.AUTH_SASL_START, Access.ALWAYS)
def auth_sasl_start(_session: Session, _args: remote.AuthSaslStartArgs) -> remote.AuthSaslStartRet:
    raise AuthFailed("authentication failed")


@TABLE.on(remote.AUTH_SASL_STEP, Access.ALWAYS)
def auth_sasl_step(_session: Session, _args: remote.AuthSaslStepArgs) -> remote.AuthSaslStepRet:
    raise AuthFailed("authentication failed")


@TABLE.on(remote.CONNECT_SUPPORTS_FEATURE, Access.ALWAYS)
def supports_feature(session: Session, args: remote.ConnectSupportsFeatureArgs) -> remote.ConnectSupportsFeatureRet:
    if args.feature == Feature.PROGRAM_KEEPALIVE:
        session.wire.watch()
    elif not session.is_open:
        raise not_open()
    return remote.ConnectSupportsFeatureRet(int(args.feature in FEATURES))


@TABLE.on(remote.CONNECT_OPEN, Access.ALWAYS)
def connect_open(session: Session, args: remote.ConnectOpenArgs) -> Coroutine[Any, Any, None] | None:
    if session.is_open:
        raise InternalError("connection already open", domain=ErrorDomain.RPC)
    if args.name is None:
        raise InternalError("connection not open", domain=ErrorDomain.RPC)
    uri = canonical(args.name)
    readonly = bool(args.flags & ConnectFlags.RO)
    if (driver := session.host.drivers.ready(uri)) is None:
        return _open(session, uri, readonly)
    session.opened(driver, uri, readonly)
    return None


async def _open(session: Session, uri: str, readonly: bool) -> None:
    session.opened(await session.host.drivers.open(uri), uri, readonly)


@TABLE.on(remote.CONNECT_CLOSE, Access.READ)
def connect_close(session: Session, _args: None) -> None:
    session.wire.hang_up()


@TABLE.on(remote.CONNECT_REGISTER_CLOSE_CALLBACK)
def register_close_callback(_session: Session, _args: None) -> None:
    # The callback is for a lost hypervisor connection behind the daemon; there is none that could be lost.
    return None


@TABLE.on(remote.CONNECT_UNREGISTER_CLOSE_CALLBACK)
def unregister_close_callback(_session: Session, _args: None) -> None:
    return None


@TABLE.on(remote.CONNECT_GET_TYPE)
def get_type(session: Session, _args: None) -> remote.ConnectGetTypeRet:
    return remote.ConnectGetTypeRet(session.driver.type_name())


@TABLE.on(remote.CONNECT_GET_VERSION)
def get_version(session: Session, _args: None) -> remote.ConnectGetVersionRet:
    return remote.ConnectGetVersionRet(session.driver.version())


@TABLE.on(remote.CONNECT_GET_LIB_VERSION)
def get_lib_version(_session: Session, _args: None) -> remote.ConnectGetLibVersionRet:
    return remote.ConnectGetLibVersionRet(LIBVIRT_VERSION)


@TABLE.on(remote.CONNECT_GET_HOSTNAME)
def get_hostname(session: Session, _args: None) -> remote.ConnectGetHostnameRet:
    return remote.ConnectGetHostnameRet(session.driver.hostname())


@TABLE.on(remote.CONNECT_GET_URI)
def get_uri(session: Session, _args: None) -> remote.ConnectGetUriRet:
    return remote.ConnectGetUriRet(session.uri or DEFAULT_URI)


@TABLE.on(remote.CONNECT_IS_SECURE, Access.READ)
def is_secure(_session: Session, _args: None) -> remote.ConnectIsSecureRet:
    return remote.ConnectIsSecureRet(1)


@TABLE.on(remote.CONNECT_GET_CAPABILITIES)
def get_capabilities(session: Session, _args: None) -> remote.ConnectGetCapabilitiesRet:
    return remote.ConnectGetCapabilitiesRet(session.driver.capabilities())


@TABLE.on(remote.CONNECT_GET_DOMAIN_CAPABILITIES, Access.READ)
async def get_domain_capabilities(
    session: Session, args: remote.ConnectGetDomainCapabilitiesArgs
) -> remote.ConnectGetDomainCapabilitiesRet:
    check_flags(args.flags, 0, "qemuConnectGetDomainCapabilities")
    text = await session.driver.domain_capabilities(args.emulatorbin, args.arch, args.machine, args.virttype)
    return remote.ConnectGetDomainCapabilitiesRet(text)


@TABLE.on(remote.CONNECT_DOMAIN_XML_TO_NATIVE)
async def xml_to_native(
    session: Session, args: remote.ConnectDomainXmlToNativeArgs
) -> remote.ConnectDomainXmlToNativeRet:
    check_flags(args.flags, 0, "qemuConnectDomainXMLToNative")
    explain = session.explain(remote.CONNECT_DOMAIN_XML_TO_NATIVE.api)
    if args.nativeFormat != "qemu-argv":
        raise InvalidArg(f"unsupported config type {args.nativeFormat}", hint="use qemu-argv")
    return remote.ConnectDomainXmlToNativeRet(await explain.native(args.domainXml))
