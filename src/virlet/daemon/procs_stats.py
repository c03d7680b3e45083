"""Numbers of domains, and what is written about them: what managers poll, and ``virsh desc`` and ``virsh metadata``."""

from __future__ import annotations

from virlet.daemon.dispatch import Access, Table, check_flags
from virlet.daemon.lookup import affected, running, uuid_of, wire_domain
from virlet.daemon.session import Session
from virlet.engine.api import Annotate, DomainRef, Statistics
from virlet.enums import Affect, ListDomainsFlags, MetadataType, StatsTypes
from virlet.errors import ArgumentUnsupported, InvalidArg, NoDomain, NoSupport
from virlet.model.metadata import MetadataChange
from virlet.wire import remote, types
from virlet.wire.typed import TypedValue, ValueType

__all__ = ["TABLE"]

FILTERS = 0xFF
"""``virConnectGetAllDomainStatsFlags``: which domains, as :class:`ListDomainsFlags`."""
NOWAIT, BACKING, ENFORCE = 1 << 29, 1 << 30, 1 << 31
"""Hints that we need not heed, and one that we must."""
VCPU_MAXIMUM, VCPU_GUEST = 4, 8
ACTUAL_BALLOON, RSS = 6, 7
"""Tags of ``virDomainMemoryStatTags``."""

TABLE = Table()


def _statistics(session: Session, api: str) -> Statistics:
    if not isinstance(session.driver, Statistics):
        raise NoSupport(api)
    return session.driver


@TABLE.on(remote.CONNECT_GET_ALL_DOMAIN_STATS)
def get_all_domain_stats(
    session: Session, args: remote.ConnectGetAllDomainStatsArgs
) -> remote.ConnectGetAllDomainStatsRet:
    check_flags(args.flags, FILTERS | NOWAIT | BACKING | ENFORCE, "qemuConnectGetAllDomainStats")
    source = _statistics(session, "virConnectGetAllDomainStats")
    known = sum(StatsTypes)
    if args.flags & ENFORCE and args.stats & ~known:
        raise ArgumentUnsupported(f"Stats types bits {args.stats & ~known:#x} are not supported by this daemon")
    groups = StatsTypes(args.stats & known) if args.stats else StatsTypes(known)
    records = []
    for ref in _chosen(session, args):
        numbers = source.statistics(ref.uuid, groups)
        params = [types.TypedParam(name, _typed(name, value)) for name, value in numbers.items()]
        records.append(types.DomainStatsRecord(wire_domain(ref), params))
    return remote.ConnectGetAllDomainStatsRet(records)


def _chosen(session: Session, args: remote.ConnectGetAllDomainStatsArgs) -> list[DomainRef]:
    """The domains that were named, those of them that still exist; without names all that the flags let through."""
    wanted = list(session.driver.domains(ListDomainsFlags(args.flags & FILTERS)))
    if not args.doms:
        return wanted
    let_through = {ref.uuid for ref in wanted}
    found = []
    for dom in args.doms:
        try:
            ref = session.driver.by_uuid(uuid_of(dom))
        except NoDomain:
            continue
        if ref.uuid in let_through:
            found.append(ref)
    return found


_INT, _UINT = ("state", "reason"), ("current", "maximum", "count")


def _typed(name: str, value: int | str) -> TypedValue:
    """*value* with the type that libvirt documents for statistics of that name."""
    if isinstance(value, str):
        return TypedValue(ValueType.STRING, value)
    last = name.rpartition(".")[2]
    if last in _INT:
        return TypedValue(ValueType.INT, value)
    if last in _UINT and not name.startswith("balloon."):
        return TypedValue(ValueType.UINT, value)
    return TypedValue(ValueType.ULLONG, value)


@TABLE.on(remote.DOMAIN_GET_VCPUS_FLAGS, Access.READ)
def get_vcpus_flags(session: Session, args: remote.DomainGetVcpusFlagsArgs) -> remote.DomainGetVcpusFlagsRet:
    known = Affect.LIVE | Affect.CONFIG | VCPU_MAXIMUM | VCPU_GUEST
    check_flags(args.flags, known, "qemuDomainGetVcpusFlags")
    source, uuid = _statistics(session, "virDomainGetVcpusFlags"), uuid_of(args.dom)
    session.driver.by_uuid(uuid)
    if args.flags & VCPU_GUEST:
        raise ArgumentUnsupported("QEMU guest agent is not configured")
    affect = affected(session, uuid, args.flags)
    if affect == Affect.LIVE | Affect.CONFIG:
        raise InvalidArg("flags live and config are mutually exclusive")
    current, maximum = source.vcpu_counts(uuid, affect)
    return remote.DomainGetVcpusFlagsRet(maximum if args.flags & VCPU_MAXIMUM else current)


@TABLE.on(remote.DOMAIN_GET_MAX_VCPUS)
def get_max_vcpus(session: Session, args: remote.DomainGetMaxVcpusArgs) -> remote.DomainGetMaxVcpusRet:
    source, uuid = _statistics(session, "virDomainGetMaxVcpus"), uuid_of(args.dom)
    return remote.DomainGetMaxVcpusRet(source.vcpu_counts(uuid, affected(session, uuid, 0))[1])


@TABLE.on(remote.DOMAIN_MEMORY_STATS)
def memory_stats(session: Session, args: remote.DomainMemoryStatsArgs) -> remote.DomainMemoryStatsRet:
    check_flags(args.flags, 0, "qemuDomainMemoryStats")
    source, uuid = _statistics(session, "virDomainMemoryStats"), uuid_of(args.dom)
    running(session, uuid)
    numbers = source.statistics(uuid, StatsTypes.BALLOON)
    tags = {ACTUAL_BALLOON: "balloon.current", RSS: "balloon.rss"}
    stats = [types.DomainMemoryStat(tag, int(numbers[name])) for tag, name in tags.items() if name in numbers]
    return remote.DomainMemoryStatsRet(stats[: args.maxStats])


@TABLE.on(remote.DOMAIN_SET_METADATA, Access.WRITE)
async def set_metadata(session: Session, args: remote.DomainSetMetadataArgs) -> None:
    check_flags(args.flags, Affect.LIVE | Affect.CONFIG, "qemuDomainSetMetadata")
    driver, uuid = session.driver, uuid_of(args.dom)
    if not isinstance(driver, Annotate):
        raise NoSupport("virDomainSetMetadata")
    driver.by_uuid(uuid)
    try:
        kind = MetadataType(args.type)
    except ValueError:
        raise InvalidArg(f"unknown metadata type {args.type}") from None
    change = MetadataChange(kind, args.metadata, args.key, args.uri)
    await driver.set_metadata(uuid, change, affected(session, uuid, args.flags))
