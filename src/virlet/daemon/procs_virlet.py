"""virlet's own program: what libvirt has no procedure for.  Results are JSON texts unless they are bytes."""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from uuid import UUID

import virlet as package
from virlet.daemon.dispatch import Access, Table, check_flags
from virlet.daemon.lookup import uuid_of
from virlet.daemon.session import Session
from virlet.errors import InvalidArg, OperationDenied
from virlet.wire import types, virlet

__all__ = ["TABLE"]

LOG_BYTES = 1_048_576
"""The most log bytes in one reply."""

TABLE = Table()


@TABLE.on(virlet.VERSION, Access.ALWAYS)
def version(_session: Session, _args: None) -> virlet.VersionRet:
    import platform

    details = {"virlet": package.__version__, "python": platform.python_version()}
    return virlet.VersionRet(package.__version__, json.dumps(details))


@TABLE.on(virlet.EXPLAIN, Access.READ)
async def explain(session: Session, args: virlet.ExplainArgs) -> virlet.ExplainRet:
    check_flags(args.flags, 0, "virletExplain")
    if (args.dom is None) is (args.xml is None):
        raise InvalidArg("name a domain or give XML, one of the two")
    answer = await session.explain("virletExplain").explain(_uuid(args.dom), args.xml)
    return virlet.ExplainRet(json.dumps(answer))


def _uuid(dom: types.Domain | None) -> UUID | None:
    return None if dom is None else uuid_of(dom)


@TABLE.on(virlet.DOCTOR, Access.READ)
async def doctor(session: Session, args: virlet.DoctorArgs) -> virlet.DoctorRet:
    check_flags(args.flags, 0, "virletDoctor")
    return virlet.DoctorRet(json.dumps(await session.explain("virletDoctor").doctor()))


@TABLE.on(virlet.PORT_LIST, Access.READ)
def port_list(session: Session, args: virlet.PortListArgs) -> virlet.PortListRet:
    check_flags(args.flags, 0, "virletPortList")
    ports = session.explain("virletPortList").ports(uuid_of(args.dom))
    return virlet.PortListRet(json.dumps(list(ports)))


@TABLE.on(virlet.DOMAIN_DETAILS, Access.READ)
def domain_details(session: Session, args: virlet.DomainDetailsArgs) -> virlet.DomainDetailsRet:
    check_flags(args.flags, 0, "virletDomainDetails")
    details = session.explain("virletDomainDetails").details(uuid_of(args.dom))
    return virlet.DomainDetailsRet(json.dumps(details))


@TABLE.on(virlet.LOGS, Access.READ)
async def logs(session: Session, args: virlet.LogsArgs) -> virlet.LogsRet:
    check_flags(args.flags, 0, "virletLogs")
    limit = min(args.max or LOG_BYTES, LOG_BYTES)
    part = session.explain("virletLogs")
    data, following, end = await part.logs(uuid_of(args.dom), args.which, args.offset, limit)
    return virlet.LogsRet(data, following, int(end))


@TABLE.on(virlet.COMPAT, Access.READ)
def compat(session: Session, args: virlet.CompatArgs) -> virlet.CompatRet:
    check_flags(args.flags, 0, "virletCompat")
    setting, host = session.host.compat, session.host
    if args.action not in ("status", "enable", "disable"):
        raise InvalidArg(f"compat has no action '{args.action}'", hint="use status, enable or disable")
    if args.action != "status" and session.readonly:
        raise OperationDenied("read only access prevents changes of compat")
    if args.action == "enable":
        setting.enable(os.environ)
        host.serve_compat()
    elif args.action == "disable":
        host.drop_compat()
    return virlet.CompatRet(json.dumps(asdict(setting.status())))
