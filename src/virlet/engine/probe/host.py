"""What this machine is: read from ``/proc``, ``/sys`` and the kernel, in a millisecond."""

from __future__ import annotations

import os
import resource
import socket
import stat
import uuid
from pathlib import Path

from virlet.plan.facts import HostFacts, Support, Topology
from virlet.proc.confine import landlock_version
from virlet.proc.identity import boot_id
from virlet.proc.routes import uplinks

__all__ = ["BRIDGE_HELPER", "CONFINE", "SHARE_MEMORY", "probe_host"]

_MACHINES = {"i386": "i686", "arm64": "aarch64"}
BRIDGE_HELPER = "VIRLET_BRIDGE_HELPER"
"""Environment variable: path of qemu-bridge-helper where it is elsewhere."""
CONFINE = "VIRLET_CONFINE"
"""Environment variable: ``no`` runs QEMU unconfined; the setting ``confine`` sets it."""
SHARE_MEMORY = "VIRLET_SHARE_MEMORY"
"""Environment variable: ``yes`` shares the memory of guests whose network gains by it (setting ``share_memory``)."""
BRIDGE_HELPERS = ("/usr/lib/qemu/qemu-bridge-helper", "/usr/libexec/qemu-bridge-helper")
"""Where distributions put the one program that makes taps on bridges for everybody."""


def probe_host(kvm: Support) -> HostFacts:
    """Look around; *kvm* was found elsewhere."""
    machine_id = _read("/etc/machine-id").strip() or _read("/var/lib/dbus/machine-id").strip()
    cpu = _first_cpu()
    machine = os.uname().machine
    return HostFacts(
        arch=_MACHINES.get(machine, machine),
        hostname=socket.gethostname(),
        machine_id=machine_id,
        uuid=_uuid(machine_id),
        boot_id=boot_id(),
        uid=os.getuid(),
        gid=os.getgid(),
        memory_kib=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 1024,
        cpus=os.sysconf("SC_NPROCESSORS_ONLN"),
        topology=_topology(),
        cpu_model=cpu.get("model name", ""),
        cpu_vendor=cpu.get("vendor_id", ""),
        cpu_mhz=_whole(cpu.get("cpu MHz", "")),
        kvm=kvm,
        uplinks=(now := uplinks()),
        interfaces=frozenset(now.indexes),
        open_files=_finite(resource.getrlimit(resource.RLIMIT_NOFILE)[1]),
        unprivileged_port_start=_whole(_read("/proc/sys/net/ipv4/ip_unprivileged_port_start"), 1024),
        may_ping=_may_ping(),
        vhost_net=os.access("/dev/vhost-net", os.R_OK | os.W_OK),
        landlock=_landlock(),
        share_memory=os.environ.get(SHARE_MEMORY) == "yes",
        nameservers=now.nameservers,
        groups=frozenset({os.getegid(), *os.getgroups()}),
        bridge_helper=(helper := _bridge_helper()),
        bridge_helper_may=_may_bridge(helper),
    )


def _read(path: str) -> str:
    """The text of a file that a kernel or a container may not have."""
    try:
        return Path(path).read_text("utf-8", "replace")
    except OSError:
        return ""


def _finite(limit: int) -> int:
    """A resource limit, 0 for none."""
    return 0 if limit == resource.RLIM_INFINITY else limit


def _whole(text: str, otherwise: int = 0) -> int:
    try:
        return int(float(text))
    except ValueError:
        return otherwise


def _uuid(machine_id: str) -> str:
    """The host's UUID: the machine id is one already (machine-id(5)); without it, one of this boot."""
    try:
        return str(uuid.UUID(machine_id))
    except ValueError:
        return boot_id()


def _first_cpu() -> dict[str, str]:
    """The first paragraph of ``/proc/cpuinfo``."""
    paragraph = _read("/proc/cpuinfo").partition("\n\n")[0]
    pairs = (line.partition(":") for line in paragraph.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def _topology() -> Topology:
    """libvirt's counting: sockets of one node, cores of one socket, threads of one core; the largest of each."""
    cpus = [
        path / "topology" for path in Path("/sys/devices/system/cpu").glob("cpu[0-9]*") if (path / "topology").is_dir()
    ]
    if not cpus:
        return Topology(cores=os.sysconf("SC_NPROCESSORS_ONLN"))
    places = [(_read(f"{cpu}/physical_package_id").strip(), _read(f"{cpu}/core_id").strip()) for cpu in cpus]
    packages = {package for package, _ in places}
    cores = max(len({core for package, core in places if package == each}) for each in packages)
    threads = max(places.count(place) for place in places)
    nodes = max(1, len(list(Path("/sys/devices/system/node").glob("node[0-9]*"))))
    return Topology(nodes, max(1, len(packages) // nodes), cores, threads)


def _bridge_helper() -> str:
    configured = os.environ.get(BRIDGE_HELPER)
    return next(filter(os.path.lexists, [configured] if configured else BRIDGE_HELPERS), "")


def _may_bridge(helper: str) -> Support:
    """Whether the helper can have what it needs, CAP_NET_ADMIN; whether it wants to is said by its ACL when it runs."""
    if not helper:
        return Support(False, "qemu-bridge-helper is not installed", "install a package such as 'qemu-system-common'")
    try:
        found = os.stat(helper)
        privileged = bool(found.st_mode & stat.S_ISUID) or "security.capability" in os.listxattr(helper)
    except OSError as error:
        return Support(False, f"{helper} cannot be looked at: {error.strerror}")
    if not os.access(helper, os.X_OK):
        return Support(False, f"{helper} may not be run by you", f"let root run: chmod 4755 {helper}")
    if not privileged and os.getuid() != 0:
        return Support(False, f"{helper} has no right to make devices", f"let root run: chmod u+s {helper}")
    return Support(True, f"{helper} is set-user-ID")


def _landlock() -> Support:
    if os.environ.get(CONFINE) == "no":
        return Support(False, "switched off", "remove 'confine = false' from virletd.toml")
    version = landlock_version()
    if version == 0:
        return Support(False, "this kernel has no landlock", "boot with lsm=landlock,… (Linux 5.13 and later)")
    return Support(True, f"landlock version {version}")


def _may_ping() -> bool:
    """icmp(7): a group of ours inside ``ping_group_range``."""
    bounds = _read("/proc/sys/net/ipv4/ping_group_range").split()
    if len(bounds) != 2:
        return False
    low, high = map(int, bounds)
    return any(low <= group <= high for group in {os.getegid(), *os.getgroups()})
