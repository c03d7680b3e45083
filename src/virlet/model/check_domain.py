"""What libvirt refuses about a domain when it is defined, whatever the host can do."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from virlet.enums import ErrorCode, ErrorDomain
from virlet.errors import Problem
from virlet.model.address import PciAddress
from virlet.model.chardev import Channel, ChardevType, Console, Parallel, Serial
from virlet.model.check_interface import check_interface
from virlet.model.disk import DiskDevice, DiskType
from virlet.model.elements import Domain
from virlet.model.interface import InterfaceType

__all__ = ["check_domain"]

_MOST_VCPUS = 16_384
_SINGLE = {"memballoon": "memory balloon", "vsock": "vsock", "iommu": "IOMMU", "nvram": "NVRAM"}


def check_domain(domain: Domain) -> Iterator[Problem]:
    """Every problem of *domain*, which has been settled (:mod:`virlet.model.defaults`); lines are added later."""
    for check in _CHECKS:
        yield from check(domain)
    for number, nic in enumerate(domain.devices.interfaces, 1):
        path = f"devices/interface[{number}]"
        yield from check_interface(nic, path)
        if nic.type is InterfaceType.VHOSTUSER and not domain.shares_memory:
            hint = "add <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"
            yield Problem(path, "'interface' requires shared memory", hint)
    yield from _shared_names(domain)


def _wrong(path: str, message: str, hint: str | None = None) -> Problem:
    return Problem(path, message, hint, ErrorCode.XML_ERROR)


def _names(domain: Domain) -> Iterator[Problem]:
    name = domain.name
    if "/" in name:
        yield _wrong("name", f"name {name} cannot contain '/'")
    if "\n" in name:
        yield Problem("name", f"invalid char in name: {name!r}", code=ErrorCode.XML_ERROR)
    elif not name.isprintable():
        yield _wrong("name", f"name {name!r} cannot contain control characters")
    if not name.strip() or name in (".", ".."):
        yield _wrong("name", f"name '{name}' cannot be used", "choose a name with a letter or a digit")
    elif len(name.encode()) > 200:
        yield _wrong("name", "name is longer than 200 bytes", "names of files are made from it")
    if domain.title is not None and "\n" in domain.title:
        yield _wrong("title", "Domain title can't contain newlines", "use <description> for long text")


def _board(domain: Domain) -> Iterator[Problem]:
    if domain.os.type != "hvm":
        yield Problem("os/type", f"os type '{domain.os.type}' is not supported", "virlet runs <type>hvm</type> only")
    for path in domain.devices.unknown.seconds:
        name = path.rpartition("/")[2].partition("[")[0]
        if name in _SINGLE:
            message = f"only a single {_SINGLE[name]} device is supported"
            yield Problem(path, message, code=ErrorCode.INTERNAL_ERROR)


def _memory(domain: Domain) -> Iterator[Problem]:
    if domain.memory == 0:
        yield _wrong("memory", "Memory size must be specified via <memory> or in the <numa> configuration")
    if domain.max_memory is not None and domain.max_memory < domain.memory:
        yield _wrong("maxMemory", "maximum memory size must be equal or greater than the actual memory size")


def _vcpus(domain: Domain) -> Iterator[Problem]:
    if domain.vcpus == 0:
        yield _wrong("vcpu", "invalid maximum number of vCPUs '0'")
    elif domain.vcpus > _MOST_VCPUS:
        message = f"Maximum CPUs greater than specified machine type limit {_MOST_VCPUS}"
        yield Problem("vcpu", message)
    if domain.vcpu_current == 0:
        yield Problem("vcpu/@current", "vcpu 0 can't be offline")
    elif domain.vcpu_current is not None and domain.vcpu_current > domain.vcpus:
        yield Problem("vcpu/@current", "maximum vCPU count must not be less than current vCPU count")
    topology = domain.cpu.topology if domain.cpu is not None else None
    if topology is not None:
        count = topology.sockets * (topology.dies or 1) * (topology.clusters or 1) * topology.cores * topology.threads
        if count != domain.vcpus:
            hint = f"the topology has {count} CPUs, <vcpu> says {domain.vcpus}"
            yield Problem("cpu/topology", "CPU topology doesn't match maximum vcpu count", hint)


def _commandline(domain: Domain) -> Iterator[Problem]:
    commandline = domain.qemu_commandline
    if commandline is None:
        return
    for number, env in enumerate(commandline.envs, 1):
        name = env.name
        where = f"qemu:commandline/qemu:env[{number}]/@name"
        if not name:
            yield Problem(where, "No qemu environment name specified", code=ErrorCode.INTERNAL_ERROR)
        elif not (name[0].isascii() and (name[0].isalpha() or name[0] == "_")):
            message = "Invalid environment name, it must begin with a letter or underscore"
            yield Problem(where, message, code=ErrorCode.INTERNAL_ERROR)
        elif not all(letter.isascii() and (letter.isalnum() or letter == "_") for letter in name):
            message = "Invalid environment name, it must contain only alphanumerics and underscore"
            yield Problem(where, message, code=ErrorCode.INTERNAL_ERROR)


def _disks(domain: Domain) -> Iterator[Problem]:
    seen: dict[str, int] = {}
    for number, disk in enumerate(domain.devices.disks, 1):
        path = f"devices/disk[{number}]"
        if disk.target is None:
            message = f"missing target information for device {disk.path or '(null)'}"
            yield Problem(path, message, code=ErrorCode.NO_TARGET, domain=ErrorDomain.DOMAIN)
            continue
        removable = disk.device in (DiskDevice.CDROM, DiskDevice.FLOPPY)
        if disk.type in (DiskType.FILE, DiskType.BLOCK) and not disk.path and not removable:
            message = f"missing source information for device {disk.target}"
            yield Problem(path, message, code=ErrorCode.NO_SOURCE, domain=ErrorDomain.DOMAIN)
        if disk.bus is None and disk.address is None:
            yield _wrong(f"{path}/target/@dev", f"Unknown disk name '{disk.target}' and no address specified")
        if disk.driver is not None and disk.driver.name != "qemu":
            message = f"unsupported driver name '{disk.driver.name}' for disk '{disk.target}'"
            yield Problem(f"{path}/driver/@name", message)
        if disk.target in seen:
            other = domain.devices.disks[seen[disk.target]]
            message = f"target '{disk.target}' duplicated for disk sources '{other.path}' and '{disk.path}'"
            yield _wrong(f"{path}/target/@dev", message)
        seen.setdefault(disk.target, number - 1)


def _controllers(domain: Domain) -> Iterator[Problem]:
    seen: set[tuple[str, int]] = set()
    for number, controller in enumerate(domain.devices.controllers, 1):
        if controller.index is None:
            continue
        key = (str(controller.type), controller.index)
        # The companions of a USB 2 controller share its index.
        companion = controller.master_startport is not None
        if key in seen and not companion and not (controller.model or "").startswith("ich9-"):
            message = f"Duplicate {controller.type.upper()} controllers with index {controller.index}"
            yield _wrong(f"devices/controller[{number}]/@index", message)
        seen.add(key)


_NEEDS = {
    ChardevType.FILE: "path",
    ChardevType.PIPE: "path",
    ChardevType.DEV: "path",
    ChardevType.TCP: "host",
    ChardevType.UDP: "service",
}


def _chardevs(domain: Domain) -> Iterator[Problem]:
    devices = domain.devices
    kinds: tuple[tuple[str, tuple[Serial | Parallel | Console | Channel, ...]], ...] = (
        ("serial", devices.serials),
        ("parallel", devices.parallels),
        ("console", devices.consoles),
        ("channel", devices.channels),
    )
    for kind, found in kinds:
        for number, device in enumerate(found, 1):
            yield from _chardev(device, f"devices/{kind}[{number}]")
    for number, channel in enumerate(devices.channels, 1):
        path = f"devices/channel[{number}]/target"
        if channel.target_type is None:
            yield _wrong(path, "target type must be specified for channel device")
        elif channel.target_type not in ("virtio", "guestfwd", "xen"):
            message = f"unknown target type '{channel.target_type}' specified for character device"
            yield Problem(f"{path}/@type", message)


def _chardev(device: Serial | Parallel | Console | Channel, path: str) -> Iterator[Problem]:
    needed = _NEEDS.get(device.type)
    if device.type is ChardevType.UNIX and not isinstance(device, Channel):
        needed = "path"
    if needed is not None and not any(getattr(source, needed) for source in device.sources):
        message = f"Missing source {needed} attribute for char device"
        yield Problem(path, message, code=ErrorCode.INTERNAL_ERROR)


def _graphics(domain: Domain) -> Iterator[Problem]:
    for number, graphics in enumerate(domain.devices.graphics, 1):
        first = graphics.listens[0] if graphics.listens else None
        if first is None or graphics.listen is None or first.address is None or first.address == graphics.listen:
            continue
        yield Problem(
            f"devices/graphics[{number}]/@listen",
            f"graphics 'listen' attribute '{graphics.listen}' must match 'address' attribute of first listen element "
            f"(found '{first.address}')",
        )


def _shared_names(domain: Domain) -> Iterator[Problem]:
    """What must be unique among all devices: boot orders, aliases, addresses."""
    orders: dict[int, str] = {}
    aliases: dict[str, str] = {}
    places: dict[tuple[int, int, int, int], str] = {}
    for path, device in domain.devices.all():
        boot = getattr(device, "boot", None)
        if boot is not None and orders.setdefault(boot.order, path) != path:
            message = f"boot order '{boot.order}' used for more than one device"
            yield Problem(f"{path}/boot/@order", message, f"the other one is {orders[boot.order]}")
        alias = getattr(device, "alias", None)
        # A console may be the first serial port under another name.
        if alias is not None and not isinstance(device, Console) and aliases.setdefault(alias, path) != path:
            message = f"non unique alias detected: {alias}"
            yield Problem(f"{path}/alias/@name", message, f"the other one is {aliases[alias]}")
        address = getattr(device, "address", None)
        if isinstance(address, PciAddress):
            place = (address.domain, address.bus, address.slot, address.function)
            # All zero asks for an address.
            if any(place) and places.setdefault(place, path) != path:
                spelt = f"{place[0]:04x}:{place[1]:02x}:{place[2]:02x}.{place[3]}"
                hint = f"the other one is {places[place]}"
                yield _wrong(f"{path}/address", f"Attempted double use of PCI Address {spelt}", hint)
    if orders and domain.os.boot:
        message = "per-device boot elements cannot be used together with os/boot elements"
        yield Problem("os/boot[1]", message, "remove <boot dev=…/> from <os>")


_CHECKS: tuple[Callable[[Domain], Iterator[Problem]], ...] = (
    _names,
    _board,
    _memory,
    _vcpus,
    _commandline,
    _disks,
    _controllers,
    _chardevs,
    _graphics,
)
