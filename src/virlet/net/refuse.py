"""What an interface may not say, on any host.  Texts and codes are libvirt's where it has them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import chain

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import Problem
from virlet.model.interface import Interface, InterfaceBackend, InterfaceType, PortForward, PortRange, TeamingType
from virlet.net.forwards import HIGHEST_PORT, clashes, flatten
from virlet.net.rules import rules_of
from virlet.plan.base import Forward

__all__ = ["check_forwards_of_all", "refuse", "refuse_at_start"]

_PASST = "add <backend type='passt'/>"
_PASST_TYPES = (InterfaceType.USER, InterfaceType.VHOSTUSER)
_BRIDGED = (InterfaceType.BRIDGE, InterfaceType.NETWORK, InterfaceType.DIRECT, InterfaceType.HOSTDEV)
_MTU_TYPES = (InterfaceType.VHOSTUSER, InterfaceType.ETHERNET, InterfaceType.BRIDGE, InterfaceType.NETWORK)
_HIGHEST_ACPI_INDEX = 16_383


def refuse(nic: Interface, path: str) -> Iterator[Problem]:
    """Every problem of the interface that stands at *path*."""
    yield from _backend(nic, path)
    yield from _addresses(nic, path)
    yield from _routes(nic, path)
    yield from _forwards(nic, path)
    yield from _bridge_words(nic, path)
    yield from _device(nic, path)
    yield from _teaming(nic, path)


def _backend(nic: Interface, path: str) -> Iterator[Problem]:
    backend = nic.backend or InterfaceBackend()
    if nic.wants_passt and nic.type not in _PASST_TYPES:
        yield Problem(
            f"{path}/backend/@type",
            "The 'passt' backend can only be used with interface type='user' or type='vhostuser'",
        )
    if not nic.wants_passt:
        for name, value in (("hostname", backend.hostname), ("fqdn", backend.fqdn)):
            if value is not None:
                yield Problem(
                    f"{path}/backend/@{name}",
                    f"The '{name}' attribute of the <backend> element can only be used with the <backend> type='passt'",
                    hint=_PASST,
                )
    if nic.wants_passt and backend.log_file is not None and not backend.log_file.startswith("/"):
        yield Problem(
            f"{path}/backend/@logFile",
            f"'{backend.log_file}' is not an absolute path",
            hint="begin it with '/'",
            code=ErrorCode.XML_ERROR,
        )
    if nic.mtu and not nic.wants_passt and nic.type not in _MTU_TYPES:
        hint = _PASST if nic.type is InterfaceType.USER else None
        yield Problem(f"{path}/mtu/@size", f"setting MTU on interface type {nic.type} is not supported yet", hint=hint)


def _addresses(nic: Interface, path: str) -> Iterator[Problem]:
    if nic.ips and nic.type not in _PASST_TYPES:
        yield Problem(
            f"{path}/ip",
            "Invalid attempt to set network interface guest-side IP address info, "
            "not supported for this interface type/backend",
        )
        return
    seen: set[int] = set()
    for number, ip in enumerate(nic.ips, 1):
        place = f"{path}/ip[{number}]"
        version = ip.address.version
        if ip.family is not None and ip.family != f"ipv{version}":
            yield Problem(f"{place}/@address", f"Invalid address '{ip.address}' in <ip>", code=ErrorCode.XML_ERROR)
        if version in seen:
            yield Problem(place, f"Only one IPv{version} address per interface is allowed")
        seen.add(version)
        if ip.peer is not None:
            yield Problem(f"{place}/@peer", "Invalid attempt to set peer IP for guest")
        if ip.prefix is not None:
            yield from _prefix(nic, ip.address, ip.prefix, f"{place}/@prefix")


def _prefix(nic: Interface, address: IPv4Address | IPv6Address, prefix: int, path: str) -> Iterator[Problem]:
    if prefix > address.max_prefixlen:
        yield Problem(path, f"Invalid prefix value '{prefix}' in <ip>", code=ErrorCode.XML_ERROR)
    elif prefix and address.version == 4 and not nic.wants_passt and not 4 <= prefix <= 27:
        yield Problem(path, "invalid prefix, must be in range of 4-27", code=ErrorCode.XML_ERROR)
    elif prefix and address.version == 6 and prefix != 64:
        yield Problem(path, f"unsupported IPv6 address prefix='{prefix}' - must be 64")


def _routes(nic: Interface, path: str) -> Iterator[Problem]:
    if nic.routes and not nic.wants_passt:
        yield Problem(
            f"{path}/route",
            "Invalid attempt to set network interface guest-side IP route, "
            "not supported for this interface type/backend",
            hint=_PASST if nic.type is InterfaceType.USER else None,
        )
        return
    seen: set[int] = set()
    for number, route in enumerate(nic.routes, 1):
        place = f"{path}/route[{number}]"
        gateway = route.gateway
        if gateway is None:
            yield _route_error(place, "Missing required gateway attribute in route definition")
            continue
        if gateway.version == 6 and route.family is None:
            yield _route_error(place, "No family specified for non-IPv4 gateway '(null)' in route definition")
        elif route.family is not None and route.family != f"ipv{gateway.version}":
            yield _route_error(place, f"gateway '{gateway}' is not an {route.family} address")
        # <netmask> and <prefix> 0 say nothing more than "default".
        if any(value is not None for value in (route.address, route.netmask, route.prefix or None, route.metric)):
            yield Problem(
                place,
                "<route> elements of an interface using the passt backend must be default routes, "
                "with only a gateway specified",
            )
        if gateway.version in seen:
            yield Problem(
                place,
                f"only one IPv{gateway.version} default route can be specified "
                "for an interface using the passt backend",
            )
        seen.add(gateway.version)


def _route_error(path: str, text: str) -> Problem:
    return Problem(path, f"guest interface: {text}", code=ErrorCode.XML_ERROR, domain=ErrorDomain.NETWORK)


def _forwards(nic: Interface, path: str) -> Iterator[Problem]:
    if nic.port_forwards and nic.type not in _PASST_TYPES:
        yield Problem(
            f"{path}/portForward",
            "The <portForward> element can only be used with the 'passt' backend of "
            "interface type='user' or type='vhostuser'",
        )
        return
    broken = False
    for number, forward in enumerate(nic.port_forwards, 1):
        for problem in _forward(forward, f"{path}/portForward[{number}]"):
            broken = True
            yield problem
    if not broken:
        forwards = tuple(chain.from_iterable(flatten(rule) for rule in rules_of(nic, path)))
        yield from _clashes(forwards)


def _forward(forward: PortForward, path: str) -> Iterator[Problem]:
    for number, item in enumerate(forward.ranges, 1):
        yield from _range(item, f"{path}/range[{number}]")


def _range(item: PortRange, path: str) -> Iterator[Problem]:
    if item.start is None:
        yield Problem(
            path,
            "The 'range' of a 'portForward' requires 'start' attribute if 'end', 'to', or 'exclude' is specified",
        )
        return
    end = item.start if item.end is None else item.end
    if end < item.start:
        yield _bad_range(f"{path}/@end", f"the range ends at port {end}, before its start {item.start}")
        return
    for name, port in (("start", item.start), ("end", end), ("to", item.to)):
        if port is not None and port > HIGHEST_PORT:
            yield _bad_range(f"{path}/@{name}", f"there is no port {port}: the highest is {HIGHEST_PORT}")
            return
    if item.to is not None and item.exclude:
        yield _bad_range(f"{path}/@to", "ports that are excluded have no port in the guest")
    elif item.to is not None and item.to + end - item.start > HIGHEST_PORT:
        last = item.to + end - item.start
        yield _bad_range(
            f"{path}/@to", f"the range would reach port {last} of the guest: the highest is {HIGHEST_PORT}"
        )


def _bad_range(path: str, text: str) -> Problem:
    return Problem(path, text, code=ErrorCode.XML_ERROR)


def check_forwards_of_all(nics: Sequence[tuple[Interface, str]]) -> Iterator[Problem]:
    """Host ports that two interfaces of one domain both want; *nics* come with their places in the XML."""
    seen: list[tuple[str, Forward]] = []
    for nic, path in nics:
        for forward in chain.from_iterable(flatten(rule) for rule in rules_of(nic, path)):
            for other_path, other in seen:
                if other_path != path:
                    yield from _clashes((other, forward))
            seen.append((path, forward))


def _clashes(forwards: Sequence[Forward]) -> Iterator[Problem]:
    for one, other in clashes(forwards):
        port = max(one.start, other.start)
        yield Problem(
            other.path,
            f"{other.proto} port {port} of the host is forwarded already by {one.path}",
            hint="forward each host port once",
        )


def _bridge_words(nic: Interface, path: str) -> Iterator[Problem]:
    if nic.virtualport is not None and nic.type not in _BRIDGED:
        yield Problem(f"{path}/virtualport", f"<virtualport> element unsupported for <interface type='{nic.type}'>")
    if nic.vlan is not None and nic.type not in _BRIDGED:
        yield Problem(f"{path}/vlan", f"interface {nic.mac} - vlan tag not supported for this connection type")
    if nic.isolated and nic.type not in (InterfaceType.BRIDGE, InterfaceType.NETWORK):
        yield Problem(
            f"{path}/port/@isolated",
            f"interface {nic.mac} - <port isolated='yes'/> is not supported "
            f"for network interfaces with type='{nic.type}'",
        )
    if nic.coalesce_rx_frames is not None and nic.type not in (InterfaceType.BRIDGE, InterfaceType.NETWORK):
        yield Problem(f"{path}/coalesce", f"coalesce settings on interface type {nic.type} are not supported")
    if nic.target_managed is False and nic.type is not InterfaceType.ETHERNET:
        yield Problem(
            f"{path}/target/@managed", f"unmanaged target dev is not supported on interfaces of type '{nic.type}'"
        )
    inbound = nic.bandwidth.inbound if nic.bandwidth is not None else None
    if inbound is not None and inbound.floor is not None and nic.type is not InterfaceType.NETWORK:
        yield Problem(f"{path}/bandwidth/inbound/@floor", "floor attribute is not supported for this config")


def _device(nic: Interface, path: str) -> Iterator[Problem]:
    if nic.type is InterfaceType.VHOSTUSER and nic.model is not None and not nic.is_virtio:
        yield Problem(
            f"{path}/model/@type",
            f"invalid model for interface of type 'vhostuser': '{nic.model}' - must be 'virtio'",
        )
    if nic.rom is not None and nic.rom.enabled is False and (nic.rom.bar is not None or nic.rom.file is not None):
        yield Problem(f"{path}/rom", "ROM tuning is not supported when ROM is disabled")
    if nic.acpi_index is not None and nic.acpi_index > _HIGHEST_ACPI_INDEX:
        yield Problem(
            f"{path}/acpi/@index", f"acpi index {nic.acpi_index} is too large", hint=f"use 1 to {_HIGHEST_ACPI_INDEX}"
        )
    driver = nic.driver
    if driver is None or not nic.is_virtio:
        return
    for name, size in (("rx_queue_size", driver.rx_queue_size), ("tx_queue_size", driver.tx_queue_size)):
        if size and size & (size - 1):
            yield Problem(f"{path}/driver/@{name}", f"{name} has to be a power of two")


def _teaming(nic: Interface, path: str) -> Iterator[Problem]:
    teaming = nic.teaming
    if teaming is None:
        return
    if teaming.type is TeamingType.PERSISTENT:
        if not nic.is_virtio:
            text = f"virtio-net teaming persistent interface must be <model type='virtio'/>, not '{nic.model}'"
            yield Problem(f"{path}/teaming", text)
        if teaming.persistent is not None:
            text = "teaming persistent attribute not allowed if teaming type is 'persistent'"
            yield Problem(f"{path}/teaming/@persistent", text)
        return
    if nic.type is not InterfaceType.HOSTDEV:
        text = f"virtio-net teaming transient interface must be type='hostdev', not '{nic.type}'"
        yield Problem(f"{path}/teaming", text)
    if teaming.persistent is None:
        text = "teaming persistent attribute must be set if teaming type is 'transient'"
        yield Problem(f"{path}/teaming", text)


def refuse_at_start(nic: Interface, path: str) -> Iterator[Problem]:
    """What may be defined but not started, on a user network."""
    driver = nic.driver
    if driver is not None and nic.is_virtio and (driver.queues or 0) > 1:
        yield Problem(
            f"{path}/driver/@queues",
            f"interface {nic.mac} - multiqueue is not supported for network interfaces of type {nic.type}",
        )
    if nic.script is not None and nic.type is not InterfaceType.ETHERNET:
        yield Problem(f"{path}/script", f"scripts are not supported on interfaces of type {nic.type}")
    for name, size in (
        ("rx_queue_size", driver.rx_queue_size if driver else None),
        ("tx_queue_size", driver.tx_queue_size if driver else None),
    ):
        low, high = (256, 1024) if name == "rx_queue_size" else (256, 256)
        if size and nic.is_virtio and not low <= size <= high:
            yield Problem(
                f"{path}/driver/@{name}",
                f"{name} {size} is not possible on a user network",
                hint=f"use {low} to {high}",
            )
