"""What can be known about domains.  Nothing here waits."""

from __future__ import annotations

from uuid import UUID

from virlet.daemon.dispatch import Access, Table, check_flags
from virlet.daemon.lookup import affected, at_most, running, uuid_of, wire_domain
from virlet.daemon.metadata import metadata_of
from virlet.daemon.session import Session
from virlet.enums import Affect, ListDomainsFlags, XmlFlags
from virlet.errors import OperationDenied
from virlet.wire import remote
from virlet.wire.remote import (
    DomainGetInfoRet,
    DomainGetStateRet,
    DomainGetXmlDescRet,
    DomainLookupByNameRet,
    DomainLookupByUuidRet,
)

__all__ = ["TABLE"]

LIST_MAX = 16_384
LIST_FLAGS = sum(ListDomainsFlags)
XML_FLAGS = sum(XmlFlags)

TABLE = Table()


@TABLE.on(remote.CONNECT_LIST_ALL_DOMAINS)
def list_all_domains(session: Session, args: remote.ConnectListAllDomainsArgs) -> remote.ConnectListAllDomainsRet:
    check_flags(args.flags, LIST_FLAGS, "qemuConnectListAllDomains")
    found = session.driver.domains(ListDomainsFlags(args.flags))
    domains = [wire_domain(ref) for ref in found] if args.need_results else []
    return remote.ConnectListAllDomainsRet(domains, len(found))


@TABLE.on(remote.CONNECT_NUM_OF_DOMAINS)
def num_of_domains(session: Session, _args: None) -> remote.ConnectNumOfDomainsRet:
    return remote.ConnectNumOfDomainsRet(len(session.driver.domains(ListDomainsFlags.ACTIVE)))


@TABLE.on(remote.CONNECT_LIST_DOMAINS)
def list_domains(session: Session, args: remote.ConnectListDomainsArgs) -> remote.ConnectListDomainsRet:
    limit = at_most(args.maxids, LIST_MAX, "maxids", "REMOTE_DOMAIN_LIST_MAX")
    return remote.ConnectListDomainsRet([ref.id for ref in session.driver.domains(ListDomainsFlags.ACTIVE)][:limit])


@TABLE.on(remote.CONNECT_NUM_OF_DEFINED_DOMAINS)
def num_of_defined_domains(session: Session, _args: None) -> remote.ConnectNumOfDefinedDomainsRet:
    return remote.ConnectNumOfDefinedDomainsRet(len(session.driver.domains(ListDomainsFlags.INACTIVE)))


@TABLE.on(remote.CONNECT_LIST_DEFINED_DOMAINS)
def list_defined_domains(
    session: Session, args: remote.ConnectListDefinedDomainsArgs
) -> remote.ConnectListDefinedDomainsRet:
    limit = at_most(args.maxnames, LIST_MAX, "maxnames", "REMOTE_DOMAIN_LIST_MAX")
    names = [ref.name for ref in session.driver.domains(ListDomainsFlags.INACTIVE)]
    return remote.ConnectListDefinedDomainsRet(names[:limit])


@TABLE.on(remote.DOMAIN_LOOKUP_BY_NAME)
def lookup_by_name(session: Session, args: remote.DomainLookupByNameArgs) -> remote.DomainLookupByNameRet:
    return DomainLookupByNameRet(wire_domain(session.driver.by_name(args.name)))


@TABLE.on(remote.DOMAIN_LOOKUP_BY_UUID)
def lookup_by_uuid(session: Session, args: remote.DomainLookupByUuidArgs) -> remote.DomainLookupByUuidRet:
    return DomainLookupByUuidRet(wire_domain(session.driver.by_uuid(UUID(bytes=args.uuid))))


@TABLE.on(remote.DOMAIN_LOOKUP_BY_ID)
def lookup_by_id(session: Session, args: remote.DomainLookupByIdArgs) -> remote.DomainLookupByIdRet:
    return remote.DomainLookupByIdRet(wire_domain(session.driver.by_id(args.id)))


@TABLE.on(remote.DOMAIN_GET_STATE)
def get_state(session: Session, args: remote.DomainGetStateArgs) -> remote.DomainGetStateRet:
    check_flags(args.flags, 0, "qemuDomainGetState")
    return DomainGetStateRet(*session.driver.state(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_GET_INFO)
def get_info(session: Session, args: remote.DomainGetInfoArgs) -> remote.DomainGetInfoRet:
    info = session.driver.info(uuid_of(args.dom))
    return DomainGetInfoRet(info.state, info.max_memory, info.memory, info.vcpus, info.cpu_time)


@TABLE.on(remote.DOMAIN_GET_MAX_MEMORY)
def get_max_memory(session: Session, args: remote.DomainGetMaxMemoryArgs) -> remote.DomainGetMaxMemoryRet:
    return remote.DomainGetMaxMemoryRet(session.driver.info(uuid_of(args.dom)).max_memory)


@TABLE.on(remote.DOMAIN_GET_XML_DESC)
def get_xml_desc(session: Session, args: remote.DomainGetXmlDescArgs) -> remote.DomainGetXmlDescRet:
    check_flags(args.flags, XML_FLAGS, "qemuDomainGetXMLDesc")
    if session.readonly and args.flags & (XmlFlags.SECURE | XmlFlags.MIGRATABLE):
        raise OperationDenied("virDomainGetXMLDesc with secure flag")
    return DomainGetXmlDescRet(session.driver.xml(uuid_of(args.dom), args.flags))


@TABLE.on(remote.DOMAIN_GET_OS_TYPE)
def get_os_type(session: Session, args: remote.DomainGetOsTypeArgs) -> remote.DomainGetOsTypeRet:
    return remote.DomainGetOsTypeRet(session.driver.os_type(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_IS_ACTIVE)
def is_active(session: Session, args: remote.DomainIsActiveArgs) -> remote.DomainIsActiveRet:
    return remote.DomainIsActiveRet(session.driver.is_active(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_IS_PERSISTENT)
def is_persistent(session: Session, args: remote.DomainIsPersistentArgs) -> remote.DomainIsPersistentRet:
    return remote.DomainIsPersistentRet(session.driver.is_persistent(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_IS_UPDATED)
def is_updated(session: Session, args: remote.DomainIsUpdatedArgs) -> remote.DomainIsUpdatedRet:
    return remote.DomainIsUpdatedRet(session.driver.is_updated(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_GET_AUTOSTART)
def get_autostart(session: Session, args: remote.DomainGetAutostartArgs) -> remote.DomainGetAutostartRet:
    return remote.DomainGetAutostartRet(session.driver.autostart(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_GET_AUTOSTART_ONCE, Access.READ)
def get_autostart_once(session: Session, args: remote.DomainGetAutostartOnceArgs) -> remote.DomainGetAutostartOnceRet:
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainGetAutostartOnceRet(0)


@TABLE.on(remote.DOMAIN_GET_MESSAGES, Access.READ)
def get_messages(session: Session, args: remote.DomainGetMessagesArgs) -> remote.DomainGetMessagesRet:
    # 1 deprecations, 2 tainting (virDomainMessageType): drivers do not tell them apart, every set of flags has all.
    check_flags(args.flags, 3, "qemuDomainGetMessages")
    return remote.DomainGetMessagesRet(session.driver.messages(uuid_of(args.dom)))


@TABLE.on(remote.DOMAIN_GET_METADATA)
def get_metadata(session: Session, args: remote.DomainGetMetadataArgs) -> remote.DomainGetMetadataRet:
    check_flags(args.flags, Affect.LIVE | Affect.CONFIG, "qemuDomainGetMetadata")
    uuid = uuid_of(args.dom)
    inactive = affected(session, uuid, args.flags) is Affect.CONFIG
    xml = session.driver.xml(uuid, XmlFlags.INACTIVE if inactive else 0)
    return remote.DomainGetMetadataRet(metadata_of(xml, args.type, args.uri))


@TABLE.on(remote.DOMAIN_GET_CONTROL_INFO)
def get_control_info(session: Session, args: remote.DomainGetControlInfoArgs) -> remote.DomainGetControlInfoRet:
    check_flags(args.flags, 0, "qemuDomainGetControlInfo")
    uuid = uuid_of(args.dom)
    running(session, uuid)
    found = session.driver.control(uuid)
    return remote.DomainGetControlInfoRet(found.state, found.reason, found.milliseconds)


@TABLE.on(remote.DOMAIN_GET_JOB_INFO)
def get_job_info(session: Session, args: remote.DomainGetJobInfoArgs) -> remote.DomainGetJobInfoRet:
    running(session, uuid_of(args.dom))
    return remote.DomainGetJobInfoRet(*(0,) * 12)


@TABLE.on(remote.DOMAIN_GET_JOB_STATS)
def get_job_stats(session: Session, args: remote.DomainGetJobStatsArgs) -> remote.DomainGetJobStatsRet:
    check_flags(args.flags, 3, "qemuDomainGetJobStats")
    if not args.flags & 1:
        running(session, uuid_of(args.dom))
    return remote.DomainGetJobStatsRet(0, ())


@TABLE.on(remote.DOMAIN_GET_SECURITY_LABEL)
def get_security_label(session: Session, args: remote.DomainGetSecurityLabelArgs) -> remote.DomainGetSecurityLabelRet:
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainGetSecurityLabelRet(b"\0", 0)


@TABLE.on(remote.DOMAIN_GET_SECURITY_LABEL_LIST)
def get_security_label_list(
    session: Session, args: remote.DomainGetSecurityLabelListArgs
) -> remote.DomainGetSecurityLabelListRet:
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainGetSecurityLabelListRet((), 0)


@TABLE.on(remote.DOMAIN_HAS_MANAGED_SAVE_IMAGE)
def has_managed_save_image(
    session: Session, args: remote.DomainHasManagedSaveImageArgs
) -> remote.DomainHasManagedSaveImageRet:
    check_flags(args.flags, 0, "qemuDomainHasManagedSaveImage")
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainHasManagedSaveImageRet(0)
