"""Domains from definition to end: what changes them, and therefore waits."""

from __future__ import annotations

from virlet.daemon.dispatch import Table, check_flags
from virlet.daemon.lookup import uuid_of, wire_domain
from virlet.daemon.session import Session
from virlet.enums import CreateFlags, DefineFlags, DestroyFlags, ShutdownFlags, UndefineFlags
from virlet.wire import remote

__all__ = ["TABLE"]

CREATE_FLAGS = sum(CreateFlags)
UNDEFINE_FLAGS = sum(UndefineFlags)
SHUTDOWN_FLAGS = sum(ShutdownFlags)
DESTROY_FLAGS = sum(DestroyFlags)

TABLE = Table()


@TABLE.on(remote.DOMAIN_DEFINE_XML)
async def define_xml(session: Session, args: remote.DomainDefineXmlArgs) -> remote.DomainDefineXmlRet:
    return remote.DomainDefineXmlRet(wire_domain(await session.driver.define(args.xml, 0)))


@TABLE.on(remote.DOMAIN_DEFINE_XML_FLAGS)
async def define_xml_flags(session: Session, args: remote.DomainDefineXmlFlagsArgs) -> remote.DomainDefineXmlFlagsRet:
    check_flags(args.flags, DefineFlags.VALIDATE, "qemuDomainDefineXMLFlags")
    return remote.DomainDefineXmlFlagsRet(wire_domain(await session.driver.define(args.xml, args.flags)))


@TABLE.on(remote.DOMAIN_UNDEFINE)
async def undefine(session: Session, args: remote.DomainUndefineArgs) -> None:
    await session.driver.undefine(uuid_of(args.dom), 0)


@TABLE.on(remote.DOMAIN_UNDEFINE_FLAGS)
async def undefine_flags(session: Session, args: remote.DomainUndefineFlagsArgs) -> None:
    check_flags(args.flags, UNDEFINE_FLAGS, "qemuDomainUndefineFlags")
    await session.driver.undefine(uuid_of(args.dom), args.flags)


@TABLE.on(remote.DOMAIN_CREATE_XML)
async def create_xml(session: Session, args: remote.DomainCreateXmlArgs) -> remote.DomainCreateXmlRet:
    check_flags(args.flags, CREATE_FLAGS, "qemuDomainCreateXML")
    return remote.DomainCreateXmlRet(wire_domain(await session.driver.create(args.xml_desc, args.flags, session)))


@TABLE.on(remote.DOMAIN_CREATE)
async def create(session: Session, args: remote.DomainCreateArgs) -> None:
    await session.driver.start(uuid_of(args.dom), 0, session)


@TABLE.on(remote.DOMAIN_CREATE_WITH_FLAGS)
async def create_with_flags(
    session: Session, args: remote.DomainCreateWithFlagsArgs
) -> remote.DomainCreateWithFlagsRet:
    check_flags(args.flags, CREATE_FLAGS, "qemuDomainCreateWithFlags")
    ref = await session.driver.start(uuid_of(args.dom), args.flags, session)
    return remote.DomainCreateWithFlagsRet(wire_domain(ref))


@TABLE.on(remote.DOMAIN_SUSPEND)
async def suspend(session: Session, args: remote.DomainSuspendArgs) -> None:
    await session.driver.suspend(uuid_of(args.dom))


@TABLE.on(remote.DOMAIN_RESUME)
async def resume(session: Session, args: remote.DomainResumeArgs) -> None:
    await session.driver.resume(uuid_of(args.dom))


@TABLE.on(remote.DOMAIN_SHUTDOWN)
async def shutdown(session: Session, args: remote.DomainShutdownArgs) -> None:
    await session.driver.shutdown(uuid_of(args.dom), 0)


@TABLE.on(remote.DOMAIN_SHUTDOWN_FLAGS)
async def shutdown_flags(session: Session, args: remote.DomainShutdownFlagsArgs) -> None:
    check_flags(args.flags, SHUTDOWN_FLAGS, "qemuDomainShutdownFlags")
    await session.driver.shutdown(uuid_of(args.dom), args.flags)


@TABLE.on(remote.DOMAIN_REBOOT)
async def reboot(session: Session, args: remote.DomainRebootArgs) -> None:
    check_flags(args.flags, SHUTDOWN_FLAGS, "qemuDomainReboot")
    await session.driver.reboot(uuid_of(args.dom), args.flags)


@TABLE.on(remote.DOMAIN_RESET)
async def reset(session: Session, args: remote.DomainResetArgs) -> None:
    check_flags(args.flags, 0, "qemuDomainReset")
    await session.driver.reset(uuid_of(args.dom), args.flags)


@TABLE.on(remote.DOMAIN_DESTROY)
async def destroy(session: Session, args: remote.DomainDestroyArgs) -> None:
    await session.driver.destroy(uuid_of(args.dom), 0)


@TABLE.on(remote.DOMAIN_DESTROY_FLAGS)
async def destroy_flags(session: Session, args: remote.DomainDestroyFlagsArgs) -> None:
    check_flags(args.flags, DESTROY_FLAGS, "qemuDomainDestroyFlags")
    await session.driver.destroy(uuid_of(args.dom), args.flags)


@TABLE.on(remote.DOMAIN_SET_AUTOSTART)
async def set_autostart(session: Session, args: remote.DomainSetAutostartArgs) -> None:
    await session.driver.set_autostart(uuid_of(args.dom), bool(args.autostart))
