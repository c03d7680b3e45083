"""What the fake QEMU says about itself: enough of a QEMU 7.2 for x86 guests, and newer vhost-user and passt."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["CPUS", "MACHINES", "OPTIONS", "schema", "types"]

_DEVICES = frozenset({
    "bochs-display", "cirrus-vga", "e1000", "e1000e", "i6300esb", "ich9-ahci", "ich9-usb-ehci1", "ide-cd", "ide-hd",
    "intel-hda", "isa-serial", "ne2k_pci", "nec-usb-xhci", "pci-bridge", "pci-serial", "pcie-pci-bridge",
    "pcie-root-port", "piix3-usb-uhci", "pvpanic", "qemu-xhci", "qxl-vga", "ramfb", "rtl8139", "scsi-cd", "scsi-hd",
    "usb-ehci", "usb-kbd", "usb-mouse", "usb-net", "usb-storage", "usb-tablet", "VGA", "virtconsole",
    "virtio-balloon-pci", "virtio-blk-pci", "virtio-gpu-pci", "virtio-keyboard-pci", "virtio-mouse-pci",
    "virtio-net-pci", "virtio-net-pci-non-transitional", "virtio-net-pci-transitional", "virtio-rng-pci",
    "virtio-scsi-pci", "virtio-serial-pci", "virtio-tablet-pci", "virtio-vga", "virtserialport", "vmxnet3",
})  # fmt: skip
_OBJECTS = frozenset({
    "iothread", "memory-backend-file", "memory-backend-memfd", "memory-backend-ram", "rng-builtin", "rng-random",
    "secret",
})  # fmt: skip
_NETDEVS: Mapping[str, tuple[str, ...]] = {
    "stream": ("addr", "server"),
    "dgram": ("local", "remote"),
    "user": ("hostname", "restrict", "ipv4", "ipv6", "net", "host", "dhcpstart", "dns", "hostfwd", "guestfwd"),
    "socket": ("fd", "listen", "connect", "mcast", "localaddr", "udp"),
    "tap": ("ifname", "fd", "fds", "vhost", "vhostfd", "queues"),
    "vhost-user": ("chardev", "vhostforce", "queues"),
    "hubport": ("hubid", "netdev"),
    "passt": (
        "path", "quiet", "mtu", "address", "netmask", "mac", "gateway", "interface", "outbound", "outbound-if4",
        "outbound-if6", "dns", "search", "fqdn", "dhcp-dns", "dhcp-search", "map-host-loopback", "map-guest-addr",
        "dns-forward", "dns-host", "tcp", "udp", "icmp", "dhcp", "ndp", "dhcpv6", "ra", "freebind", "ipv4", "ipv6",
        "tcp-ports", "udp-ports", "param",
    ),
}  # fmt: skip
_CHARDEVS: Mapping[str, tuple[str, ...]] = {
    "file": ("out", "in", "append", "logfile"),
    "null": ("logfile",),
    "pty": ("logfile",),
    "socket": ("addr", "server", "wait", "reconnect", "reconnect-ms", "logfile"),
    "stdio": ("signal", "logfile"),
}
_BLOCKDEVS: Mapping[str, tuple[str, ...]] = dict.fromkeys(("file", "host_device", "null-co", "qcow2", "raw"), ())
_EVENTS = (
    "DEVICE_DELETED", "DEVICE_UNPLUG_GUEST_ERROR", "NETDEV_STREAM_CONNECTED", "NETDEV_STREAM_DISCONNECTED",
    "NETDEV_VHOST_USER_CONNECTED", "NETDEV_VHOST_USER_DISCONNECTED",
    "POWERDOWN", "RESET", "RESUME", "SHUTDOWN", "STOP",
)  # fmt: skip

MACHINES: list[dict[str, object]] = [
    {"name": "none", "cpu-max": 1, "hotpluggable-cpus": False, "numa-mem-supported": False, "deprecated": False},
    *(
        {
            "name": name,
            "alias": alias,
            "is-default": alias == "pc",
            "cpu-max": 255,
            "hotpluggable-cpus": True,
            "numa-mem-supported": True,
            "deprecated": False,
            "default-cpu-type": "qemu64-x86_64-cpu",
            "default-ram-id": "pc.ram",
        }
        for name, alias in (("pc-i440fx-7.2", "pc"), ("pc-q35-7.2", "q35"))
    ),
]
CPUS: list[dict[str, object]] = [
    {"name": name, "unavailable-features": [], "static": False, "migration-safe": True, "deprecated": False}
    for name in ("max", "qemu64", "kvm64", "EPYC", "Skylake-Client")
]
OPTIONS: list[dict[str, object]] = [
    {"option": option, "parameters": [{"name": name, "type": "string"} for name in names]}
    for option, names in {
        "sandbox": ("enable", "obsolete", "elevateprivileges", "spawn", "resourcecontrol"),
        "msg": ("timestamp", "guest-name"),
        "overcommit": ("mem-lock", "cpu-pm"),
        "name": ("guest", "process", "debug-threads"),
    }.items()
]


def types(arguments: Mapping[str, object]) -> object:
    """``qom-list-types``."""
    names = _DEVICES if arguments.get("implements") == "device" else _DEVICES | _OBJECTS | {"tcg-accel"}
    return [{"name": name, "parent": "object"} for name in sorted(names)]


def schema(commands: Iterable[str]) -> object:
    """``query-qmp-schema``: commands, events, and the unions that say what can be added."""
    unions = {"netdev_add": _NETDEVS, "blockdev-add": _BLOCKDEVS, "object-add": dict.fromkeys(_OBJECTS, ())}
    entries: list[object] = [{"name": name, "meta-type": "event"} for name in _EVENTS]
    for name in {*commands, *unions, "chardev-add"}:
        entries.append({"name": name, "meta-type": "command", "arg-type": f"{name}-arg"})
    for name, cases in unions.items():
        entries += _union(f"{name}-arg", cases)
    backend = [{"name": "id", "type": "str"}, {"name": "backend", "type": "chardev-backend"}]
    entries.append({"name": "chardev-add-arg", "meta-type": "object", "members": backend})
    entries += _union("chardev-backend", _CHARDEVS)
    return entries


def _union(name: str, cases: Mapping[str, Iterable[str]]) -> list[object]:
    """A union tagged by ``type`` and the objects that are its cases."""
    union = {
        "name": name,
        "meta-type": "object",
        "members": [{"name": "type", "type": f"{name}-tag"}],
        "tag": "type",
        "variants": [{"case": case, "type": f"{name}-{case}"} for case in cases],
    }
    objects = [
        {
            "name": f"{name}-{case}",
            "meta-type": "object",
            "members": [{"name": each, "type": "any"} for each in members],
        }
        for case, members in cases.items()
    ]
    return [union, {"name": f"{name}-tag", "meta-type": "enum", "values": list(cases)}, *objects]
