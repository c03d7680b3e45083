"""Network links of this network namespace, as the kernel describes them (rtnetlink(7)): kind, flags, owner, address.

Only the links that somebody names are asked for, so a host with hundreds of containers costs no more.  No library:
pyroute2 takes 0.1 s and 20 MB to import, and its blocking calls refuse to run inside an event loop.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path

from virlet.errors import SystemFailure
from virlet.plan.facts import Link

__all__ = ["link", "links"]

_NEWLINK, _GETLINK = 16, 18  # RTM_…
_ERROR, _REQUEST = 2, 1  # NLMSG_ERROR, NLM_F_REQUEST
_UP = 1  # IFF_UP
_ADDRESS, _IFNAME, _MTU, _LINKINFO = 1, 3, 4, 18  # IFLA_…
_KIND, _DATA = 1, 2  # IFLA_INFO_…
_OWNER, _GROUP, _TYPE, _VNET_HDR, _MULTI_QUEUE = 1, 2, 3, 5, 7  # IFLA_TUN_…
_TAP = 2  # IFF_TAP
_HEADER = struct.Struct("=IHHII")
_INFO = struct.Struct("=BxHiII")  # ifinfomsg
_ATTRIBUTE = struct.Struct("=HH")
_NESTED = 0x3FFF
_NAME_BYTES = 15  # IFNAMSIZ without its NUL

Attributes = Mapping[int, bytes]


def links(names: Iterable[str]) -> dict[str, Link]:
    """Those of *names* that exist; raises :class:`SystemFailure` where the kernel does not answer."""
    found = {}
    for name in dict.fromkeys(names):
        item = link(name)
        if item is not None:
            found[name] = item
    return found


def link(name: str) -> Link | None:
    """The link of that name; raises :class:`SystemFailure` where the kernel does not answer."""
    encoded = os.fsencode(name)
    if not 0 < len(encoded) <= _NAME_BYTES or b"\0" in encoded:
        return None
    try:
        data = _ask(encoded)
    except OSError as error:
        if error.errno == errno.ENODEV:
            return None
        raise SystemFailure.of(error, f"cannot ask the kernel about network link '{name}'") from error
    return _link(data)


def _ask(name: bytes) -> bytes:
    """The answer to RTM_GETLINK, its netlink header taken off."""
    attribute = _attribute(_IFNAME, name + b"\0")
    body = _INFO.pack(socket.AF_UNSPEC, 0, 0, 0, 0) + attribute
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as netlink:
        netlink.send(_HEADER.pack(_HEADER.size + len(body), _GETLINK, _REQUEST, 1, 0) + body)
        data = netlink.recv(1 << 16)
    length, kind, *_ = _HEADER.unpack_from(data)
    if kind == _ERROR:
        (code,) = struct.unpack_from("=i", data, _HEADER.size)
        raise OSError(-code, os.strerror(-code))
    if kind != _NEWLINK:
        raise OSError(errno.EBADMSG, os.strerror(errno.EBADMSG))
    return data[_HEADER.size : length]


def _attribute(kind: int, value: bytes) -> bytes:
    size = _ATTRIBUTE.size + len(value)
    return _ATTRIBUTE.pack(size, kind) + value + b"\0" * (-size % 4)


def _attributes(data: bytes) -> Attributes:
    found = {}
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        size, kind = _ATTRIBUTE.unpack_from(data, at)
        if size < _ATTRIBUTE.size:
            break
        found[kind & _NESTED] = data[at + _ATTRIBUTE.size : at + size]
        at += (size + 3) & ~3
    return found


def _link(data: bytes) -> Link:
    _, _, index, flags, _ = _INFO.unpack_from(data)
    said = _attributes(data[_INFO.size :])
    info = _attributes(said.get(_LINKINFO, b""))
    kind = info.get(_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    name = os.fsdecode(said.get(_IFNAME, b"").rstrip(b"\0"))
    tun = _attributes(info.get(_DATA, b"")) if kind == "tun" else {}
    node = f"/dev/tap{index}" if kind == "macvtap" else ""
    return Link(
        name=name,
        index=index,
        kind=kind,
        mac=said.get(_ADDRESS, b"").hex(":"),
        up=bool(flags & _UP),
        mtu=_number(said, _MTU) or 0,
        tap=_number(tun, _TYPE) == _TAP,
        owner=_number(tun, _OWNER),
        group=_number(tun, _GROUP),
        multi_queue=bool(_number(tun, _MULTI_QUEUE)) if _MULTI_QUEUE in tun else None,
        vnet_hdr=bool(_number(tun, _VNET_HDR)),
        node=node,
        node_errno=_why_closed(node) if node else 0,
        device=_device(name, index) if node else "",
    )


def _number(attributes: Attributes, kind: int) -> int | None:
    value = attributes.get(kind)
    return None if value is None else int.from_bytes(value, "little" if _LITTLE else "big")


_LITTLE = struct.pack("=H", 1) == b"\1\0"


def _why_closed(node: str) -> int:
    """The errno of opening it for reading and writing; 0 where it may be (it is not opened: that would use it)."""
    if os.access(node, os.R_OK | os.W_OK, effective_ids=True):
        return 0
    return errno.EACCES if os.path.lexists(node) else errno.ENOENT


def _device(name: str, index: int) -> str:
    """Device number of a macvtap's node, from sysfs where that shows our network namespace (it shows its mounter's)."""
    folder = Path("/sys/class/net") / name
    try:
        if (folder / "ifindex").read_text().strip() != str(index):
            return ""
        return (folder / f"tap{index}" / "dev").read_text().strip()
    except OSError:
        return ""
