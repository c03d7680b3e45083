"""What is known about this host, its QEMUs and its passt.  Plain values: gathering them is ``virlet.engine.facts``.

Facts are what a program said it can do (QEMU's schema, passt's option list, a tried KVM), never a version compared.
Versions are kept for people to read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from virlet.plan.follow import Uplinks

__all__ = [
    "CpuModel",
    "Facts",
    "HostFacts",
    "Link",
    "MachineType",
    "PasstFacts",
    "QemuFacts",
    "SecurityFacts",
    "SlirpHelperFacts",
    "Support",
    "Topology",
]


@dataclass(frozen=True, slots=True)
class Support:
    """Whether something can be had here, and why not."""

    ok: bool
    reason: str = ""
    """What was found: for a "no" the cause, for a "yes" possibly how it was tried."""
    hint: str | None = None
    """What the user can do about a "no"."""
    waits_for: str = ""
    """For a "no" that ends by itself: what has to come, as ``a default route``; whoever asks for it by name waits."""

    def __bool__(self) -> bool:
        return self.ok


@dataclass(frozen=True, slots=True)
class MachineType:
    """One board of a QEMU (``query-machines``)."""

    name: str
    """The versioned name, as ``pc-q35-7.2``."""
    max_cpus: int
    alias: str | None = None
    """The short name that means this board in this QEMU, as ``q35``."""
    default: bool = False
    deprecated: bool = False
    hotpluggable_cpus: bool = False
    numa_memory: bool = False
    default_cpu: str | None = None
    """The CPU's QOM type, as ``qemu64-x86_64-cpu``."""
    default_ram_id: str | None = None
    acpi: bool | None = None
    """``None`` where this QEMU does not say (before 8.2)."""


@dataclass(frozen=True, slots=True)
class CpuModel:
    """One CPU model of a QEMU (``query-cpu-definitions``)."""

    name: str
    usable: bool
    """Nothing is missing for it under TCG on this host."""
    missing: frozenset[str] = frozenset()
    """The features that this host and the TCG accelerator do not have."""
    deprecated: bool = False
    migration_safe: bool = False
    static: bool = False


@dataclass(frozen=True, slots=True)
class QemuFacts:
    """What one QEMU program can do, as it said itself over QMP."""

    path: str
    arch: str
    """The target's libvirt name, as ``x86_64`` (``query-target``)."""
    version: tuple[int, int, int]
    """To be shown, not to be compared."""
    package: str = ""
    machines: Mapping[str, MachineType] = field(default_factory=dict)
    """By versioned name."""
    types: frozenset[str] = frozenset()
    """Every QOM type that can be made: devices, objects, CPUs, accelerators (``qom-list-types``)."""
    devices: frozenset[str] = frozenset()
    """The types that ``-device`` and ``device_add`` accept by name."""
    objects: frozenset[str] = frozenset()
    """The types that ``-object`` and ``object-add`` accept."""
    netdevs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Netdev type → its members (``netdev_add`` in ``query-qmp-schema``): ``{"stream": {"addr", "server", …}}``."""
    chardevs: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Chardev backend → its members (``chardev-add``)."""
    blockdevs: frozenset[str] = frozenset()
    """Block drivers (``blockdev-add``)."""
    commands: frozenset[str] = frozenset()
    events: frozenset[str] = frozenset()
    options: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Command-line options with parameters → parameter names (``query-command-line-options``), without dashes."""
    accels: frozenset[str] = frozenset()
    """Accelerators built in: ``tcg``, ``kvm``.  Whether KVM works is :attr:`HostFacts.kvm`."""
    cpus: Mapping[str, CpuModel] = field(default_factory=dict)

    @property
    def version_text(self) -> str:
        """``7.2.22``."""
        return ".".join(map(str, self.version))

    @property
    def version_number(self) -> int:
        """libvirt's form: major × 1 000 000 + minor × 1000 + micro."""
        major, minor, micro = self.version
        return major * 1_000_000 + minor * 1000 + micro

    @property
    def sandbox(self) -> bool:
        """``-sandbox`` is built in."""
        return "sandbox" in self.options

    @property
    def stream(self) -> bool:
        """``-netdev stream`` exists (7.2)."""
        return "stream" in self.netdevs

    @property
    def stream_reconnect(self) -> bool:
        """``-netdev stream`` takes ``reconnect`` in seconds (8.0)."""
        return "reconnect" in self.netdevs.get("stream", ())

    @property
    def stream_reconnect_ms(self) -> bool:
        """``-netdev stream`` takes ``reconnect-ms`` (9.2)."""
        return "reconnect-ms" in self.netdevs.get("stream", ())

    @property
    def monitor_object(self) -> bool:
        """``-object monitor-qmp`` exists (11.1, where ``-mon`` is deprecated)."""
        return "monitor-qmp" in self.objects

    @property
    def default_machine(self) -> MachineType | None:
        """The board that QEMU takes when none is named; some targets have none."""
        return next((board for board in self.machines.values() if board.default), None)

    def machine(self, name: str) -> MachineType | None:
        """The board of that versioned name or alias."""
        found = self.machines.get(name)
        if found is not None:
            return found
        return next((board for board in self.machines.values() if board.alias == name), None)

    def has_device(self, name: str) -> bool:
        """``-device NAME`` exists."""
        return name in self.devices


@dataclass(frozen=True, slots=True)
class PasstFacts:
    """What the passt of this host can do, and whether it may run here."""

    path: str
    options: frozenset[str]
    """Long options of ``--help``, without dashes: ``{"fd", "foreground", "vhost-user", …}``."""
    may_run: Support
    """The answer of a real start, with an address and a gateway given.  A "no" has passt's own words as reason."""
    needs_route: bool = False
    """It refuses to start where the host has no route, even with an address and a gateway given (2023)."""
    link_needs_address: bool = False
    """It takes no forward that is bound to a link alone, ``%lo/80``, without an address (2023)."""
    prefix_in_address: bool = False
    """``--address ADDR/PREFIX`` is understood (2026)."""
    version: str = ""
    """First line of ``--version``, to be shown."""

    def knows(self, option: str) -> bool:
        """Whether ``--OPTION`` exists (name without dashes)."""
        return option in self.options


@dataclass(frozen=True, slots=True)
class Topology:
    """Online CPUs: ``nodes × sockets × cores × threads``, as libvirt's node information counts (sockets per node)."""

    nodes: int = 1
    sockets: int = 1
    cores: int = 1
    threads: int = 1


@dataclass(frozen=True, slots=True)
class HostFacts:
    """The machine that we run on."""

    arch: str
    """``x86_64``, ``aarch64``, …"""
    hostname: str
    machine_id: str
    """32 hexadecimal digits of ``/etc/machine-id``; empty where there is none."""
    uuid: str
    """The host's UUID for ``<capabilities>``: made of the machine id."""
    boot_id: str
    uid: int
    gid: int
    memory_kib: int
    cpus: int
    """Online logical CPUs."""
    topology: Topology = Topology()
    cpu_model: str = ""
    cpu_vendor: str = ""
    cpu_mhz: int = 0
    """0 where unknown."""
    kvm: Support = Support(False, "not tried")
    """KVM was tried by running guest code."""
    uplinks: Uplinks = field(default_factory=Uplinks)
    """The default routes."""
    interfaces: frozenset[str] = frozenset()
    """Names of the network links."""
    open_files: int = 0
    """How many files a process may have open at most (the hard RLIMIT_NOFILE); 0 where unknown."""
    unprivileged_port_start: int = 1024
    """The lowest port that anybody may bind (``net.ipv4.ip_unprivileged_port_start``)."""
    may_ping: bool = False
    """One of our groups is inside ``net.ipv4.ping_group_range``, so guests on passt can ping."""
    vhost_net: bool = False
    """``/dev/vhost-net`` can be opened."""
    groups: frozenset[int] = frozenset()
    """Every group that we are in."""
    bridge_helper: str = ""
    """Path of qemu-bridge-helper; empty where there is none."""
    bridge_helper_may: Support = Support(False, "not looked at")
    """It has the right to make tap devices."""
    landlock: Support = Support(False, "not looked at")
    """A QEMU can be confined to its guest's files, and is to be."""
    share_memory: bool = False
    """The user's configuration shares the memory of guests whose network gains by it."""
    nameservers: tuple[str, ...] = ()
    """Addresses of the host's resolvers, in order (``/etc/resolv.conf``); empty where unknown."""


@dataclass(frozen=True, slots=True)
class Link:
    """A network link of this network namespace that an interface names, as the kernel describes it (rtnetlink(7))."""

    name: str
    index: int
    """Its number in this namespace; other namespaces use the same numbers for links of theirs."""
    kind: str
    """``tun``, ``macvtap``, ``bridge``, ``veth``, …; empty for hardware and loopback."""
    mac: str
    up: bool
    """``IFF_UP``: an administrator has set it up."""
    mtu: int
    tap: bool = False
    """A tun device that carries Ethernet frames."""
    owner: int | None = None
    """The uid that may open a tap; everybody where neither owner nor group is set."""
    group: int | None = None
    multi_queue: bool | None = None
    """``None`` where the kernel does not say."""
    vnet_hdr: bool = False
    node: str = ""
    """macvtap: the device's file, ``/dev/tap7``."""
    node_errno: int = 0
    """macvtap: why that cannot be opened for reading and writing."""
    device: str = ""
    """macvtap: major and minor number that the node must have, ``246:1``; empty where sysfs does not show it."""


@dataclass(frozen=True, slots=True)
class SlirpHelperFacts:
    """The user network that runs beside QEMU: virlet's own program around libslirp, or one configured in its place."""

    command: tuple[str, ...]
    """The program, and the words that every call of it begins with."""
    may_run: Support
    """It said what it can do; a "no" has its own words as reason, as where libslirp is missing."""
    features: frozenset[str] = frozenset()
    """The words of ``--print-capabilities``."""
    libslirp: str = ""
    """Version of the library, to be shown."""

    def knows(self, feature: str) -> bool:
        """Whether ``--print-capabilities`` lists *feature*."""
        return feature in self.features


@dataclass(frozen=True, slots=True)
class SecurityFacts:
    """Read from ``/sys/kernel/security``, ``/proc/sys`` and ``/etc``."""

    modules: tuple[str, ...] = ()
    """Linux security modules in force, in the kernel's order; empty also where the kernel does not show them."""
    apparmor: bool = False
    """AppArmor is in force."""
    passt_profile: str = ""
    """AppArmor's profile for passt; empty where none is installed."""
    userns_by_profile: bool = False
    """AppArmor lets only programs make user namespaces whose profile says so (Ubuntu 23.10 and later)."""
    userns_most: int | None = None
    """``user.max_user_namespaces``; None where the kernel does not show it."""
    userns_clone: bool = True
    """``kernel.unprivileged_userns_clone``, a switch of Debian's and of hardened kernels."""
    selinux: str = ""
    """``enforcing``, ``permissive``, or empty where SELinux is not in force."""
    passt_policy: bool = False
    """A policy module for passt is installed."""
    ptrace_scope: int = 0
    """``kernel.yama.ptrace_scope``: 1 lets ancestors alone trace, and who is allowed to; 2 root alone; 3 nobody."""


@dataclass(frozen=True, slots=True)
class Facts:
    """All that a plan may know about the world."""

    host: HostFacts
    qemu: Mapping[str, QemuFacts] = field(default_factory=dict)
    """By emulator path."""
    passt: PasstFacts | None = None
    """``None`` where passt is not installed."""
    slirp_helper: SlirpHelperFacts | None = None
    """``None`` where nobody asked."""
    given: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Descriptors that clients have given for the domain in question, by group: ``stream``, ``datagram``, or what each
    is instead."""
    links: Mapping[str, Link] = field(default_factory=dict)
    """The links that the domain in question names, by name; one that is missing does not exist."""

    security: SecurityFacts = SecurityFacts()
    passts: Mapping[str, PasstFacts] = field(default_factory=dict)
    """Other programs that interfaces name (``<virlet:passt path=…>``), by path."""

    def with_passt(self, path: str | None) -> Facts:
        """The same for an interface that names the passt at *path*; None for the host's."""
        if path is None or (self.passt is not None and self.passt.path == path):
            return self
        unknown = PasstFacts(path, frozenset(), Support(False, f"nobody has looked at '{path}' yet"))
        return replace(self, passt=self.passts.get(path, unknown))

    def emulator(self, arch: str) -> QemuFacts | None:
        """The first QEMU found for that architecture."""
        return next((qemu for qemu in self.qemu.values() if qemu.arch == arch), None)

    def kvm_for(self, qemu: QemuFacts) -> bool:
        """Whether *qemu* can use the host's KVM, if that works: it runs guests of the host's architecture, and i686."""
        native = {"x86_64": ("x86_64", "i686")}.get(self.host.arch, (self.host.arch,))
        return "kvm" in qemu.accels and qemu.arch in native
