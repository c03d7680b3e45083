"""Every question a client can ask, once: the facades in ``aio`` and ``sync`` only differ in how they wait.

Functions whose first parameter is *dom* become methods of ``Domain``, the others of ``Connection``; these docstrings
are theirs.  All of them raise :class:`~virlet.errors.VirletError` with libvirt's code when the server says no.
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from virlet.client.mail import Inbox
from virlet.client.request import Request, fd_request, request, same, stream_request
from virlet.client.values import DomainInfo, Json, LogChunk, NodeInfo, State, bare_uuid
from virlet.enums import (
    Affect,
    ConsoleFlags,
    CreateFlags,
    DefineFlags,
    DestroyFlags,
    ListDomainsFlags,
    ShutdownFlags,
    UndefineFlags,
    XmlFlags,
)
from virlet.errors import InvalidArg, NoDomain, RpcError
from virlet.wire import remote, virlet
from virlet.wire.packet import FDS_MAX
from virlet.wire.types import Domain

__all__ = [
    "attach_device",
    "autostart",
    "capabilities",
    "compat",
    "console",
    "create",
    "define",
    "destroy",
    "detach_device",
    "details",
    "doctor",
    "domain_capabilities",
    "domains",
    "domxml_to_native",
    "driver_type",
    "explain",
    "explain_xml",
    "fd_associate",
    "hostname",
    "id_",
    "info",
    "is_active",
    "is_persistent",
    "lib_version",
    "logs",
    "lookup_by_id",
    "lookup_by_name",
    "lookup_by_uuid",
    "metadata",
    "node_info",
    "open_graphics",
    "ports",
    "reboot",
    "rename",
    "reset",
    "resume",
    "server_version",
    "set_autostart",
    "set_metadata",
    "shutdown",
    "start",
    "state",
    "suspend",
    "undefine",
    "update_device",
    "uri",
    "version",
    "xml",
]

NO_AFFECT = Affect.CURRENT


# Connection


def driver_type() -> Request[str]:
    """The driver's name: ``QEMU``."""
    return request(remote.CONNECT_GET_TYPE, None, lambda ret: ret.type)


def version() -> Request[int]:
    """The hypervisor's version: major * 1 000 000 + minor * 1000 + micro."""
    return request(remote.CONNECT_GET_VERSION, None, lambda ret: ret.hv_ver)


def lib_version() -> Request[int]:
    """The version of libvirt that the server is, or stands for, counted like :func:`version`."""
    return request(remote.CONNECT_GET_LIB_VERSION, None, lambda ret: ret.lib_ver)


def hostname() -> Request[str]:
    """The server's host."""
    return request(remote.CONNECT_GET_HOSTNAME, None, lambda ret: ret.hostname)


def uri() -> Request[str]:
    """The server's own name for what is connected: ``qemu:///session``."""
    return request(remote.CONNECT_GET_URI, None, lambda ret: ret.uri)


def capabilities() -> Request[str]:
    """What the host can run, as XML."""
    return request(remote.CONNECT_GET_CAPABILITIES, None, lambda ret: ret.capabilities)


def domain_capabilities(
    *, emulator: str | None = None, arch: str | None = None, machine: str | None = None, virttype: str | None = None
) -> Request[str]:
    """What one emulator and machine can do, as XML; what is not given is the server's choice."""
    args = remote.ConnectGetDomainCapabilitiesArgs(emulator, arch, machine, virttype, 0)
    return request(remote.CONNECT_GET_DOMAIN_CAPABILITIES, args, lambda ret: ret.capabilities)


def node_info() -> Request[NodeInfo]:
    """The host's processor and memory."""

    def convert(ret: remote.NodeGetInfoRet) -> NodeInfo:
        model, *numbers = ret
        return NodeInfo(bytes(model).decode("utf-8", "replace"), *numbers)

    return request(remote.NODE_GET_INFO, None, convert)


def domains(flags: ListDomainsFlags | int = 0) -> Request[tuple[Domain, ...]]:
    """All domains, or those that *flags* choose."""
    args = remote.ConnectListAllDomainsArgs(1, int(flags))
    return request(remote.CONNECT_LIST_ALL_DOMAINS, args, lambda ret: tuple(ret.domains))


def lookup_by_name(name: str) -> Request[Domain]:
    """The domain of that name; :class:`~virlet.errors.NoDomain` when there is none."""
    return request(remote.DOMAIN_LOOKUP_BY_NAME, remote.DomainLookupByNameArgs(name), lambda ret: ret.dom)


def lookup_by_uuid(uuid: str) -> Request[Domain]:
    """The domain with that UUID; :class:`~virlet.errors.NoDomain` when there is none."""
    raw = bare_uuid(uuid)
    if raw is None:
        raise InvalidArg(f"'{uuid}' is no UUID")
    return request(remote.DOMAIN_LOOKUP_BY_UUID, remote.DomainLookupByUuidArgs(raw), lambda ret: ret.dom)


def lookup_by_id(number: int) -> Request[Domain]:
    """The running domain with that id; :class:`~virlet.errors.NoDomain` when there is none."""
    if not 0 <= number < 1 << 31:
        raise NoDomain(f"no domain with matching id {number}")
    return request(remote.DOMAIN_LOOKUP_BY_ID, remote.DomainLookupByIdArgs(number), lambda ret: ret.dom)


def define(xml: str, flags: DefineFlags | int = 0) -> Request[Domain]:
    """Define a domain, or redefine the one with this name and UUID."""
    args = remote.DomainDefineXmlFlagsArgs(xml, int(flags))
    return request(remote.DOMAIN_DEFINE_XML_FLAGS, args, lambda ret: ret.dom)


def create(xml: str, flags: CreateFlags | int = 0) -> Request[Domain]:
    """Start a domain that is forgotten when it stops."""
    return request(remote.DOMAIN_CREATE_XML, remote.DomainCreateXmlArgs(xml, int(flags)), lambda ret: ret.dom)


def domxml_to_native(xml: str, native_format: str = "qemu-argv") -> Request[str]:
    """The command lines that a start of *xml* would run."""
    args = remote.ConnectDomainXmlToNativeArgs(native_format, xml, 0)
    return request(remote.CONNECT_DOMAIN_XML_TO_NATIVE, args, lambda ret: ret.nativeConfig)


def server_version() -> Request[tuple[str, Json]]:
    """virletd's version, and details of what it uses."""
    return request(virlet.VERSION, None, lambda ret: (ret.version, _object(ret.details)))


def explain_xml(xml: str) -> Request[Json]:
    """What a start of *xml* would do, without doing it."""
    return request(virlet.EXPLAIN, virlet.ExplainArgs(None, xml, 0), lambda ret: _object(ret.result))


def doctor() -> Request[Json]:
    """What works on this host, what does not, and what to do about it."""
    return request(virlet.DOCTOR, virlet.DoctorArgs(0), lambda ret: _object(ret.result))


def compat(action: str) -> Request[Json]:
    """``enable``, ``disable`` or ``status``: whether virletd also serves libvirt's own session path."""
    return request(virlet.COMPAT, virlet.CompatArgs(action, 0), lambda ret: _object(ret.result))


def _object(text: str) -> Json:
    import json  # late: most commands never need it

    try:
        value = json.loads(text)
    except ValueError:
        raise RpcError("the server's answer is no JSON") from None
    return value if isinstance(value, dict) else {"result": value}


# Domain


def start(dom: Domain, flags: CreateFlags | int = 0) -> Request[None]:
    """Start it."""
    args = remote.DomainCreateWithFlagsArgs(dom, int(flags))
    return request(remote.DOMAIN_CREATE_WITH_FLAGS, args, lambda ret: None)


def destroy(dom: Domain, flags: DestroyFlags | int = 0) -> Request[None]:
    """Stop it at once, like pulling the plug; its disks are flushed all the same."""
    return request(remote.DOMAIN_DESTROY_FLAGS, remote.DomainDestroyFlagsArgs(dom, int(flags)), same)


def shutdown(dom: Domain, flags: ShutdownFlags | int = 0) -> Request[None]:
    """Ask the guest to shut down; it may take its time, or refuse."""
    return request(remote.DOMAIN_SHUTDOWN_FLAGS, remote.DomainShutdownFlagsArgs(dom, int(flags)), same)


def reboot(dom: Domain, flags: ShutdownFlags | int = 0) -> Request[None]:
    """Ask the guest to reboot."""
    return request(remote.DOMAIN_REBOOT, remote.DomainRebootArgs(dom, int(flags)), same)


def reset(dom: Domain) -> Request[None]:
    """Press its reset button."""
    return request(remote.DOMAIN_RESET, remote.DomainResetArgs(dom, 0), same)


def suspend(dom: Domain) -> Request[None]:
    """Stop its processors; memory and connections stay."""
    return request(remote.DOMAIN_SUSPEND, remote.DomainSuspendArgs(dom), same)


def resume(dom: Domain) -> Request[None]:
    """Let its processors run again."""
    return request(remote.DOMAIN_RESUME, remote.DomainResumeArgs(dom), same)


def undefine(dom: Domain, flags: UndefineFlags | int = 0) -> Request[None]:
    """Forget its definition; while it runs it becomes transient."""
    return request(remote.DOMAIN_UNDEFINE_FLAGS, remote.DomainUndefineFlagsArgs(dom, int(flags)), same)


def xml(dom: Domain, flags: XmlFlags | int = 0) -> Request[str]:
    """Its XML: as it runs now, or with INACTIVE as it will next start."""
    return request(remote.DOMAIN_GET_XML_DESC, remote.DomainGetXmlDescArgs(dom, int(flags)), lambda ret: ret.xml)


def info(dom: Domain) -> Request[DomainInfo]:
    """State, memory, processors, time used."""

    def convert(ret: remote.DomainGetInfoRet) -> DomainInfo:
        state, *rest = ret
        return DomainInfo(State.of(state, 0).state, *rest)

    return request(remote.DOMAIN_GET_INFO, remote.DomainGetInfoArgs(dom), convert)


def state(dom: Domain) -> Request[State]:
    """What it does, and why."""
    args = remote.DomainGetStateArgs(dom, 0)
    return request(remote.DOMAIN_GET_STATE, args, lambda ret: State.of(ret.state, ret.reason))


def id_(dom: Domain) -> Request[int | None]:
    """The id of the present run; None while it does not run."""
    args = remote.DomainLookupByUuidArgs(dom.uuid)
    return request(remote.DOMAIN_LOOKUP_BY_UUID, args, lambda ret: ret.dom.id if ret.dom.id >= 0 else None)


def is_active(dom: Domain) -> Request[bool]:
    """Whether it runs (or is paused)."""
    return request(remote.DOMAIN_IS_ACTIVE, remote.DomainIsActiveArgs(dom), lambda ret: bool(ret.active))


def is_persistent(dom: Domain) -> Request[bool]:
    """Whether it has a definition that outlives the run."""
    return request(remote.DOMAIN_IS_PERSISTENT, remote.DomainIsPersistentArgs(dom), lambda ret: bool(ret.persistent))


def autostart(dom: Domain) -> Request[bool]:
    """Whether it starts with the server."""
    return request(remote.DOMAIN_GET_AUTOSTART, remote.DomainGetAutostartArgs(dom), lambda ret: bool(ret.autostart))


def set_autostart(dom: Domain, on: bool) -> Request[None]:
    """Let it start with the server, or not."""
    return request(remote.DOMAIN_SET_AUTOSTART, remote.DomainSetAutostartArgs(dom, int(on)), same)


def rename(dom: Domain, name: str) -> Request[None]:
    """Give it another name while it does not run."""
    return request(remote.DOMAIN_RENAME, remote.DomainRenameArgs(dom, name, 0), lambda ret: None)


def attach_device(dom: Domain, xml: str, flags: Affect | int = NO_AFFECT) -> Request[None]:
    """Add a device, given as XML."""
    args = remote.DomainAttachDeviceFlagsArgs(dom, xml, int(flags))
    return request(remote.DOMAIN_ATTACH_DEVICE_FLAGS, args, same)


def detach_device(dom: Domain, xml: str, flags: Affect | int = NO_AFFECT) -> Request[None]:
    """Remove the device that the XML describes; a running guest may take its time."""
    args = remote.DomainDetachDeviceFlagsArgs(dom, xml, int(flags))
    return request(remote.DOMAIN_DETACH_DEVICE_FLAGS, args, same)


def update_device(dom: Domain, xml: str, flags: Affect | int = NO_AFFECT) -> Request[None]:
    """Change the device that the XML describes."""
    args = remote.DomainUpdateDeviceFlagsArgs(dom, xml, int(flags))
    return request(remote.DOMAIN_UPDATE_DEVICE_FLAGS, args, same)


def metadata(dom: Domain, kind: int, namespace: str | None = None, flags: Affect | int = NO_AFFECT) -> Request[str]:
    """Its description (kind 0), title (1) or the element of a namespace (2)."""
    args = remote.DomainGetMetadataArgs(dom, kind, namespace, int(flags))
    return request(remote.DOMAIN_GET_METADATA, args, lambda ret: ret.metadata)


def set_metadata(
    dom: Domain,
    kind: int,
    value: str | None,
    *,
    key: str | None = None,
    namespace: str | None = None,
    flags: Affect | int = NO_AFFECT,
) -> Request[None]:
    """Set what :func:`metadata` reads; None removes it.  *key* is the prefix of the namespace."""
    args = remote.DomainSetMetadataArgs(dom, kind, value, key, namespace, int(flags))
    return request(remote.DOMAIN_SET_METADATA, args, same)


def fd_associate(dom: Domain, name: str, fds: Sequence[int], flags: int = 0) -> Request[None]:
    """Give the domain descriptors under the *name* of a group, as ``<virlet:backend fdgroup=…/>`` names it.

    The server has copies until this connection ends; your own are yours to close.  InvalidArg for none, too many,
    or one that is not open.
    """
    if not 1 <= len(fds) <= FDS_MAX:
        raise InvalidArg(f"a group has 1 to {FDS_MAX} file descriptors, not {len(fds)}")
    for fd in fds:
        try:
            os.fstat(fd)
        except OSError:  # The kernel would say so when it is sent, which costs the connection.
            raise InvalidArg(f"file descriptor {fd} is not open") from None
    args = remote.DomainFdAssociateArgs(dom, name, flags)
    return Request(remote.DOMAIN_FD_ASSOCIATE, args, same, fds=tuple(fds))


def console(dom: Domain, device: str | None = None, flags: ConsoleFlags | int = 0) -> Request[Inbox]:
    """A console as a stream: the first one, or the one with that alias."""
    return stream_request(remote.DOMAIN_OPEN_CONSOLE, remote.DomainOpenConsoleArgs(dom, device, int(flags)))


def open_graphics(dom: Domain, index: int = 0) -> Request[int]:
    """A connected socket to its *index*-th display; the file descriptor is the caller's to close."""
    args = remote.DomainOpenGraphicsFdArgs(dom, index, 0)
    return fd_request(remote.DOMAIN_OPEN_GRAPHICS_FD, args)


def explain(dom: Domain) -> Request[Json]:
    """What its next start would do, without doing it."""
    return request(virlet.EXPLAIN, virlet.ExplainArgs(dom, None, 0), lambda ret: _object(ret.result))


def ports(dom: Domain) -> Request[Json]:
    """The host's ports that lead to it."""
    return request(virlet.PORT_LIST, virlet.PortListArgs(dom, 0), lambda ret: _object(ret.result))


def details(dom: Domain) -> Request[Json]:
    """What virletd knows about its processes: pids, backend, restarts."""
    return request(virlet.DOMAIN_DETAILS, virlet.DomainDetailsArgs(dom, 0), lambda ret: _object(ret.result))


def logs(dom: Domain, which: str = "qemu", offset: int = 0, limit: int = 65_536) -> Request[LogChunk]:
    """A piece of a log: ``qemu``'s, ``passt``'s, or that of the device with this alias.

    A negative *offset* counts from the end; *limit* is in bytes.
    """
    args = virlet.LogsArgs(dom, which, offset, limit, 0)
    return request(virlet.LOGS, args, lambda ret: LogChunk(ret.data, ret.next_offset, bool(ret.eof)))
