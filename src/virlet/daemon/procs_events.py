"""Registering for events, in all the styles that clients know."""

from __future__ import annotations

from virlet.daemon.dispatch import Access, Table, check_flags
from virlet.daemon.events import Kind, Style
from virlet.daemon.session import Session
from virlet.enums import EventId
from virlet.wire import remote, virlet

__all__ = ["TABLE"]

TABLE = Table()


@TABLE.on(remote.CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY)
def register(
    session: Session, args: remote.ConnectDomainEventCallbackRegisterAnyArgs
) -> remote.ConnectDomainEventCallbackRegisterAnyRet:
    target = args.dom.uuid if args.dom else None
    number = session.host.hub.register(session, Kind.DOMAIN, args.eventID, target)
    return remote.ConnectDomainEventCallbackRegisterAnyRet(number)


@TABLE.on(remote.CONNECT_DOMAIN_EVENT_CALLBACK_DEREGISTER_ANY)
def deregister(session: Session, args: remote.ConnectDomainEventCallbackDeregisterAnyArgs) -> None:
    session.host.hub.deregister(session, Kind.DOMAIN, args.callbackID)


@TABLE.on(remote.CONNECT_DOMAIN_EVENT_REGISTER_ANY)
def register_any(session: Session, args: remote.ConnectDomainEventRegisterAnyArgs) -> None:
    session.host.hub.register(session, Kind.DOMAIN, args.eventID, style=Style.BY_EVENT)


@TABLE.on(remote.CONNECT_DOMAIN_EVENT_DEREGISTER_ANY)
def deregister_any(session: Session, args: remote.ConnectDomainEventDeregisterAnyArgs) -> None:
    session.host.hub.deregister_event(session, args.eventID)


@TABLE.on(remote.CONNECT_DOMAIN_EVENT_REGISTER)
def register_lifecycle(session: Session, _args: None) -> remote.ConnectDomainEventRegisterRet:
    session.host.hub.register(session, Kind.DOMAIN, EventId.LIFECYCLE, style=Style.BY_EVENT)
    return remote.ConnectDomainEventRegisterRet(0)


@TABLE.on(remote.CONNECT_DOMAIN_EVENT_DEREGISTER)
def deregister_lifecycle(session: Session, _args: None) -> remote.ConnectDomainEventDeregisterRet:
    session.host.hub.deregister_event(session, EventId.LIFECYCLE)
    return remote.ConnectDomainEventDeregisterRet(0)


# virlet has no networks, pools, node devices or secrets yet, so that nothing ever happens to them; clients such as
# virt-manager register for their events before they look whether there are any.


@TABLE.on(remote.CONNECT_NETWORK_EVENT_REGISTER_ANY)
def register_network(
    session: Session, args: remote.ConnectNetworkEventRegisterAnyArgs
) -> remote.ConnectNetworkEventRegisterAnyRet:
    target = args.net.uuid if args.net else None
    number = session.host.hub.register(session, Kind.NETWORK, args.eventID, target)
    return remote.ConnectNetworkEventRegisterAnyRet(number)


@TABLE.on(remote.CONNECT_NETWORK_EVENT_DEREGISTER_ANY)
def deregister_network(session: Session, args: remote.ConnectNetworkEventDeregisterAnyArgs) -> None:
    session.host.hub.deregister(session, Kind.NETWORK, args.callbackID)


@TABLE.on(remote.CONNECT_STORAGE_POOL_EVENT_REGISTER_ANY)
def register_pool(
    session: Session, args: remote.ConnectStoragePoolEventRegisterAnyArgs
) -> remote.ConnectStoragePoolEventRegisterAnyRet:
    target = args.pool.uuid if args.pool else None
    number = session.host.hub.register(session, Kind.STORAGE_POOL, args.eventID, target)
    return remote.ConnectStoragePoolEventRegisterAnyRet(number)


@TABLE.on(remote.CONNECT_STORAGE_POOL_EVENT_DEREGISTER_ANY)
def deregister_pool(session: Session, args: remote.ConnectStoragePoolEventDeregisterAnyArgs) -> None:
    session.host.hub.deregister(session, Kind.STORAGE_POOL, args.callbackID)


@TABLE.on(remote.CONNECT_NODE_DEVICE_EVENT_REGISTER_ANY)
def register_node_device(
    session: Session, args: remote.ConnectNodeDeviceEventRegisterAnyArgs
) -> remote.ConnectNodeDeviceEventRegisterAnyRet:
    target = args.dev.name if args.dev else None
    number = session.host.hub.register(session, Kind.NODE_DEVICE, args.eventID, target)
    return remote.ConnectNodeDeviceEventRegisterAnyRet(number)


@TABLE.on(remote.CONNECT_NODE_DEVICE_EVENT_DEREGISTER_ANY)
def deregister_node_device(session: Session, args: remote.ConnectNodeDeviceEventDeregisterAnyArgs) -> None:
    session.host.hub.deregister(session, Kind.NODE_DEVICE, args.callbackID)


@TABLE.on(remote.CONNECT_SECRET_EVENT_REGISTER_ANY)
def register_secret(
    session: Session, args: remote.ConnectSecretEventRegisterAnyArgs
) -> remote.ConnectSecretEventRegisterAnyRet:
    target = args.secret.uuid if args.secret else None
    number = session.host.hub.register(session, Kind.SECRET, args.eventID, target)
    return remote.ConnectSecretEventRegisterAnyRet(number)


@TABLE.on(remote.CONNECT_SECRET_EVENT_DEREGISTER_ANY)
def deregister_secret(session: Session, args: remote.ConnectSecretEventDeregisterAnyArgs) -> None:
    session.host.hub.deregister(session, Kind.SECRET, args.callbackID)


@TABLE.on(virlet.HELPER_EVENT_REGISTER, Access.READ)
def register_helper(session: Session, args: virlet.HelperEventRegisterArgs) -> virlet.HelperEventRegisterRet:
    check_flags(args.flags, 0, "virletHelperEventRegister")
    target = args.dom.uuid if args.dom else None
    return virlet.HelperEventRegisterRet(session.host.hub.register(session, Kind.HELPER, 0, target))


@TABLE.on(virlet.HELPER_EVENT_DEREGISTER, Access.READ)
def deregister_helper(session: Session, args: virlet.HelperEventDeregisterArgs) -> None:
    session.host.hub.deregister(session, Kind.HELPER, args.callbackID)
