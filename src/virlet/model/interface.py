"""The ``<interface>`` element: a guest's network card and what carries its frames."""

from __future__ import annotations

from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from virlet.enums import ErrorCode
from virlet.model.address import Address
from virlet.model.device import BootOrder, Rom, address, alias
from virlet.model.guest_forward import GuestForward
from virlet.model.namespaces import VIRLET
from virlet.model.passt import PasstOptions
from virlet.model.port_forward import PortForward
from virlet.xml.declare import Element, attr, child, element, many, raw
from virlet.xml.kinds import INT, IP, MAC, ON_OFF, POSITIVE, STR, UINT, YES_NO, enum, matching
from virlet.xml.raw import Raw

__all__ = [
    "AUTO_TARGETS",
    "BackendType",
    "Bandwidth",
    "DriverName",
    "Family",
    "ForcedBackend",
    "GuestOffloads",
    "HostOffloads",
    "Interface",
    "InterfaceBackend",
    "InterfaceDriver",
    "InterfaceIp",
    "InterfaceRoute",
    "InterfaceSource",
    "InterfaceType",
    "LinkState",
    "Rate",
    "SocketMode",
    "Teaming",
    "TeamingType",
    "TxMode",
]

AUTO_TARGETS = ("vnet", "vif", "macvtap", "macvlan")
"""Prefixes of device names that are made at start, and so do not belong in a definition."""


class InterfaceType(StrEnum):
    """What carries the frames."""

    USER = "user"
    ETHERNET = "ethernet"
    VHOSTUSER = "vhostuser"
    SERVER = "server"
    CLIENT = "client"
    MCAST = "mcast"
    NETWORK = "network"
    BRIDGE = "bridge"
    INTERNAL = "internal"
    DIRECT = "direct"
    HOSTDEV = "hostdev"
    UDP = "udp"
    VDPA = "vdpa"
    NULL = "null"
    VDS = "vds"


class BackendType(StrEnum):
    """Who moves the frames of a user network."""

    DEFAULT = "default"
    PASST = "passt"


class Family(StrEnum):
    """Address families, in libvirt's spelling."""

    IPV4 = "ipv4"
    IPV6 = "ipv6"


class LinkState(StrEnum):
    """Whether the cable is plugged in."""

    UP = "up"
    DOWN = "down"


class DriverName(StrEnum):
    """Where virtio queues are handled."""

    QEMU = "qemu"
    VHOST = "vhost"


class TxMode(StrEnum):
    """How QEMU handles transmission."""

    IOTHREAD = "iothread"
    TIMER = "timer"


class TeamingType(StrEnum):
    """Roles in a failover pair."""

    PERSISTENT = "persistent"
    TRANSIENT = "transient"


class SocketMode(StrEnum):
    """Which end of a socket QEMU is."""

    SERVER = "server"
    CLIENT = "client"


@element("ip")
class InterfaceIp(Element):
    """An address that the guest is offered."""

    address: IPv4Address | IPv6Address = attr(
        "@address",
        IP,
        doc="the address",
        wrong="Invalid address '{value}' in <ip>",
        missing="Missing required address in <ip>",
    )
    family: Family | None = attr("@family", enum(Family), default=None, doc="follows from the address; always printed")
    prefix: int | None = attr(
        "@prefix",
        UINT,
        default=None,
        doc="length of the network prefix",
        wrong="Invalid prefix value '{value}' in <ip>",
    )
    peer: str | None = attr("@peer", STR, default=None, doc="point-to-point peer; refused on user networks")


@element("route")
class InterfaceRoute(Element):
    """A route that the guest is offered."""

    family: Family | None = attr(
        "@family",
        enum(Family),
        default=None,
        doc="needed for an IPv6 gateway",
        wrong="guest interface: Unrecognized family '{value}' in route definition",
    )
    address: str | None = attr("@address", STR, default=None, doc="destination; refused with passt")
    netmask: str | None = attr("@netmask", STR, default=None, doc="destination mask; refused with passt")
    prefix: int | None = attr("@prefix", UINT, default=None, doc="destination prefix; refused with passt")
    gateway: IPv4Address | IPv6Address | None = attr(
        "@gateway",
        IP,
        default=None,
        doc="the next hop",
        wrong="guest interface: Bad gateway address '{value}' in route definition",
    )
    metric: int | None = attr("@metric", POSITIVE, default=None, doc="refused with passt")


@element("source")
class InterfaceSource(Element):
    """What the interface is connected to; which attributes mean something depends on the interface's type."""

    dev: str | None = attr("@dev", STR, default=None, doc="host interface (passt, direct)")
    bridge: str | None = attr("@bridge", STR, default=None, doc="bridge")
    network: str | None = attr("@network", STR, default=None, doc="virtual network")
    portgroup: str | None = attr("@portgroup", STR, default=None, doc="port group of the network")
    portid: str | None = attr("@portid", STR, default=None, live=True, doc="port of the network")
    name: str | None = attr("@name", STR, default=None, doc="name of an internal network")
    type: str | None = attr("@type", STR, default=None, doc="vhostuser: only 'unix'")
    path: str | None = attr("@path", STR, default=None, doc="vhostuser: path of the socket")
    mode: str | None = attr("@mode", STR, default=None, doc="vhostuser: server or client; direct: its mode")
    socket_address: str | None = attr("@address", STR, default=None, doc="socket types: address")
    port: int | None = attr("@port", INT, default=None, doc="socket types: port")
    local_address: str | None = attr("local/@address", STR, default=None, doc="udp: address to bind")
    local_port: int | None = attr("local/@port", INT, default=None, doc="udp: port to bind")
    reconnect: bool | None = attr("reconnect/@enabled", YES_NO, default=None, doc="vhostuser client: dial again")
    reconnect_timeout: int | None = attr("reconnect/@timeout", UINT, default=None, doc="seconds between dials")
    ips: tuple[InterfaceIp, ...] = many(InterfaceIp, default=(), doc="ethernet: addresses of the host side")
    routes: tuple[InterfaceRoute, ...] = many(InterfaceRoute, default=(), doc="ethernet: routes of the host side")
    addresses: Raw | None = raw("address", default=None, doc="hostdev: address of the host's device; kept")


@element("inbound")
class InboundRate(Element):
    """Limits of what the guest receives, in KiB/s and KiB."""

    average: int | None = attr("@average", UINT, default=None, doc="average, KiB/s")
    peak: int | None = attr("@peak", UINT, default=None, doc="peak, KiB/s")
    burst: int | None = attr("@burst", UINT, default=None, doc="amount at peak speed, KiB")
    floor: int | None = attr("@floor", UINT, default=None, doc="guaranteed, KiB/s; type network only")


@element("outbound")
class OutboundRate(Element):
    """Limits of what the guest sends, in KiB/s and KiB."""

    average: int | None = attr("@average", UINT, default=None, doc="average, KiB/s")
    peak: int | None = attr("@peak", UINT, default=None, doc="peak, KiB/s")
    burst: int | None = attr("@burst", UINT, default=None, doc="amount at peak speed, KiB")


Rate = InboundRate | OutboundRate


@element("bandwidth")
class Bandwidth(Element):
    """Limits of the traffic."""

    inbound: InboundRate | None = child(InboundRate, default=None, doc="to the guest")
    outbound: OutboundRate | None = child(OutboundRate, default=None, doc="from the guest")


@element("host")
class HostOffloads(Element):
    """Offloads that the host side of a virtio card offers."""

    csum: bool | None = attr("@csum", ON_OFF, default=None, doc="checksums")
    gso: bool | None = attr("@gso", ON_OFF, default=None, doc="generic segmentation")
    tso4: bool | None = attr("@tso4", ON_OFF, default=None, doc="TCP segmentation over IPv4")
    tso6: bool | None = attr("@tso6", ON_OFF, default=None, doc="TCP segmentation over IPv6")
    ecn: bool | None = attr("@ecn", ON_OFF, default=None, doc="segmentation with congestion notification")
    ufo: bool | None = attr("@ufo", ON_OFF, default=None, doc="UDP fragmentation")
    mrg_rxbuf: bool | None = attr("@mrg_rxbuf", ON_OFF, default=None, doc="merged receive buffers")


@element("guest")
class GuestOffloads(Element):
    """Offloads that the guest side of a virtio card may use."""

    csum: bool | None = attr("@csum", ON_OFF, default=None, doc="checksums")
    tso4: bool | None = attr("@tso4", ON_OFF, default=None, doc="TCP segmentation over IPv4")
    tso6: bool | None = attr("@tso6", ON_OFF, default=None, doc="TCP segmentation over IPv6")
    ecn: bool | None = attr("@ecn", ON_OFF, default=None, doc="segmentation with congestion notification")
    ufo: bool | None = attr("@ufo", ON_OFF, default=None, doc="UDP fragmentation")


@element("driver")
class InterfaceDriver(Element):
    """Options of a virtio card."""

    name: DriverName | None = attr("@name", enum(DriverName), default=None, doc="who handles the queues")
    txmode: TxMode | None = attr("@txmode", enum(TxMode), default=None, doc="how packets are sent")
    ioeventfd: bool | None = attr("@ioeventfd", ON_OFF, default=None, doc="notify outside the vCPU thread")
    event_idx: bool | None = attr("@event_idx", ON_OFF, default=None, doc="fewer notifications")
    queues: int | None = attr("@queues", UINT, default=None, doc="queue pairs; 0 and 1 are the same as absent")
    rx_queue_size: int | None = attr("@rx_queue_size", UINT, default=None, doc="entries, a power of two")
    tx_queue_size: int | None = attr("@tx_queue_size", UINT, default=None, doc="entries, a power of two")
    rss: bool | None = attr("@rss", ON_OFF, default=None, doc="receive-side scaling")
    rss_hash_report: bool | None = attr("@rss_hash_report", ON_OFF, default=None, doc="tell the guest the hash")
    iommu: bool | None = attr("@iommu", ON_OFF, default=None, doc="go through the emulated IOMMU")
    ats: bool | None = attr("@ats", ON_OFF, default=None, doc="address translation service")
    packed: bool | None = attr("@packed", ON_OFF, default=None, doc="packed virtqueues")
    page_per_vq: bool | None = attr("@page_per_vq", ON_OFF, default=None, doc="one notification page per queue")
    host: HostOffloads | None = child(HostOffloads, default=None, doc="offloads of the host side")
    guest: GuestOffloads | None = child(GuestOffloads, default=None, doc="offloads of the guest side")


@element("backend")
class InterfaceBackend(Element):
    """Who moves the frames."""

    type: BackendType | None = attr(
        "@type", enum(BackendType), default=None, hidden=BackendType.DEFAULT, doc="passt, or QEMU's own"
    )
    tap: str | None = attr("@tap", STR, default=None, doc="tap device path; kept")
    vhost: str | None = attr("@vhost", STR, default=None, doc="vhost device path; kept")
    upstream: str | None = attr("@upstream", STR, default=None, doc="the first form of source/@dev; read as that")
    log_file: str | None = attr("@logFile", STR, default=None, doc="where passt's messages go")
    hostname: str | None = attr("@hostname", STR, default=None, doc="host name offered by DHCP (passt)")
    fqdn: str | None = attr("@fqdn", STR, default=None, doc="full domain name offered by DHCP (passt)")


@element("backend", namespace=VIRLET, prefix="virlet")
class ForcedBackend(Element):
    """virlet's own: the network backend that has to carry the interface, where libvirt has no word for it."""

    name: str = attr(
        "@name",
        matching("name of a network backend", "[a-z0-9][a-z0-9-]*"),
        doc="passt, qemu-passt, slirp-helper, slirp, or one that another package brings; no other is tried",
    )
    fdgroup: str | None = attr(
        "@fdgroup", STR, default=None, doc="with name='socket': the group that a client has associated a connection by"
    )


@element("teaming")
class Teaming(Element):
    """Membership in a failover pair."""

    type: TeamingType | None = attr(
        "@type",
        enum(TeamingType),
        default=None,
        doc="role in the pair; without it the element is dropped",
        wrong="unknown teaming type '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    persistent: str | None = attr("@persistent", STR, default=None, doc="alias of the other one, for transient")


@element("interface")
class Interface(Element):
    """A network card."""

    type: InterfaceType = attr("@type", enum(InterfaceType), default=InterfaceType.USER, doc="what carries the frames")
    managed: bool | None = attr("@managed", YES_NO, default=None, doc="hostdev only; dropped elsewhere")
    trust_guest_rx_filters: bool | None = attr(
        "@trustGuestRxFilters", YES_NO, default=None, doc="let the guest change its filters and MAC address"
    )
    mac: str | None = attr("mac/@address", MAC, default=None, doc="MAC address; made at define when absent")
    mac_type: str | None = attr("mac/@type", matching("generated/static", "generated|static"), default=None, doc="kept")
    mac_check: bool | None = attr("mac/@check", YES_NO, default=None, doc="kept")
    mac_current: str | None = attr("mac/@currentAddress", MAC, default=None, live=True, doc="what the guest set")
    source: InterfaceSource | None = child(InterfaceSource, default=None, doc="what it is connected to")
    vlan: Raw | None = raw("vlan", default=None, doc="kept, refused on user types")
    virtualport: Raw | None = raw("virtualport", default=None, doc="kept, refused on user types")
    bandwidth: Bandwidth | None = child(Bandwidth, default=None, doc="limits of the traffic")
    isolated: bool | None = attr("port/@isolated", YES_NO, default=None, doc="keep away from other guests of a bridge")
    ips: tuple[InterfaceIp, ...] = many(InterfaceIp, default=(), doc="what the guest is offered: one IPv4, one IPv6")
    routes: tuple[InterfaceRoute, ...] = many(InterfaceRoute, default=(), doc="default routes (passt)")
    port_forwards: tuple[PortForward, ...] = many(
        PortForward, default=(), doc="host ports that reach the guest (passt)"
    )
    script: str | None = attr("script/@path", STR, default=None, doc="ethernet: run after the device was opened")
    downscript: str | None = attr("downscript/@path", STR, default=None, doc="ethernet: run after the guest stopped")
    backend_domain: str | None = attr("backenddomain/@name", STR, default=None, doc="Xen only; kept")
    target: str | None = attr("target/@dev", STR, default=None, doc="device on the host")
    target_managed: bool | None = attr(
        "target/@managed", YES_NO, default=None, doc="ethernet: no when somebody else made the device"
    )
    guest_dev: str | None = attr("guest/@dev", STR, default=None, doc="containers only; kept")
    model: str | None = attr(
        "model/@type",
        matching("model name", "[a-zA-Z0-9_-]+"),
        default=None,
        wrong="Model name contains invalid characters",
        code=ErrorCode.INVALID_ARG,
        doc="kind of card; rtl8139 when absent on x86",
    )
    driver: InterfaceDriver | None = child(InterfaceDriver, default=None, doc="options of virtio cards")
    backend: InterfaceBackend | None = child(InterfaceBackend, default=None, doc="who moves the frames")
    filterref: Raw | None = raw("filterref", default=None, doc="kept, refused at start: filters need root")
    sndbuf: int | None = attr("tune/sndbuf", UINT, default=None, doc="tap: send buffer, bytes")
    teaming: Teaming | None = child(Teaming, default=None, doc="failover pair")
    link_state: LinkState | None = attr(
        "link/@state",
        enum(LinkState),
        default=None,
        doc="down: the cable is out",
        wrong="unknown interface link state '{value}'",
        code=ErrorCode.CONFIG_UNSUPPORTED,
    )
    mtu: int | None = attr(
        "mtu/@size", UINT, default=None, doc="bytes; 0 is the same as absent", wrong="malformed mtu size"
    )
    coalesce_rx_frames: int | None = attr("coalesce/rx/frames/@max", UINT, default=None, doc="bridge and network only")
    boot: BootOrder | None = child(BootOrder, default=None, doc="place in the boot order")
    alias: str | None = alias()
    rom: Rom | None = child(Rom, default=None, doc="option ROM")
    acpi_index: int | None = attr("acpi/@index", POSITIVE, default=None, doc="predictable name in the guest (enoN)")
    address: Address | None = address()
    forced: ForcedBackend | None = child(ForcedBackend, default=None, doc="virlet's own: who has to carry it")
    passt: PasstOptions | None = child(PasstOptions, default=None, doc="virlet's own: what passt is told")
    guest_forwards: tuple[GuestForward, ...] = many(
        GuestForward, default=(), doc="virlet's own: addresses of the guest's network that lead to the host (slirp)"
    )

    @property
    def forced_backend(self) -> str | None:
        """The backend that the XML forces by virlet's own element, if any."""
        return None if self.forced is None else self.forced.name

    @property
    def is_virtio(self) -> bool:
        """Whether the model is one of virtio's."""
        return self.model in ("virtio", "virtio-transitional", "virtio-non-transitional")

    @property
    def wants_passt(self) -> bool:
        """Whether the XML asks for passt by name."""
        return self.backend is not None and self.backend.type is BackendType.PASST

    @property
    def needs_passt(self) -> bool:
        """Whether only a passt can do what the XML says, however it is connected."""
        return self.wants_passt or self.passt is not None

    @property
    def link_up(self) -> bool:
        """Whether the cable is plugged in; it is when nothing is said."""
        return self.link_state is not LinkState.DOWN
