"""What libvirt adds to an ``<interface>`` when it is defined, and what it leaves out."""

from __future__ import annotations

from collections.abc import Iterator

from virlet.errors import Problem
from virlet.model.fresh import Fresh
from virlet.model.interface import (
    AUTO_TARGETS,
    BackendType,
    Bandwidth,
    Family,
    Interface,
    InterfaceBackend,
    InterfaceDriver,
    InterfaceIp,
    InterfaceSource,
    InterfaceType,
)
from virlet.xml.declare import Element, replace
from virlet.xml.walk import said

__all__ = ["VIRTIO_MODELS", "dropped_from_interface", "settle_interface"]

VIRTIO_MODELS = frozenset({"virtio", "virtio-transitional", "virtio-non-transitional"})
_KNOWN_MODELS = {
    name.lower(): name
    for name in (
        "netfront", "rtl8139", *VIRTIO_MODELS, "e1000", "e1000e", "igb", "virtio-net-pci", "spapr-vlan", "lan9118",
        "smc91c111", "vlance", "vmxnet", "vmxnet2", "vmxnet3", "Am79C970A", "Am79C973", "82540EM", "82545EM", "82543GC",
        "usb-net",
    )
}  # fmt: skip
_MAY_LOSE = ("managed", "source", "target", "driver", "teaming")
_NO_MAC = "00:00:00:00:00:00"


def settle_interface(nic: Interface, fresh: Fresh, *, live: bool = False) -> Interface:
    """*nic* as libvirt keeps it; with *live* names made at start are kept.

    A MAC address is made where there is none; ``upstream`` becomes the source's device; attributes that mean nothing
    for the type or the model go, as they go in libvirt, so that they cannot take effect when the type changes later.
    """
    changes: dict[str, object] = {}
    if nic.mac is None or nic.mac == _NO_MAC:
        changes["mac"] = fresh.mac()
    if nic.model is None:
        modern = nic.type in (InterfaceType.VHOSTUSER, InterfaceType.VDPA)
        changes["model"] = "virtio" if modern else "rtl8139"
    elif nic.model != (known := _KNOWN_MODELS.get(nic.model.lower(), nic.model)):
        changes["model"] = known
    if nic.managed is not None and nic.type is not InterfaceType.HOSTDEV:
        changes["managed"] = None
    if not live and nic.target and nic.target.startswith(AUTO_TARGETS) and nic.target_managed is not False:
        changes["target"] = None
    if nic.mtu == 0:
        changes["mtu"] = None
    if nic.teaming is not None and nic.teaming.type is None:
        changes["teaming"] = None
    _settle_parts(nic, changes)
    return replace(nic, **changes) if changes else nic


def _settle_parts(nic: Interface, changes: dict[str, object]) -> None:
    """Add to *changes* what becomes of the nested elements."""
    for name, part in (
        ("source", _source(nic)),
        ("driver", _driver(nic)),
        ("backend", _backend(nic)),
        ("bandwidth", _bandwidth(nic)),
    ):
        if part is not getattr(nic, name):
            changes[name] = part
    if any(ip.family is None for ip in nic.ips):
        changes["ips"] = tuple(map(_with_family, nic.ips))


def _with_family(ip: InterfaceIp) -> InterfaceIp:
    return replace(ip, family=Family(f"ipv{ip.address.version}")) if ip.family is None else ip


def _source(nic: Interface) -> InterfaceSource | None:
    source = nic.source
    upstream = nic.backend.upstream if nic.backend is not None else None
    if upstream is not None and (source is None or source.dev is None):
        source = replace(source or InterfaceSource(), dev=upstream)
    if nic.type is InterfaceType.USER:
        return _device_only(source)
    if nic.type is InterfaceType.VHOSTUSER:
        if nic.wants_passt:
            return _device_only(source)
        if source is not None and (source.type is None or source.mode is None):
            return replace(source, type=source.type or "unix", mode=source.mode or "client")
    return source


def _device_only(source: InterfaceSource | None) -> InterfaceSource | None:
    """What a user network keeps of its source: the host device, and what the check refuses by name.

    libvirt keeps the device with ``<backend type='passt'/>`` alone.  Here passt carries interfaces that do not name
    it, too, and who cannot choose a device says so: it may have been named so that traffic leaves by no other.
    """
    if source is None:
        return None
    kept = InterfaceSource(dev=source.dev, ips=source.ips, routes=source.routes, unknown=source.unknown)
    if kept == InterfaceSource():
        return None
    return source if kept == source else kept


def _driver(nic: Interface) -> InterfaceDriver | None:
    driver = nic.driver
    if driver is None:
        return None
    if nic.model is None or nic.model.lower() not in VIRTIO_MODELS:
        # The four options of every virtio device stay, so that the check can refuse them by name.
        kept = InterfaceDriver(
            iommu=driver.iommu,
            ats=driver.ats,
            packed=driver.packed,
            page_per_vq=driver.page_per_vq,
            unknown=driver.unknown,
        )
        return None if kept == InterfaceDriver() else driver if kept == driver else kept
    if driver.queues in (0, 1):
        driver = replace(driver, queues=None)
    return None if driver == InterfaceDriver() else driver


def _backend(nic: Interface) -> InterfaceBackend | None:
    backend = nic.backend
    if backend is None:
        return None
    if backend.upstream is not None:
        backend = replace(backend, upstream=None)
    if backend.type is BackendType.DEFAULT:
        backend = replace(backend, type=None)
    return None if backend == InterfaceBackend() else backend


def _bandwidth(nic: Interface) -> Bandwidth | None:
    found = nic.bandwidth
    empty = found is not None and found == Bandwidth()
    return None if empty else found


def dropped_from_interface(before: Interface, after: Interface, path: str) -> Iterator[Problem]:
    """A note for each thing that *before* said and *after*, the same interface settled, no longer says."""
    if before == after or all(getattr(before, name) == getattr(after, name) for name in _MAY_LOSE):
        return
    kept = {entry.path for entry in said(after, path)}
    for entry in said(before, path):
        if entry.field == "queues" and entry.value in (0, 1) and after.is_virtio:
            continue  # What it has without.
        if entry.path not in kept and "/backend" not in entry.path and not isinstance(entry.value, Element):
            yield Problem(entry.path, f"has no effect on an interface of type '{after.type}', model '{after.model}'")
