"""Which interface a user means, and what of it may change while the guest runs: libvirt's rules, in its words.

libvirt does some changes, refuses most, and drops a few without a word (addresses, routes, the host device and others
of a user network).  Nothing is dropped here: what cannot be done is refused by name.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

from virlet.enums import ErrorDomain
from virlet.errors import DeviceMissing, OperationDenied, OperationFailed, OperationUnsupported, VirletError
from virlet.model.address import Address, PciAddress
from virlet.model.device import Rom
from virlet.model.interface import Interface, InterfaceBackend, InterfaceType, SocketMode

__all__ = ["Wanted", "check_attach", "find_interface", "merge_update"]

_NOT_HOT = frozenset(
    {
        InterfaceType.UDP,
        InterfaceType.MCAST,
        InterfaceType.CLIENT,
        InterfaceType.SERVER,
        InterfaceType.INTERNAL,
        InterfaceType.NULL,
        InterfaceType.VDS,
    }
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """An interface as a user names it."""

    nic: Interface
    mac_given: bool
    """False when the XML has no MAC address, so that the one in *nic* was made up."""


def check_attach(nic: Interface) -> None:
    """Raise :class:`OperationUnsupported` for a type that a running guest cannot be given, as libvirt does."""
    if nic.type in _NOT_HOT:
        raise OperationUnsupported(
            f"hotplug of interface type of {nic.type} is not implemented yet",
            domain=ErrorDomain.QEMU,
            hint="add it to the definition (--config) and start the guest again",
        )

    if nic.type is InterfaceType.VHOSTUSER and nic.source is not None and nic.source.mode == SocketMode.SERVER:
        # QEMU would stand still, guest and all, until the other side dials.
        raise OperationUnsupported(
            "hotplug of interface type of vhostuser in server mode is not possible without stopping the guest",
            domain=ErrorDomain.QEMU,
            hint="use mode='client', or add it to the definition (--config)",
        )


def find_interface(interfaces: Sequence[Interface], wanted: Wanted) -> int:
    """The place of the one interface that has the MAC address, the address and the alias that *wanted* names.

    Everything else in the XML is not looked at.  Raises DeviceMissing when there is none, OperationFailed when there
    are several.
    """
    nic = wanted.nic
    said = wanted.mac_given or nic.address is not None or nic.alias is not None
    found = [n for n, other in enumerate(interfaces) if said and _fits(other, wanted)]
    if not found:
        address = _spelt(nic.address)
        raise DeviceMissing(
            f"no device found at address '{address}' matching MAC address '{nic.mac}' and alias "
            f"'{nic.alias or '(<null>)'}'",
            hint=None if said else "name the interface by its MAC address",
        )
    if len(found) > 1:
        raise OperationFailed(
            f"multiple devices matching MAC address {nic.mac} found", hint="name its <address> or its <alias>, too"
        )
    return found[0]


def _fits(other: Interface, wanted: Wanted) -> bool:
    nic = wanted.nic
    if wanted.mac_given and other.mac != nic.mac:
        return False
    if nic.alias is not None and other.alias != nic.alias:
        return False
    return nic.address is None or _spelt(nic.address) == _spelt(other.address)


def _spelt(address: Address | None) -> str:
    if address is None:
        return "(<null>)"
    if isinstance(address, PciAddress):
        return f"{address.domain:04x}:{address.bus:02x}:{address.slot:02x}.{address.function:x}"
    return str(address)


def merge_update(old: Interface, wanted: Wanted) -> Interface:
    """The running interface *old* as *wanted* changes it, which is its link or nothing.

    Raises OperationUnsupported, or OperationDenied for the ACPI index, at the first change that is not possible.
    """
    new = replace(wanted.nic, address=old.address, alias=old.alias, mac_current=old.mac_current)
    if new.target is None:
        new = replace(new, target=old.target)
    if new.forced is None:  # We may have written ours into the live XML; not to name one is not to change it.
        new = replace(new, forced=old.forced)
    for error in _refusals(old, new):
        raise error
    return replace(old, link_state=new.link_state)


def _refusals(old: Interface, new: Interface) -> Iterator[VirletError]:
    for name, say in _REFUSED.items():
        if getattr(old, name) != getattr(new, name):
            yield _unsupported(say(old, new), hint=_hint(name, old))
    yield from _backend(old.backend or InterfaceBackend(), new.backend or InterfaceBackend())
    if old.bandwidth != new.bandwidth:
        yield _unsupported("Network bandwidth tuning is not available in session mode", ErrorDomain.NONE, hint=_NEVER)
    yield from _rom(old.rom or Rom(), new.rom or Rom())
    if old.acpi_index != new.acpi_index:
        yield OperationDenied("changing device 'acpi index' is not allowed", hint=_LATER)
    yield from _strange(old, new)
    handled = {*_REFUSED, "backend", "bandwidth", "rom", "acpi_index", "link_state", "unknown"}
    for item in fields(Interface):
        if item.name not in handled and getattr(old, item.name) != getattr(new, item.name):
            text = f"cannot modify network device {_WORDS.get(item.name, item.name)} settings"
            yield _unsupported(text, hint=_hint(item.name, old))


def _strange(old: Interface, new: Interface) -> Iterator[VirletError]:
    """What nobody knows is ignored in a definition; as a change it would be a promise."""
    for _, name, _ in (each for each in new.unknown.attributes if each not in old.unknown.attributes):
        if not name.startswith("xmlns"):
            yield _unsupported(f"cannot modify network device attribute '{name}': it is not known", hint=_NEVER)
    for _, raw in (each for each in new.unknown.elements if each not in old.unknown.elements):
        yield _unsupported(f"cannot modify network device element <{raw.name}>: it is not known", hint=_NEVER)


def _backend(old: InterfaceBackend, new: InterfaceBackend) -> Iterator[VirletError]:
    if old.type != new.type:
        yield _unsupported("cannot change backend type of network interface")
    if old != new:
        yield _unsupported("cannot modify network device backend settings")


def _rom(old: Rom, new: Rom) -> Iterator[VirletError]:
    if old.bar != new.bar:
        yield _unsupported("cannot modify network device rom bar setting")
    if old.file != new.file:
        yield _unsupported("cannot modify network rom file")
    if old.enabled != new.enabled:
        yield _unsupported("cannot modify network device rom enabled setting")


_LATER = "change the definition (--config); the guest's next start brings it"
_NEVER = "leave it out: nothing here can do it, after a start as little as now"
_NOT_STARTED = frozenset(
    {"filterref", "trust_guest_rx_filters", "guest_dev", "backend_domain", "coalesce_rx_frames", "isolated"}
)
"""What a start would refuse, too."""
_OF_A_DEVICE = frozenset({"script", "downscript", "sndbuf"})
"""The same, but where there is a device of the host's."""


def _hint(name: str, old: Interface) -> str:
    without = old.type not in (InterfaceType.ETHERNET, InterfaceType.BRIDGE)
    return _NEVER if name in _NOT_STARTED or (without and name in _OF_A_DEVICE) else _LATER


def _unsupported(text: str, domain: ErrorDomain = ErrorDomain.QEMU, *, hint: str = _LATER) -> OperationUnsupported:
    return OperationUnsupported(text, domain=domain, hint=hint)


def _of_type(old: Interface, new: Interface) -> str:
    return f"unable to change config on '{new.type}' network type"


def _always(text: str) -> Callable[[Interface, Interface], str]:
    return lambda old, new: text


_REFUSED: dict[str, Callable[[Interface, Interface], str]] = {
    "type": _of_type,
    "mac": lambda old, new: f"cannot change network interface mac address from {old.mac} to {new.mac}",
    "model": lambda old, new: f"cannot modify network device model from {old.model} to {new.model}",
    "driver": _always("cannot modify virtio network device driver attributes"),
    "port_forwards": _always("cannot modify network device portForward settings"),
    "script": _always("cannot modify network device script attribute"),
    "target": _always("cannot modify network device tap name"),
    "boot": _always("cannot modify network device boot index setting"),
    "mtu": _always("cannot modify MTU"),
    "sndbuf": _of_type,
}
"""Property → what is said, in the order of libvirt's checks as far as that matters."""

_WORDS = {
    "ips": "ip",
    "routes": "route",
    "trust_guest_rx_filters": "trustGuestRxFilters",
    "target_managed": "target managed",
    "guest_dev": "guest",
    "isolated": "port isolated",
    "coalesce_rx_frames": "coalesce",
    "backend_domain": "backenddomain",
    "mac_type": "mac type",
    "mac_check": "mac check",
    "forced": "virlet:backend",
    "passt": "virlet:passt",
    "guest_forwards": "virlet:guestForward",
}
"""What the XML calls a property whose name here is another."""
