"""Elements that libvirt knows and virlet cannot honour, refused by name when the domain starts.

They are kept and printed back at define, as libvirt keeps what this host's QEMU cannot do: so definitions of an
existing libvirt session can be imported and edited whole, and nothing is lost on the way.  At start nothing of them is
dropped in silence: each one is a problem that names it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from virlet.errors import Problem
from virlet.model.elements import Domain
from virlet.model.graphics import GraphicsType
from virlet.model.namespaces import QEMU
from virlet.xml.raw import Raw
from virlet.xml.walk import bare, said

__all__ = ["IGNORED", "REASONS", "check_supported"]

_ROOT = "needs privileges that virlet never has"
_NOT_YET = "virlet cannot do this yet"

REASONS: Final[dict[str, str]] = {
    "blkiotune": _ROOT,
    "bootloader": "is for Xen only",
    "cpu/cache": _NOT_YET,
    "cpu/numa": _NOT_YET,
    "cputune": _NOT_YET,
    "devices/controller/driver/@iothread": _NOT_YET,
    "devices/crypto": _NOT_YET,
    "devices/disk/auth": _NOT_YET,
    "devices/disk/driver/@iothread": _NOT_YET,
    "devices/disk/encryption": _NOT_YET,
    "devices/disk/iotune": _NOT_YET,
    "devices/disk/mirror": _NOT_YET,
    "devices/disk/source/@fdgroup": "descriptors can be given for interfaces alone: " + _NOT_YET,
    "devices/disk/transient": _NOT_YET,
    "devices/filesystem": _NOT_YET,
    "devices/hostdev": _ROOT,
    "devices/hub": _NOT_YET,
    "devices/interface/backenddomain/@name": "is for Xen only",
    "devices/interface/guest/@dev": "is for containers only",
    "devices/iommu": _NOT_YET,
    "devices/lease": "needs libvirt's lock manager",
    "devices/memory": _NOT_YET,
    "devices/nvram": "is for PowerPC only",
    "devices/pstore": _NOT_YET,
    "devices/redirdev": "needs spice, which virlet does not offer",
    "devices/redirfilter": "needs spice, which virlet does not offer",
    "devices/shmem": _NOT_YET,
    "devices/smartcard": _NOT_YET,
    "devices/tpm": _NOT_YET,
    "features/gic": "is for ARM only",
    "features/hyperv": _NOT_YET,
    "features/kvm": _NOT_YET,
    "genid": _NOT_YET,
    "iothreadids": _NOT_YET,
    "iothreads": _NOT_YET,
    "keywrap": "is for S/390 only",
    "launchSecurity": _NOT_YET,
    "maxMemory": "memory hotplug: " + _NOT_YET,
    "memoryBacking/hugepages": _ROOT,
    "memoryBacking/locked": _ROOT,
    "memtune": _ROOT,
    "numatune": _NOT_YET,
    "os/acpi": _NOT_YET,
    "perf": _ROOT,
    "qemu:capabilities": "virlet asks QEMU itself what it can do",
    "qemu:deprecation": _NOT_YET,
    "qemu:override": _NOT_YET,
    "sysinfo": _NOT_YET,
    "throttlegroups": _NOT_YET,
    "vcpus": _NOT_YET,
}
"""Path without indexes to the reason."""

IGNORED: Final[dict[str, str]] = {
    "idmap": "is for containers only",
    "on_lockfailure": "virlet holds no locks on disks",
    "resource": "guests run in the user's own control group",
    "seclabel": "virlet labels nothing; QEMU's sandbox and the kernel confine the guest",
    "vcpu/@cpuset": "virtual CPUs are not pinned",
}
"""Path to the reason why it has no effect; that is shown, and nothing is refused."""

_GRAPHICS = {
    GraphicsType.SPICE: "spice is not offered",
    GraphicsType.RDP: "rdp is not offered",
    GraphicsType.DESKTOP: "is for VirtualBox only",
    GraphicsType.SDL: "a daemon has no screen",
    GraphicsType.DBUS: _NOT_YET,
    GraphicsType.EGL_HEADLESS: _NOT_YET,
}


def check_supported(domain: Domain) -> Iterator[Problem]:
    """A problem for everything in *domain* that virlet knows by name and cannot honour."""
    for path, _, _, value in said(domain):
        # Whoever writes libvirt's own namespace may give it another prefix than libvirt does.
        word = f"qemu:{value.tag}" if isinstance(value, Raw) and value.namespace == QEMU else bare(path)
        reason = REASONS.get(word)
        if reason is None and isinstance(value, GraphicsType):
            reason = _GRAPHICS.get(value)
            if reason is not None:
                yield Problem(path, f"graphics type '{value}' is not supported: {reason}", "use type='vnc' or none")
                continue
        if reason is not None:
            name = path.rpartition("/")[2].partition("[")[0]
            spelt = f"attribute '{name[1:]}'" if name.startswith("@") else f"element <{name}>"
            yield Problem(path, f"{spelt} is not supported: {reason}", f"remove it to start '{domain.name}'")
