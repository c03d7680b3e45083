"""The card that the guest sees: ``-device`` and ``device_add``, in libvirt's order, the same on every backend."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.model.interface import Interface, InterfaceDriver, TeamingType, TxMode
from virlet.net.base import Env
from virlet.plan.base import JsonValue
from virlet.plan.place import Member, given, place

__all__ = ["card", "driver_of", "netdev_id"]

_VIRTIO = {
    "virtio": "virtio-net-pci",
    "virtio-transitional": "virtio-net-pci-transitional",
    "virtio-non-transitional": "virtio-net-pci-non-transitional",
}
_TX = {TxMode.IOTHREAD: "bh", TxMode.TIMER: "timer"}
_HOST = ("csum", "gso", "tso4", "tso6", "ecn", "ufo", "mrg_rxbuf")
_HOST_PLAIN = ("csum", "gso", "mrg_rxbuf")
_GUEST = ("csum", "tso4", "tso6", "ecn", "ufo")


def driver_of(model: str) -> str:
    """QEMU's name of the device for ``<model type=…>``; words that libvirt does not know are QEMU's own."""
    return _VIRTIO.get(model, model)


def netdev_id(nic: Interface) -> str:
    """Id of the netdev behind the card: ``hostnet0``."""
    return f"host{nic.alias}"


def card(nic: Interface, env: Env) -> dict[str, JsonValue]:
    """The device's JSON; the interface has its alias, MAC and address."""
    members: dict[str, JsonValue] = {"driver": driver_of(nic.model or "rtl8139")}
    if nic.is_virtio and nic.driver is not None:
        members.update(_options(nic.driver))
    if nic.is_virtio and nic.mtu:
        members["host_mtu"] = nic.mtu
    if nic.teaming is not None and nic.teaming.type is TeamingType.PERSISTENT:
        members["failover"] = True
    members.update(netdev=netdev_id(nic), id=nic.alias, mac=nic.mac)
    boot = nic.boot.order if nic.boot is not None else env.boot_index
    if boot is not None:
        members["bootindex"] = boot
    members.update(place(nic.address, env.bus_ids))
    members.update(_rom(nic))
    if nic.acpi_index is not None:
        members["acpi-index"] = nic.acpi_index
    return members


def _options(driver: InterfaceDriver) -> Iterator[Member]:
    yield from given(
        ("iommu_platform", driver.iommu),
        ("ats", driver.ats),
        ("packed", driver.packed),
        ("page-per-vq", driver.page_per_vq),
        ("tx", None if driver.txmode is None else _TX[driver.txmode]),
        ("ioeventfd", driver.ioeventfd),
        ("event_idx", driver.event_idx),
    )
    if driver.host is not None:
        yield from given(
            *((name if name in _HOST_PLAIN else f"host_{name}", getattr(driver.host, name)) for name in _HOST)
        )
    if driver.guest is not None:
        yield from given(*((f"guest_{name}", getattr(driver.guest, name)) for name in _GUEST))
    if driver.queues is not None and driver.queues > 1:
        yield "mq", True
        yield "vectors", 2 * driver.queues + 2
    yield from given(
        ("rx_queue_size", driver.rx_queue_size or None),
        ("tx_queue_size", driver.tx_queue_size or None),
        ("rss", driver.rss),
        ("hash", driver.rss_hash_report),
    )


def _rom(nic: Interface) -> Iterator[Member]:
    if nic.rom is None:
        return
    if nic.rom.enabled is False:
        yield "romfile", ""
        return
    if nic.rom.bar is not None:
        yield "rombar", int(nic.rom.bar)
    if nic.rom.file is not None:
        yield "romfile", nic.rom.file
