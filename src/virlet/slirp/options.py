"""The command line of the helper, as values."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_address
from pathlib import Path
from typing import NoReturn

__all__ = ["FEATURES", "BadOption", "GuestForward", "HostForward", "Network", "Options", "parse_options"]

FEATURES = (
    "ipv4",
    "ipv6",
    "tftp",
    "restrict",
    "exit-with-parent",
    "exit-with-fd",
    "ready-fd",
    "mtu",
    "hostfwd",
    "hostfwd-ipv6",
    "guestfwd",
    "dns",
    "guest-mac",
    "set-ptracer",
)
"""Words of ``--print-capabilities``: those of libvirt's slirp-helper first, then ours."""

DEFAULT_MTU = 65_520
"""The largest that libslirp takes (65521) rounded to eight: what the guest may be told by ``host_mtu``."""
SMALLEST_MTU = 68

_NET4, _NET6 = IPv4Network("10.0.2.0/24"), IPv6Address("fec0::")

_FORWARD = re.compile(r"(tcp|udp):(\[[^\]]*\]|[^:\[\]]*):(\d+)-(\[[^\]]*\]|[^:\[\]]*):(\d+)")
_GUEST_FORWARD = re.compile(r"tcp:([^:]+):(\d+)-(cmd|unix|tcp):(.+)", re.DOTALL)


class BadOption(Exception):
    """What is wrong with the command line."""


@dataclass(frozen=True, slots=True)
class HostForward:
    """A host port that reaches the guest."""

    udp: bool
    host: IPv4Address | IPv6Address | None
    """None: every address of the host."""
    port: int
    guest: IPv4Address | IPv6Address | None
    """None: the address that the guest was given or shows."""
    to: int

    def __str__(self) -> str:
        where = "all addresses" if self.host is None else str(self.host)
        return f"{'UDP' if self.udp else 'TCP'} port {self.port} on {where}"


@dataclass(frozen=True, slots=True)
class GuestForward:
    """An address and port of the user network behind which something of the host's answers."""

    address: IPv4Address
    port: int
    kind: str
    """``cmd``, ``unix`` or ``tcp``."""
    target: str


@dataclass(frozen=True, slots=True)
class Network:
    """The addresses of the user network."""

    net: IPv4Network = _NET4
    host: IPv4Address | None = None
    dhcp_start: IPv4Address | None = None
    dns: IPv4Address | None = None
    prefix6: IPv6Address = _NET6
    prefix6_len: int = 64

    def address(self, part: int) -> IPv4Address:
        """The address whose host part is that of *part*, as in QEMU's defaults: 10.0.2.2, 10.0.2.3, 10.0.2.15."""
        mask = int(self.net.netmask)
        return IPv4Address(int(self.net.network_address) | part & ~mask & 0xFFFFFFFF)

    def address6(self, part: int) -> IPv6Address:
        """The address with interface identifier *part*."""
        return IPv6Address(int(self.prefix6) >> 64 << 64 | part)


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that was said."""

    fd: int
    network: Network = Network()
    ipv4: bool = True
    ipv6: bool = True
    restrict: bool = False
    hostname: str | None = None
    dns_suffixes: tuple[str, ...] = ()
    domainname: str | None = None
    tftp: Path | None = None
    bootfile: str | None = None
    tftp_server_name: str | None = None
    mtu: int = DEFAULT_MTU
    host_forwards: tuple[HostForward, ...] = ()
    guest_forwards: tuple[GuestForward, ...] = ()
    guest_mac: bytes | None = None
    exit_with_parent: bool = False
    exit_with_fd: int | None = None
    ready_fd: int | None = None


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise BadOption(message)


@cache
def parser() -> argparse.ArgumentParser:
    """What the helper understands."""
    made = _Parser(
        prog="virlet-slirp-helper",
        description="A user network for one guest, through libslirp, in a confined process beside QEMU.",
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--fd", type=int, help="datagram socket that carries the guest's Ethernet frames; QEMU has the other end")
    add("--net", metavar="A[/P]", help="IPv4 network of the guest (10.0.2.0/24)")
    add("--mask", help="its mask, when --net has no prefix")
    add("--host", help="address of the host in it (host part 2.2)")
    add("--dhcp-start", metavar="ADDRESS", help="first address that DHCP gives (host part 2.15)")
    add("--dns", metavar="ADDRESS", help="address of the nameserver in it (host part 2.3)")
    add("--net6", metavar="A[/P]", help="IPv6 network of the guest (fec0::/64)")
    add("--prefix-ipv6", metavar="A", help="the same, without a prefix length")
    add("--prefix-length-ipv6", type=int, metavar="P", help="its prefix length; libslirp knows 64 alone")
    add("--disable-ipv4", action="store_true", help="no IPv4")
    add("--disable-ipv6", action="store_true", help="no IPv6")
    add("--restrict", action="store_true", help="the guest reaches nothing but what is forwarded")
    add("--mtu", type=int, default=DEFAULT_MTU, help=f"largest packet, {SMALLEST_MTU} to {DEFAULT_MTU} (the default)")
    add("--hostname", help="name that DHCP gives the guest")
    add("--dns-suffixes", action="append", default=[], metavar="NAME", help="search domain; may be repeated")
    add("--domainname", help="domain that DHCP gives the guest")
    add("--tftp", type=Path, metavar="DIRECTORY", help="offer these files by TFTP")
    add("--bootfile", help="file that DHCP names for booting")
    add("--tftp-server-name", help="server that DHCP names for booting")
    add("--hostfwd", action="append", default=[], metavar="PROTO:[HOST]:PORT-[GUEST]:PORT", help="reach the guest")
    add("--guestfwd", action="append", default=[], metavar="tcp:ADDR:PORT-TARGET",
        help="answer there with cmd:COMMAND, unix:PATH or tcp:HOST:PORT")  # fmt: skip
    add("--guest-mac", metavar="MAC", help="the guest's: forwards of IPv6 reach it before it has said anything")
    add("--exit-with-parent", action="store_true", help="end when the process that started this one ends")
    add("--exit-with-fd", type=int, metavar="FD", help="end when the other end of this socket or pipe is closed")
    add("--ready-fd", type=int, metavar="FD", help="write READY=1 there once everything listens")
    add("--print-capabilities", action="store_true", help="say as JSON what this program can do, and end")
    return made


def parse_options(argv: Sequence[str]) -> Options | None:
    """The options; None for ``--print-capabilities``.  Raises :class:`BadOption`."""
    if lacking := next((word for word in argv if word.startswith("-") and word.partition("=")[2] == "--"), None):
        raise BadOption(f"{lacking}: '--' is no value")  # Python 3.11's argparse makes an empty list of it.
    said = parser().parse_args(argv)
    if said.print_capabilities:
        return None
    if said.fd is None:
        raise BadOption("--fd is missing")
    if not SMALLEST_MTU <= said.mtu <= DEFAULT_MTU:
        raise BadOption(f"--mtu {said.mtu}: use {SMALLEST_MTU} to {DEFAULT_MTU}")
    if said.disable_ipv4 and said.disable_ipv6:
        raise BadOption("--disable-ipv4 and --disable-ipv6 leave nothing")
    return Options(
        fd=said.fd,
        network=_network(said),
        ipv4=not said.disable_ipv4,
        ipv6=not said.disable_ipv6,
        restrict=said.restrict,
        hostname=said.hostname,
        dns_suffixes=tuple(said.dns_suffixes),
        domainname=said.domainname,
        tftp=said.tftp,
        bootfile=said.bootfile,
        tftp_server_name=said.tftp_server_name,
        mtu=said.mtu,
        host_forwards=tuple(map(host_forward, said.hostfwd)),
        guest_forwards=tuple(map(guest_forward, said.guestfwd)),
        guest_mac=None if said.guest_mac is None else _mac(said.guest_mac),
        exit_with_parent=said.exit_with_parent,
        exit_with_fd=said.exit_with_fd,
        ready_fd=said.ready_fd,
    )


def _network(said: argparse.Namespace) -> Network:
    default = Network()
    net, net6 = default.net, (default.prefix6, default.prefix6_len)
    if said.net is not None:
        address, slash, prefix = said.net.partition("/")
        mask = prefix if slash else said.mask if said.mask is not None else "24"
        try:
            net = IPv4Network(f"{address}/{mask}", strict=False)
        except ValueError as error:
            raise BadOption(f"--net {said.net}: {error}") from None
    elif said.mask is not None:
        raise BadOption("--mask without --net")
    text6 = said.net6 if said.net6 is not None else said.prefix_ipv6
    if text6 is not None:
        address, slash, prefix = text6.partition("/")
        length = said.prefix_length_ipv6 if not slash and said.prefix_length_ipv6 is not None else prefix or "64"
        net6 = (_six("--net6", address), _number("--net6", str(length)))
    if net6[1] != 64:
        raise BadOption(f"an IPv6 prefix length of {net6[1]}: libslirp knows 64 alone")
    return Network(
        net,
        _within("--host", said.host, net),
        _within("--dhcp-start", said.dhcp_start, net),
        _within("--dns", said.dns, net),
        *net6,
    )


def _number(option: str, text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise BadOption(f"{option}: '{text}' is no number")
    return int(text)


def _within(option: str, text: str | None, net: IPv4Network) -> IPv4Address | None:
    if text is None:
        return None
    address = _four(option, text)
    if address not in net:
        raise BadOption(f"{option} {address} is not in {net}")
    return address


def _four(option: str, text: str) -> IPv4Address:
    try:
        return IPv4Address(text)
    except ValueError:
        raise BadOption(f"{option}: '{text}' is no IPv4 address") from None


def _six(option: str, text: str) -> IPv6Address:
    try:
        return IPv6Address(text)
    except ValueError:
        raise BadOption(f"{option}: '{text}' is no IPv6 address") from None


def _mac(text: str) -> bytes:
    try:
        mac = bytes(int(part, 16) for part in text.split(":"))
    except ValueError:
        mac = b""
    if len(mac) != 6:
        raise BadOption(f"--guest-mac: '{text}' is no MAC address")
    return mac


def _port(option: str, text: str) -> int:
    port = _number(option, text)
    if not 1 <= port <= 65_535:
        raise BadOption(f"{option}: there is no port {text}")
    return port


def host_forward(text: str) -> HostForward:
    """``tcp:127.0.0.1:2022-:22``, ``udp:[::1]:53-:53``; raises :class:`BadOption`."""
    option = f"--hostfwd {text}"
    match = _FORWARD.fullmatch(text)
    if match is None:
        raise BadOption(f"{option}: use PROTO:[HOSTADDRESS]:PORT-[GUESTADDRESS]:PORT, IPv6 addresses in brackets")
    proto, host_text, port, guest_text, to = match.groups()
    host, guest = _address(option, host_text), _address(option, guest_text)
    if host is not None and guest is not None and host.version != guest.version:
        raise BadOption(f"{option}: both addresses must be of one family, libslirp does not translate")
    if host is None and isinstance(guest, IPv6Address):
        host = IPv6Address("::")
    if host is None and guest is not None:
        host = IPv4Address("0.0.0.0")
    return HostForward(proto == "udp", host, _port(option, port), guest, _port(option, to))


def _address(option: str, text: str) -> IPv4Address | IPv6Address | None:
    if not text or text == "[]":
        return None
    bracketed = text.startswith("[")
    try:
        address = ip_address(text.strip("[]"))
    except ValueError:
        raise BadOption(f"{option}: '{text}' is no address") from None
    if bracketed != (address.version == 6):
        raise BadOption(f"{option}: '{text}': IPv6 addresses, and only they, stand in brackets")
    return address


def guest_forward(text: str) -> GuestForward:
    """``tcp:10.0.2.100:80-unix:/run/web.sock``; raises :class:`BadOption`."""
    option = f"--guestfwd {text}"
    match = _GUEST_FORWARD.fullmatch(text)
    if match is None:
        raise BadOption(f"{option}: use tcp:ADDRESS:PORT-cmd:COMMAND, -unix:PATH or -tcp:HOST:PORT")
    address, port, kind, target = match.groups()
    if kind == "unix" and not target.startswith("/"):
        raise BadOption(f"{option}: '{target}' is not an absolute path")
    if kind == "tcp":
        host, _, to = target.rpartition(":")
        if _address(option, host) is None:
            raise BadOption(f"{option}: an address is missing")
        _port(option, to)
    return GuestForward(_four(option, address), _port(option, port), kind, target)
