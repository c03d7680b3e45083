"""Objects that virlet does not have: their lists are empty, which is an answer, where "not supported" would be none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from virlet.daemon.dispatch import Access, Table, check_flags
from virlet.daemon.lookup import at_most, uuid_of
from virlet.daemon.session import Session
from virlet.wire import remote
from virlet.wire.procedure import AnyProcedure

__all__ = ["TABLE"]

LIST_MAX = 16_384

TABLE = Table()

_LISTS: tuple[tuple[AnyProcedure, int, str], ...] = (
    (remote.CONNECT_LIST_ALL_NETWORKS, 0x3F, "networkConnectListAllNetworks"),
    (remote.CONNECT_LIST_ALL_STORAGE_POOLS, 0xFFFFF, "storageConnectListAllStoragePools"),
    (remote.CONNECT_LIST_ALL_INTERFACES, 0x3, "udevConnectListAllInterfaces"),
    (remote.CONNECT_LIST_ALL_NODE_DEVICES, 0xC01FFFFF, "nodeConnectListAllNodeDevices"),
    (remote.CONNECT_LIST_ALL_NWFILTERS, 0, "nwfilterConnectListAllNWFilters"),
    (remote.CONNECT_LIST_ALL_NWFILTER_BINDINGS, 0, "nwfilterConnectListAllNWFilterBindings"),
    (remote.CONNECT_LIST_ALL_SECRETS, 0xF, "secretConnectListAllSecrets"),
)
"""``{need_results, flags}`` to ``{list, ret}``; the flags that libvirt's drivers know."""

_COUNTS: tuple[AnyProcedure, ...] = (
    remote.CONNECT_NUM_OF_NETWORKS,
    remote.CONNECT_NUM_OF_DEFINED_NETWORKS,
    remote.CONNECT_NUM_OF_STORAGE_POOLS,
    remote.CONNECT_NUM_OF_DEFINED_STORAGE_POOLS,
    remote.CONNECT_NUM_OF_INTERFACES,
    remote.CONNECT_NUM_OF_DEFINED_INTERFACES,
    remote.CONNECT_NUM_OF_NWFILTERS,
    remote.CONNECT_NUM_OF_SECRETS,
)

_NAMES: tuple[AnyProcedure, ...] = (
    remote.CONNECT_LIST_NETWORKS,
    remote.CONNECT_LIST_DEFINED_NETWORKS,
    remote.CONNECT_LIST_STORAGE_POOLS,
    remote.CONNECT_LIST_DEFINED_STORAGE_POOLS,
    remote.CONNECT_LIST_INTERFACES,
    remote.CONNECT_LIST_DEFINED_INTERFACES,
    remote.CONNECT_LIST_NWFILTERS,
    remote.CONNECT_LIST_SECRETS,
)
"""``{maxnames}`` to ``{names}``."""

_OF_DOMAIN: tuple[tuple[AnyProcedure, int, str], ...] = (
    (remote.DOMAIN_LIST_ALL_SNAPSHOTS, 0x7FF, "qemuDomainListAllSnapshots"),
    (remote.DOMAIN_LIST_ALL_CHECKPOINTS, 0xF, "qemuDomainListAllCheckpoints"),
)


def _empty_list(procedure: AnyProcedure, known: int, function: str) -> Callable[[Session, Any], Any]:
    def answer(_session: Session, args: Any) -> Any:
        check_flags(args.flags, known, function)
        return (), 0

    return answer


def _empty_list_of_domain(procedure: AnyProcedure, known: int, function: str) -> Callable[[Session, Any], Any]:
    def answer(session: Session, args: Any) -> Any:
        check_flags(args.flags, known, function)
        session.driver.by_uuid(uuid_of(args.dom))
        return (), 0

    return answer


def _no_names(_session: Session, args: Any) -> Any:
    at_most(args[0], LIST_MAX, "maxnames", "REMOTE_LIST_MAX")
    return ((),)


def _none(_session: Session, _args: Any) -> Any:
    return (0,)


for _row in _LISTS:
    TABLE.on(_row[0], Access.READ)(_empty_list(*_row))
for _row in _OF_DOMAIN:
    TABLE.on(_row[0], Access.READ)(_empty_list_of_domain(*_row))
for _procedure in _COUNTS:
    TABLE.on(_procedure, Access.READ)(_none)
for _procedure in _NAMES:
    TABLE.on(_procedure, Access.READ)(_no_names)


@TABLE.on(remote.DOMAIN_SNAPSHOT_NUM)
def snapshot_num(session: Session, args: remote.DomainSnapshotNumArgs) -> remote.DomainSnapshotNumRet:
    check_flags(args.flags, 0x7FF, "qemuDomainSnapshotNum")
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainSnapshotNumRet(0)


@TABLE.on(remote.DOMAIN_SNAPSHOT_LIST_NAMES)
def snapshot_list_names(
    session: Session, args: remote.DomainSnapshotListNamesArgs
) -> remote.DomainSnapshotListNamesRet:
    check_flags(args.flags, 0x7FF, "qemuDomainSnapshotListNames")
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainSnapshotListNamesRet(())


@TABLE.on(remote.DOMAIN_HAS_CURRENT_SNAPSHOT)
def has_current_snapshot(
    session: Session, args: remote.DomainHasCurrentSnapshotArgs
) -> remote.DomainHasCurrentSnapshotRet:
    check_flags(args.flags, 0, "qemuDomainHasCurrentSnapshot")
    session.driver.by_uuid(uuid_of(args.dom))
    return remote.DomainHasCurrentSnapshotRet(0)
