"""What libvirt refuses about an ``<interface>`` when it is defined, whatever the host can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import Problem
from virlet.model.check_guest_forward import check_guest_forwards
from virlet.model.check_passt import check_passt_options
from virlet.model.interface import (
    Family,
    Interface,
    InterfaceIp,
    InterfaceRoute,
    InterfaceType,
    SocketMode,
    TeamingType,
)

__all__ = ["check_interface"]

_BRIDGED = frozenset({InterfaceType.BRIDGE, InterfaceType.NETWORK})
_WITH_MTU = frozenset({InterfaceType.ETHERNET, InterfaceType.VHOSTUSER, *_BRIDGED})
_WITH_PORT_PROFILE = frozenset({InterfaceType.DIRECT, InterfaceType.HOSTDEV, *_BRIDGED})
_PASST_TYPES = (InterfaceType.USER, InterfaceType.VHOSTUSER)
_USE_PASST = "add <backend type='passt'/>"


@dataclass(frozen=True, slots=True)
class _Nic:
    """An interface and where it stands."""

    nic: Interface
    path: str

    def unsupported(self, below: str, message: str, hint: str | None = None) -> Problem:
        return Problem(f"{self.path}/{below}", message, hint)

    def wrong(self, below: str, message: str, hint: str | None = None) -> Problem:
        return Problem(f"{self.path}/{below}", message, hint, ErrorCode.XML_ERROR)

    def missing(self, attribute: str, element: str) -> Problem:
        below = "source" if element == "source" else f"source/{element}"
        return self.wrong(below, f"Missing required attribute '{attribute}' in element '{element}'")


def check_interface(nic: Interface, path: str) -> Iterator[Problem]:
    """Every problem of *nic*, which stands at *path* and has been settled (:mod:`virlet.model.defaults_interface`)."""
    subject = _Nic(nic, path)
    for check in _CHECKS:
        yield from check(subject)
    yield from check_passt_options(nic, path)
    yield from check_guest_forwards(nic, path)


def _given(at: _Nic) -> Iterator[Problem]:
    """A group of descriptors is for one backend, on one type of interface."""
    forced = at.nic.forced
    if forced is None or forced.fdgroup is None:
        return
    if forced.name != "socket":
        message = f"the backend '{forced.name}' takes no file descriptor group"
        yield at.unsupported("virlet:backend/@fdgroup", message, "use name='socket'")
    elif at.nic.type is not InterfaceType.USER or at.nic.needs_passt:
        message = "a connection that was given can only be used with interface type='user', without passt"
        yield at.unsupported("virlet:backend/@fdgroup", message)


def _passt(at: _Nic) -> Iterator[Problem]:
    nic = at.nic
    passt = nic.wants_passt
    if passt and nic.type not in _PASST_TYPES:
        message = "The 'passt' backend can only be used with interface type='user' or type='vhostuser'"
        yield at.unsupported("backend/@type", message)
    if not passt and nic.backend is not None:
        for name in ("hostname", "fqdn"):
            if getattr(nic.backend, name) is not None:
                # libvirt says "fqdn" for both.
                yield at.unsupported(
                    f"backend/@{name}",
                    f"The '{name}' attribute of the <backend> element can only be used with the <backend> type='passt'",
                    "add type='passt'",
                )
    # libvirt wants passt named; here an interface that names no backend gets one that can forward (docs/network.md).
    if nic.port_forwards and nic.type is not InterfaceType.USER and not (passt and nic.type in _PASST_TYPES):
        yield at.unsupported(
            "portForward[1]",
            "The <portForward> element can only be used with the 'passt' backend of interface type='user' or "
            "type='vhostuser'",
        )


def _forwards(at: _Nic) -> Iterator[Problem]:
    for number, forward in enumerate(at.nic.port_forwards, 1):
        for place, ports in enumerate(forward.ranges, 1):
            more = ports.end is not None or ports.to is not None or ports.exclude is not None
            if ports.start is None and more:
                yield at.unsupported(
                    f"portForward[{number}]/range[{place}]",
                    "The 'range' of a 'portForward' requires 'start' attribute if 'end', 'to', or 'exclude' is "
                    "specified",
                )


def _ips(at: _Nic) -> Iterator[Problem]:
    nic = at.nic
    if nic.ips and not (nic.type is InterfaceType.USER or (nic.wants_passt and nic.type in _PASST_TYPES)):
        yield at.unsupported(
            "ip[1]",
            "Invalid attempt to set network interface guest-side IP address info, not supported for this interface "
            "type/backend",
        )
        return
    seen: set[Family] = set()
    for number, ip in enumerate(nic.ips, 1):
        path = f"ip[{number}]"
        family = Family(f"ipv{ip.address.version}")
        if ip.family is not None and ip.family is not family:
            yield at.wrong(f"{path}/@address", f"Invalid address '{ip.address}' in <ip>")
        if family in seen:
            spelt = "IPv4" if family is Family.IPV4 else "IPv6"
            yield at.unsupported(path, f"Only one {spelt} address per interface is allowed")
        seen.add(family)
        if ip.peer is not None:
            yield at.unsupported(f"{path}/@peer", "Invalid attempt to set peer IP for guest")
        yield from _prefix(at, ip, f"{path}/@prefix")


def _prefix(at: _Nic, ip: InterfaceIp, path: str) -> Iterator[Problem]:
    if ip.prefix is None:
        return
    if ip.prefix > ip.address.max_prefixlen:
        yield at.wrong(path, f"Invalid prefix value '{ip.prefix}' in <ip>")
    elif ip.address.version == 6 and ip.prefix not in (0, 64):
        yield at.unsupported(path, f"unsupported IPv6 address prefix='{ip.prefix}' - must be 64")
    elif ip.address.version == 4 and not at.nic.wants_passt and ip.prefix and not 4 <= ip.prefix <= 27:
        yield at.wrong(path, "invalid prefix, must be in range of 4-27")


def _routes(at: _Nic) -> Iterator[Problem]:
    nic = at.nic
    if nic.routes and not (nic.wants_passt and nic.type in _PASST_TYPES):
        yield at.unsupported(
            "route[1]",
            "Invalid attempt to set network interface guest-side IP route, not supported for this interface "
            "type/backend",
            _USE_PASST if nic.type is InterfaceType.USER else None,
        )
        return
    seen: set[int] = set()
    for number, route in enumerate(nic.routes, 1):
        path = f"route[{number}]"
        yield from _route(at, route, path)
        if route.address is not None or route.prefix is not None or route.metric is not None:
            yield at.unsupported(
                path,
                "<route> elements of an interface using the passt backend must be default routes, with only a gateway "
                "specified",
            )
        version = route.gateway.version if route.gateway is not None else 0
        if version in seen:
            message = f"only one IPv{version} default route can be specified for an interface using the passt backend"
            yield at.unsupported(path, message)
        elif version:
            seen.add(version)


def _route(at: _Nic, route: InterfaceRoute, path: str) -> Iterator[Problem]:
    where = f"{at.path}/{path}"
    gateway = route.gateway
    text: str | None = None
    if gateway is None:
        text = "Missing required gateway attribute in route definition"
    elif gateway.version == 6 and route.family is None:
        text = "No family specified for non-IPv4 gateway '(null)' in route definition"
    elif route.family is not None and route.family is not Family(f"ipv{gateway.version}"):
        spelt = "IPv6" if route.family is Family.IPV6 else "IPv4"
        text = f"{route.family} specified for non-{spelt} gateway address '{gateway}' in route definition"
    if text is not None:
        code, domain = ErrorCode.XML_ERROR, ErrorDomain.NETWORK
        yield Problem(where, f"guest interface: {text}", code=code, domain=domain)


def _source(at: _Nic) -> Iterator[Problem]:
    nic, source = at.nic, at.nic.source
    if source is not None and (source.ips or source.routes) and nic.type is not InterfaceType.ETHERNET:
        yield at.unsupported(
            "source",
            "Invalid attempt to set network interface host-side IP route and/or address info on interface of type "
            f"'{nic.type}'. This is only supported on interfaces of type 'ethernet'",
        )
    if nic.type in (InterfaceType.MCAST, InterfaceType.CLIENT, InterfaceType.SERVER, InterfaceType.UDP):
        yield from _socket(at)
    elif nic.type in (InterfaceType.BRIDGE, InterfaceType.NETWORK, InterfaceType.DIRECT, InterfaceType.INTERNAL):
        needed = {"bridge": "bridge", "network": "network", "direct": "dev", "internal": "name"}[nic.type]
        if source is None:
            yield at.wrong("source", f"interface type='{nic.type}' requires a 'source' element")
        elif getattr(source, needed) is None:
            yield at.missing(needed, "source")
    elif nic.type is InterfaceType.VHOSTUSER and not nic.wants_passt:
        yield from _vhostuser(at)


def _socket(at: _Nic) -> Iterator[Problem]:
    nic, source = at.nic, at.nic.source
    if source is None:
        yield at.wrong("source", f"interface type='{nic.type}' requires a 'source' element")
        return
    if source.socket_address is None and nic.type is not InterfaceType.SERVER:
        yield at.missing("address", "source")
    if source.port is None:
        yield at.missing("port", "source")
    if nic.type is not InterfaceType.UDP:
        return
    if source.local_address is None and source.local_port is None:
        yield at.wrong("source", "'<local>' element missing for 'udp' socket interface")
        return
    if source.local_address is None:
        yield at.missing("address", "local")
    if source.local_port is None:
        yield at.missing("port", "local")


def _vhostuser(at: _Nic) -> Iterator[Problem]:
    source = at.nic.source
    if source is None or source.path is None:
        yield at.missing("path", "source")
        return
    if source.type not in (None, "unix"):
        yield at.unsupported("source/@type", f"Type='{source.type}' unsupported for <interface type='vhostuser'>")
    if source.mode not in (None, *SocketMode):
        yield at.wrong("source/@mode", f"Invalid value for attribute 'mode' in element 'source': '{source.mode}'.")
    if source.reconnect and source.mode == SocketMode.SERVER:
        yield at.unsupported(
            "source/reconnect",
            "'reconnect' attribute is not supported when source mode='server' for <interface type='vhostuser'>",
        )
    elif source.reconnect and source.reconnect_timeout is None:
        yield at.wrong("source/reconnect", "Missing required attribute 'timeout' in element 'reconnect'")
    if not at.nic.is_virtio:
        yield from _must_be_virtio(at)


def _must_be_virtio(at: _Nic) -> Iterator[Problem]:
    yield at.unsupported(
        "model/@type",
        f"invalid model for interface of type 'vhostuser': '{at.nic.model}' - must be 'virtio'",
    )


def _bridging(at: _Nic) -> Iterator[Problem]:
    """What only interfaces on a bridge or a physical port can have."""
    nic = at.nic
    if nic.vlan is not None:
        yield from _vlan(at)
    if nic.virtualport is not None and nic.type not in _WITH_PORT_PROFILE:
        message = f"<virtualport> element unsupported for <interface type='{nic.type}'>"
        yield at.unsupported("virtualport", message)
    if nic.isolated and nic.type not in _BRIDGED:
        yield at.unsupported(
            "port/@isolated",
            f"interface {nic.mac} - <port isolated='yes'/> is not supported for network interfaces with "
            f"type='{nic.type}'",
        )
    if nic.coalesce_rx_frames is not None and nic.type not in _BRIDGED:
        message = f"coalesce settings on interface type {nic.type} are not supported"
        yield at.unsupported("coalesce", message)
    if nic.target_managed is False and nic.type is not InterfaceType.ETHERNET:
        message = f"unmanaged target dev is not supported on interfaces of type '{nic.type}'"
        yield at.unsupported("target/@managed", message)


def _vlan(at: _Nic) -> Iterator[Problem]:
    nic = at.nic
    tags = [part for part in nic.vlan.content if not isinstance(part, str)] if nic.vlan is not None else []
    if not any(tag.name == "tag" for tag in tags):
        yield at.wrong("vlan", "missing tag id - each <vlan> must have at least one <tag id='n'/> subelement")
    for tag in tags:
        word = tag.get("id") or ""
        if word.isascii() and word.isdigit() and len(word) < 10 and int(word) > 4095:
            yield at.wrong("vlan", f"vlan tag id {word} too large (maximum 4095)")
    if nic.type not in _WITH_PORT_PROFILE:
        message = f"interface {nic.mac} - vlan tag not supported for this connection type"
        yield at.unsupported("vlan", message)


def _bandwidth(at: _Nic) -> Iterator[Problem]:
    found = at.nic.bandwidth
    if found is None:
        return
    floor = found.inbound.floor if found.inbound is not None else None
    if found.inbound is not None and found.inbound.average is None and floor is None:
        yield _no_average(at, "inbound")
    if found.outbound is not None and found.outbound.average is None:
        yield _no_average(at, "outbound")
    if floor and at.nic.type is not InterfaceType.NETWORK:
        yield at.unsupported("bandwidth/inbound/@floor", "floor attribute is not supported for this config")


def _no_average(at: _Nic, name: str) -> Problem:
    message = "Missing mandatory average or floor attributes"
    return Problem(f"{at.path}/bandwidth/{name}", message, code=ErrorCode.XML_DETAIL)


def _driver(at: _Nic) -> Iterator[Problem]:
    nic, driver = at.nic, at.nic.driver
    if driver is None:
        return
    if not nic.is_virtio:
        for name in ("iommu", "ats", "packed", "page_per_vq"):
            if getattr(driver, name) is not None:
                message = f"{name} driver option is only supported for virtio devices"
                yield at.unsupported(f"driver/@{name}", message, "use <model type='virtio'/>")
    for name in ("rx_queue_size", "tx_queue_size"):
        size = getattr(driver, name) or 0
        if size & (size - 1):
            yield at.unsupported(f"driver/@{name}", f"{name} has to be a power of two")


def _teaming(at: _Nic) -> Iterator[Problem]:
    nic, teaming = at.nic, at.nic.teaming
    if teaming is None:
        return
    if teaming.type is TeamingType.PERSISTENT:
        if teaming.persistent is not None:
            message = "teaming persistent attribute not allowed if teaming type is 'persistent'"
            yield at.unsupported("teaming/@persistent", message)
        elif not nic.is_virtio:
            yield at.unsupported(
                "teaming",
                f"virtio-net teaming persistent interface must be <model type='virtio'/>, not '{nic.model}'",
            )
    elif teaming.persistent is None:
        message = "teaming persistent attribute must be set if teaming type is 'transient'"
        yield at.unsupported("teaming", message)
    elif nic.type is not InterfaceType.HOSTDEV:
        message = f"virtio-net teaming transient interface must be type='hostdev', not '{nic.type}'"
        yield at.unsupported("teaming", message)


def _rest(at: _Nic) -> Iterator[Problem]:
    nic = at.nic
    if nic.mtu is not None and not (nic.type in _WITH_MTU or (nic.type is InterfaceType.USER and nic.wants_passt)):
        hint = _USE_PASST if nic.type is InterfaceType.USER else None
        yield at.unsupported("mtu/@size", f"setting MTU on interface type {nic.type} is not supported yet", hint)
    rom = nic.rom
    if rom is not None and rom.enabled is False and (rom.bar is not None or rom.file is not None):
        yield at.unsupported("rom", "ROM tuning is not supported when ROM is disabled")
    if nic.type is InterfaceType.VHOSTUSER and nic.wants_passt and not nic.is_virtio:
        yield from _must_be_virtio(at)


_CHECKS: tuple[Callable[[_Nic], Iterator[Problem]], ...] = (
    _source,
    _given,
    _passt,
    _ips,
    _routes,
    _forwards,
    _bridging,
    _bandwidth,
    _driver,
    _teaming,
    _rest,
)
